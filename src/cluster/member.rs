//! A node under Patroni: the Patroni that runs it, and its PostgreSQL.
//!
//! ```text
//! <name>-<number>/   0700, the servers' user's
//!   patroni.yml      everything that Patroni is told, the passwords too: 0600
//!   data/  run/      the data directory; the unix socket
//!   passfile         what a standby proves itself with to the primary
//!   server.crt .key  the node's certificate, if it has one
//!   log              what PostgreSQL says, and the programs that Patroni runs
//!   patroni.log      what Patroni says
//! ```

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::account::Account;
use super::builder::free_port;
use super::data::check_socket_path;
use super::error::{Doing as _, Error};
use super::etcd::{self, Etcd};
use super::http;
use super::manager::HaManager;
use super::patroni::{PatroniSettings, port_in, private, remove};
use super::program::Program;
use super::server;

/// What Patroni's log may take, in bytes, and as much again for the one before.
const MAX_LOG: u32 = 4 * 1024 * 1024;
/// Who gives orders to Patroni, where it takes a password for them.
pub const PATRONI_USER: &str = "postern";

/// A node and its Patroni.
#[derive(Debug)]
pub struct Member {
    name: String,
    port: u16,
    rest_port: u16,
    data: PathBuf,
    program: Program,
}

impl Member {
    /// Writes down what a new node is to be.
    pub(super) fn create(
        manager: &HaManager,
        cluster: &Path,
        settings: &PatroniSettings,
        number: u32,
        etcd: u16,
    ) -> Result<Self, Error> {
        let account = Account::for_servers()?;
        let directory = cluster.join(format!("{}-{number}", settings.name));
        let sockets = directory.join("run");
        check_socket_path(&sockets)?;
        fs::create_dir_all(&sockets).doing("making", &sockets)?;
        account.give(&directory)?;
        account.give(&sockets)?;
        if let Some(tls) = &settings.tls {
            private(&directory.join("server.crt"), &tls.certificate, account)?;
            private(&directory.join("server.key"), tls.key.expose(), account)?;
        }
        let text = configuration(settings, &directory, etcd).to_string();
        private(&directory.join("patroni.yml"), &text, account)?;
        Self::open(manager, &directory)
    }

    /// The nodes that were made in a cluster's directory.
    pub(super) fn all_in(manager: &HaManager, cluster: &Path) -> Result<Vec<Self>, Error> {
        let found = fs::read_dir(cluster).doing("reading", cluster)?.flatten();
        let directories = found.map(|entry| entry.path());
        let mut nodes: Vec<_> =
            directories.filter(|directory| directory.join("patroni.yml").is_file()).collect();
        nodes.sort();
        nodes.iter().map(|directory| Self::open(manager, directory)).collect()
    }

    fn open(manager: &HaManager, directory: &Path) -> Result<Self, Error> {
        let file = directory.join("patroni.yml");
        let text = fs::read_to_string(&file).doing("reading", &file)?;
        let ports =
            port_in(&text, &["postgresql", "listen"]).zip(port_in(&text, &["restapi", "listen"]));
        let (port, rest_port) = ports.ok_or_else(|| Error::Unreadable { file: file.clone() })?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let argv = [manager.patroni().into(), file.into()];
        let mut program = Program::new(argv.into(), directory, Account::for_servers()?);
        let data = directory.join("data");
        program.data = Some(data.clone());
        Ok(Self { name, port, rest_port, data, program })
    }

    /// What Patroni calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its PostgreSQL is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its Patroni is.
    #[must_use]
    pub fn rest_api(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.rest_port).into()
    }

    /// The directory of its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.program.directory
    }

    /// Starts its Patroni, unless it runs. Waits for nothing.
    pub fn start(&self, etcd: &Etcd) -> Result<(), Error> {
        self.remove_half_a_copy()?;
        self.program.start(Some(etcd.program()), None)
    }

    /// Starts its Patroni again if it has died.
    pub(super) fn revive(&self) -> Result<(), Error> {
        if self.is_due() {
            self.remove_half_a_copy()?;
        }
        self.program.revive()
    }

    /// `pg_control` is copied last: a base backup that was cut off has none, and
    /// Patroni would leave it to somebody to remove it.
    fn remove_half_a_copy(&self) -> Result<(), Error> {
        let is_whole = self.data.join("global/pg_control").is_file();
        if is_whole || self.program.pid().is_some() { Ok(()) } else { remove(&self.data) }
    }

    /// Stops its PostgreSQL and its Patroni.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Whether its Patroni should run and does not.
    pub(super) fn has_died(&self) -> bool {
        self.program.has_died()
    }

    /// Whether its Patroni is to be started again.
    pub(super) fn is_due(&self) -> bool {
        self.program.is_due()
    }

    pub(super) fn last_words(&self) -> String {
        let log = fs::read(self.directory().join("patroni.log")).unwrap_or_default();
        let said = super::data::last_lines(&String::from_utf8_lossy(&log));
        format!("{said}\n{}", self.program.last_words())
    }

    /// Signals its Patroni, its postmaster and the backends: `KILL` is the end
    /// of its host, `STOP` a host that hangs.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let postmaster = self.postmaster();
        let mut all: Vec<u32> = self.program.pid().into_iter().chain(postmaster).collect();
        all.extend(postmaster.map(server::children_of).transpose()?.unwrap_or_default());
        server::signal_each(&all, signal)
    }

    /// Kills its Patroni alone; its PostgreSQL goes on.
    pub fn kill_patroni(&self) -> Result<(), Error> {
        self.program.signal(Signal::KILL)
    }

    /// The process id of its postmaster, while it runs.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.parse().ok()?;
        // What a crash left behind may name another process by now.
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (works_in == fs::canonicalize(&self.data).ok()?).then_some(pid)
    }

    /// Whether it is the primary, as its Patroni says.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(http::get(self.rest_port, "/primary"), Ok(200))
    }

    /// Whether it is a standby that commits wait for, as its Patroni says.
    #[must_use]
    pub fn has_everything(&self) -> bool {
        matches!(http::get(self.rest_port, "/sync"), Ok(200))
    }

    /// Whether it is a standby that runs, as its Patroni says.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(http::get(self.rest_port, "/replica"), Ok(200))
    }
}

/// JSON, which is YAML too and knows what to quote.
fn configuration(settings: &PatroniSettings, directory: &Path, etcd: u16) -> Value {
    let rest = format!("127.0.0.1:{}", free_port());
    let mut configuration = json!({
        "scope": settings.name,
        "name": directory.file_name().unwrap_or_default().to_string_lossy(),
        "log": { "dir": directory, "file_num": 1, "file_size": MAX_LOG },
        "restapi": { "listen": rest, "connect_address": rest },
        "etcd3": { "host": format!("127.0.0.1:{etcd}") },
        "watchdog": { "mode": "off" },
        "bootstrap": {
            "dcs": cluster_wide(settings),
            "initdb": ["data-checksums", { "encoding": "UTF8" }, { "locale": "C.UTF-8" },
                       { "auth": "scram-sha-256" }],
        },
        "postgresql": postgresql(settings, directory),
    });
    if let Some(password) = &settings.passwords.rest_api {
        configuration["restapi"]["authentication"] = login(PATRONI_USER, password.expose());
    }
    if let Some(password) = &settings.passwords.etcd {
        configuration["etcd3"]["username"] = etcd::ROOT.into();
        configuration["etcd3"]["password"] = password.expose().as_str().into();
    }
    configuration
}

/// What Patroni keeps in etcd. PostgreSQL demands of some of these settings that
/// a standby has at least what its primary has.
fn cluster_wide(settings: &PatroniSettings) -> Value {
    let timings = settings.timings;
    let mut parameters = parameters(&settings.parameters);
    parameters.insert("wal_log_hints".to_owned(), "on".into());
    json!({
        "ttl": timings.ttl,
        "loop_wait": timings.loop_wait,
        "retry_timeout": timings.retry_timeout,
        "synchronous_mode": settings.synchronous,
        "failsafe_mode": settings.failsafe,
        // A standby that has everything is there sooner than a primary that
        // must recover; one that may lack something had better wait.
        "primary_start_timeout": if settings.synchronous { 0 } else { 300 },
        "postgresql": { "use_pg_rewind": true, "parameters": parameters },
    })
}

fn postgresql(settings: &PatroniSettings, directory: &Path) -> Value {
    let listen = format!("127.0.0.1:{}", free_port());
    let passwords = &settings.passwords;
    let mut own = parameters(&[
        ("unix_socket_directories".to_owned(), directory.join("run").display().to_string()),
        ("password_encryption".to_owned(), "scram-sha-256".to_owned()),
        ("log_line_prefix".to_owned(), "%m [%p] %q%u@%d ".to_owned()),
        ("fsync".to_owned(), if settings.durable { "on" } else { "off" }.to_owned()),
    ]);
    let mut superuser = login(super::SUPERUSER, passwords.superuser.expose());
    let mut replication = login("replicator", passwords.replication.expose());
    if settings.tls.is_some() {
        own.insert("ssl".to_owned(), "on".into());
        for (setting, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
            own.insert(setting.to_owned(), json!(directory.join(file)));
        }
        let authority = directory.with_file_name("ca.crt");
        for login in [&mut superuser, &mut replication] {
            login["sslmode"] = "verify-full".into();
            login["sslrootcert"] = json!(authority);
        }
    }
    json!({
        "listen": listen,
        "connect_address": listen,
        "data_dir": directory.join("data"),
        "bin_dir": settings.installation.bin_dir(),
        "pgpass": directory.join("passfile"),
        "authentication": { "superuser": superuser, "replication": replication },
        "parameters": own,
        "pg_hba": [
            "local all all scram-sha-256",
            "host all all 127.0.0.0/8 scram-sha-256",
            "host replication all 127.0.0.0/8 scram-sha-256",
        ],
        // A node that cannot be rewound is made anew from the primary.
        "remove_data_directory_on_rewind_failure": true,
        "remove_data_directory_on_diverged_timelines": true,
    })
}

fn login(user: &str, password: &str) -> Value {
    json!({ "username": user, "password": password })
}

fn parameters(settings: &[(String, String)]) -> Map<String, Value> {
    settings.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

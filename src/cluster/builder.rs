//! The recipe of a cluster.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::Secret;

use super::account::Account;
use super::data::{Configuration, Initdb, Layout, NodeCertificate};
use super::error::Error;
use super::guardian::{Duty, Guardian};
use super::installation::Installation;
use super::lock;
use super::port;
use super::server::Arguments;
use super::{Cluster, Running};

/// How often a port that was free a moment ago may turn out to be taken.
const PORT_TRIES: u32 = 5;

/// How a cluster is to be made; [`Builder::start`] makes it.
///
/// Unless told otherwise: superuser `postgres` with a random password, a free
/// port on 127.0.0.1, no TLS, a durable data directory that is temporary.
#[derive(Clone, Debug)]
#[must_use = "nothing is made before start()"]
pub struct Builder {
    installation: Installation,
    superuser: String,
    password: Secret<String>,
    port: u16,
    directory: Option<PathBuf>,
    configuration: Configuration,
    /// Each the database to run it in and the SQL.
    setup: Vec<(String, String)>,
    ready_within: Duration,
}

impl Builder {
    pub(super) fn new(installation: Installation) -> Self {
        Self {
            installation,
            superuser: super::SUPERUSER.into(),
            password: Secret::new(random_password()),
            port: 0,
            directory: None,
            configuration: Configuration { durable: true, ..Configuration::default() },
            setup: Vec::new(),
            ready_within: Duration::from_secs(60),
        }
    }

    /// The name of the superuser that `initdb` makes.
    pub fn superuser(mut self, name: impl Into<String>) -> Self {
        self.superuser = name.into();
        self
    }

    /// The superuser's password.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Secret::new(password.into());
        self
    }

    /// The port; 0 picks a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Listens on `::1` as well as on 127.0.0.1.
    pub fn ipv6(mut self) -> Self {
        self.configuration.ipv6 = true;
        self
    }

    /// Keeps the cluster in this directory, which must be empty or absent and
    /// stays when the cluster is dropped.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Whether committed data survive a crash of the host; tests need not pay for that.
    pub fn durable(mut self, durable: bool) -> Self {
        self.configuration.durable = durable;
        self
    }

    /// The server's `max_connections`.
    pub fn max_connections(self, count: u32) -> Self {
        self.setting("max_connections", count.to_string())
    }

    /// A setting for postgresql.conf, the value unquoted; the last one of a name counts.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configuration.settings.push((name.into(), value.into()));
        self
    }

    /// A line for `pg_hba.conf`, before those that let everybody in with a password.
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.configuration.hba.push(line.into());
        self
    }

    /// Turns TLS on with a certificate (chain) and its key, both the text of PEM files.
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        let (certificate, key) = (certificate.into(), Secret::new(key.into()));
        self.configuration.certificate = Some(NodeCertificate { certificate, key });
        self
    }

    /// Makes a database after the start. Databases and SQL come in the order given.
    pub fn database(self, name: &str) -> Self {
        let name = name.replace('"', "\"\"");
        self.sql("postgres", format!("CREATE DATABASE \"{name}\""))
    }

    /// Runs SQL in a database after the start, as superuser, each statement in
    /// its own transaction.
    pub fn sql(mut self, database: impl Into<String>, sql: impl Into<String>) -> Self {
        self.setup.push((database.into(), sql.into()));
        self
    }

    /// How long a start may take; a crash recovery counts in.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }

    /// Makes the cluster, starts its server and runs the SQL.
    pub fn start(self) -> Result<Cluster, Error> {
        if self.configuration.certificate.is_some() && !self.installation.has_tls() {
            return Err(Error::NoTls { bin: self.installation.bin_dir().to_owned() });
        }
        let account = Account::for_servers()?;
        let layout = Layout::create(self.directory.as_deref(), account)?;
        let mut guardian = self.guardian(&layout, account)?;
        self.initdb().run(&layout, &mut guardian)?;
        self.configuration.write(&layout)?;
        let setup = self.setup.clone();
        let cluster = self.into_cluster(layout, guardian).start_on_a_port()?;
        setup.iter().try_for_each(|(database, sql)| cluster.psql_in(database, sql).map(drop))?;
        Ok(cluster)
    }

    /// Starts the server of a cluster that was made in this directory before,
    /// by this process or another one, as it was configured then. Waits until
    /// nothing of that one is at work there any more.
    pub fn open(self) -> Result<Cluster, Error> {
        let account = Account::for_servers()?;
        let directory = self.directory.clone().unwrap_or_default();
        let layout = Layout::existing(&directory, account)?;
        let guardian = self.guardian(&layout, account)?;
        self.into_cluster(layout, guardian).start_on_a_port()
    }

    /// It has a directory that stays to itself, once nothing of an earlier
    /// process is at work there.
    fn guardian(&self, layout: &Layout, account: Account) -> Result<Guardian, Error> {
        let lock = self.directory.as_deref().map(lock::acquire).transpose()?;
        let duty = Duty { lock, ..Duty::postmaster(layout.temporary()) };
        Guardian::start(duty, account)
    }

    fn initdb(&self) -> Initdb<'_> {
        Initdb {
            installation: &self.installation,
            superuser: &self.superuser,
            password: self.password.expose(),
            durable: self.configuration.durable,
        }
    }

    fn into_cluster(self, layout: Layout, guardian: Guardian) -> Cluster {
        Cluster {
            superuser: self.superuser,
            password: self.password,
            arguments: Arguments { installation: self.installation, port: self.port },
            ready_within: self.ready_within,
            running: Mutex::new(Running { server: None, guardian }),
            layout,
        }
    }
}

impl Cluster {
    /// The first start, which settles the port.
    pub(super) fn start_on_a_port(mut self) -> Result<Self, Error> {
        if self.arguments.port != 0 {
            return self.start().map(|()| self);
        }
        let mut tries = 1;
        loop {
            self.arguments.port = port::pick(random_u16);
            match self.start() {
                Err(Error::PortTaken { .. }) if tries < PORT_TRIES => tries += 1,
                started => return started.map(|()| self),
            }
        }
    }
}

/// 128 random bits, in hexadecimal: needs no quoting anywhere.
fn random_password() -> String {
    format!("{:032x}", u128::from_ne_bytes(random()))
}

/// A port that nobody listened on a moment ago.
pub(super) fn free_port() -> u16 {
    port::pick(random_u16)
}

fn random_u16() -> u16 {
    u16::from_ne_bytes(random())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

//! Streaming replication between servers of this host: what makes a server a
//! standby, and a standby a primary.
//!
//! ```text
//! primary ── standby() ─▶ standby ── promote() ─▶ primary
//!    │ crash(), stop()                               │
//!    └─ start(): as it was, two primaries            │
//!    └─ rejoin(): a new base backup ◀── follow() ────┘ other standbys
//! ```
//!
//! A base backup copies configuration, certificates, roles and passwords. Port
//! and socket directory are arguments of the server, so nothing in the copy
//! needs to be changed.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use super::account::Account;
use super::data::{Layout, last_lines, run_watched};
use super::error::{Doing as _, Error};
use super::guardian::{Duty, Guardian};
use super::server::Arguments;
use super::{Cluster, Running, StopMode};

/// How long a standby may take to connect to its primary, or a promotion may
/// take.
const REPLICATION_WITHIN: Duration = Duration::from_secs(60);
/// How often a server is asked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Cluster {
    /// Makes a streaming standby of this running server, on a port of its own
    /// and in a temporary directory, and waits until it streams.
    pub fn standby(&self) -> Result<Cluster, Error> {
        let account = Account::for_servers()?;
        let layout = Layout::create(None, account)?;
        let guardian = Guardian::start(Duty::postmaster(layout.temporary()), account)?;
        let standby = Cluster {
            superuser: self.superuser.clone(),
            password: self.password.clone(),
            arguments: Arguments { installation: self.installation().clone(), port: 0 },
            ready_within: self.ready_within,
            running: Running { server: None, guardian }.into(),
            layout,
        };
        standby.copy_from(self)?;
        let standby = standby.start_on_a_port()?;
        // It is known to its primary by its port, which is settled only now.
        standby.follow(self)?;
        Ok(standby)
    }

    /// Makes this server a standby of another one, whatever it was: what it
    /// holds is replaced by a new base backup. Waits until it streams.
    pub fn rejoin(&self, primary: &Cluster) -> Result<(), Error> {
        self.crash()?;
        fs::remove_dir_all(&self.layout.data).doing("removing", &self.layout.data)?;
        self.copy_from(primary)?;
        self.start()?;
        self.follow(primary)
    }

    /// Lets a running standby follow another primary of the same data, and
    /// waits until it streams.
    pub fn follow(&self, primary: &Cluster) -> Result<(), Error> {
        let conninfo = self.conninfo(primary).replace('\'', "''");
        self.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"))?;
        self.reload()?;
        self.wait_until_streaming(primary)
    }

    /// Waits until this standby receives what the primary writes.
    pub fn wait_until_streaming(&self, primary: &Cluster) -> Result<(), Error> {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication \
             WHERE application_name = '{}' AND state = 'streaming'",
            self.replication_name()
        );
        primary.wait_for(&sql, "1")
    }

    /// Waits until this standby has replayed what the primary has done by now,
    /// also what it has yet to write (`synchronous_commit = off`).
    pub fn wait_until_caught_up(&self, primary: &Cluster) -> Result<(), Error> {
        let written = primary.psql("SELECT pg_current_wal_insert_lsn()")?;
        self.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'"), "t")
    }

    /// Promotes this standby and waits until it takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        let seconds = REPLICATION_WITHIN.as_secs();
        self.psql(&format!("SELECT pg_promote(true, {seconds})"))?;
        self.wait_for("SELECT pg_is_in_recovery()", "f")
    }

    /// The same server on another port, for a test of names and addresses.
    pub fn restarted_on(mut self, port: u16) -> Result<Self, Error> {
        self.stop(StopMode::Fast)?;
        self.arguments.port = port;
        self.start()?;
        Ok(self)
    }

    /// What this server calls itself towards its primary: also what
    /// `synchronous_standby_names` takes.
    #[must_use]
    pub fn replication_name(&self) -> String {
        format!("node_{}", self.port())
    }

    /// An empty data directory becomes a copy of a running server's, to be
    /// started as a standby.
    fn copy_from(&self, primary: &Cluster) -> Result<(), Error> {
        self.layout.write(&self.layout.passfile(), &passfile_line(primary))?;
        let argv = self.base_backup(primary);
        if run_watched(&argv, &self.layout, &mut self.running().guardian)? {
            return Ok(());
        }
        Err(Error::BaseBackup { log: last_lines(&self.layout.log()?) })
    }

    fn base_backup(&self, primary: &Cluster) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.installation().program("pg_basebackup").into()];
        argv.extend(
            ["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"].map(Into::into),
        );
        argv.extend(["--no-sync".into(), "--pgdata".into(), self.layout.data.clone().into()]);
        argv.extend(["--dbname".into(), self.conninfo(primary).into()]);
        argv
    }

    /// How this server reaches that one.
    fn conninfo(&self, primary: &Cluster) -> String {
        let passfile = self.layout.passfile();
        format!(
            "host=127.0.0.1 port={} user={} passfile={} application_name={}",
            primary.port(),
            in_conninfo(&primary.superuser),
            in_conninfo(&passfile.display().to_string()),
            self.replication_name(),
        )
    }

    /// Asks the server until it gives this answer.
    fn wait_for(&self, sql: &str, answer: &str) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let last = self.psql(sql)?;
            if last == answer {
                return Ok(());
            }
            if start.elapsed() > REPLICATION_WITHIN {
                return Err(Error::NotReplicating { question: sql.into(), answer: last });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A value of a connection string, where backslashes escape.
fn in_conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Any server of this host that has these data takes this password.
fn passfile_line(primary: &Cluster) -> String {
    let escaped = |text: &str| text.replace('\\', r"\\").replace(':', r"\:");
    format!("*:*:*:{}:{}\n", escaped(&primary.superuser), escaped(primary.password()))
}

//! Real PostgreSQL servers on this host, for the demo, the tests and the
//! `local` provider.
//!
//! Postern is only worth something in front of PostgreSQL itself, so nothing
//! here imitates a server: `initdb` makes the data directory and `postgres`
//! serves it. This module is the one place that knows how to do that.
//!
//! ```text
//! Installations::find() ─ vector() ─▶ Installation ─ Cluster::builder() ─▶ Builder
//!                                                                            │ start(): initdb, configuration,
//!                                                                            ▼          server, databases, SQL
//!               stop(), kill_9(), crash() ◀── stopped ◀──── Cluster ────▶ running ──▶ start(), restart()
//! ```
//!
//! What must stay true:
//!
//! * **Nothing is left behind.** However this process ends (a drop, a panic,
//!   `exit`, `kill -9`), its guardian (`guardian.sh`) stops the server and
//!   removes the temporary directory. A cluster may therefore live in a static.
//! * **A server never hears the terminal's Ctrl-C**: it has a process group of
//!   its own.
//! * **A server listens on the loopback and in its own directory only**, and
//!   every login takes a password (SCRAM-SHA-256).
//! * **PostgreSQL refuses root**: run by root, the servers run as `postgres`;
//!   run by anybody else, as that user.
//!
//! The calls block. Called from async code they hold up one thread for as long
//! as a server needs to start or stop, which tests and the demo can afford.
//!
//! Standbys, promotion and the return of a former primary: `replication.rs`.
//! Servers that Patroni keeps together, and promotes by itself: `patroni.rs`.

mod account;
mod builder;
mod data;
mod error;
mod etcd;
mod guardian;
mod http;
mod installation;
mod lock;
mod manager;
mod member;
mod patroni;
mod port;
mod program;
mod replication;
mod server;
mod temporary;

pub use builder::Builder;
pub use error::Error;
pub use etcd::Etcd;
pub use installation::{Installation, Installations};
pub use lock::wait_until_unused;
pub use manager::HaManager;
pub use member::{Member, PATRONI_USER};
pub use patroni::{Certified, Passwords, PatroniCluster, PatroniSettings, Timings};
pub use temporary::TemporaryDirectory;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::domain::Secret;

use data::Layout;
use guardian::Guardian;
use server::{Arguments, Server};

/// The superuser, unless told otherwise.
const SUPERUSER: &str = "postgres";

/// How long a server may take to stop in [`Cluster::stop`]: the shutdown
/// checkpoint of a large test may take a while.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// How long the children of a killed postmaster get to notice that it is gone
/// before they are killed too; a busy one notices only after its query.
const ORPHANS_WITHIN: Duration = Duration::from_millis(500);

/// One PostgreSQL server with its data directory.
///
/// Dropped, it stops its server and removes its directory, unless that was
/// given by [`Builder::directory`], which stays.
#[derive(Debug)]
pub struct Cluster {
    superuser: String,
    password: Secret<String>,
    arguments: Arguments,
    ready_within: Duration,
    // Dropped before the directory that the server works in.
    running: Mutex<Running>,
    layout: Layout,
}

/// What starts and stops; `server` is the last one started, alive or not.
#[derive(Debug)]
struct Running {
    server: Option<Server>,
    guardian: Guardian,
}

/// How [`Cluster::stop`] ends the server (`PostgreSQL`'s shutdown modes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until the last client has gone.
    Smart,
    /// Ends the clients' sessions and writes a checkpoint.
    Fast,
    /// Ends at once without a checkpoint; the next start recovers.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::TERM,
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

impl Cluster {
    /// Describes a cluster to be made with this installation.
    pub fn builder(installation: &Installation) -> Builder {
        Builder::new(installation.clone())
    }

    /// The programs that this cluster runs on.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.arguments.installation
    }

    /// The port, on 127.0.0.1 and in the socket's name; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.arguments.port
    }

    /// The address on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The directory of the unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.layout.sockets
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.layout.data
    }

    /// The superuser that `initdb` made.
    #[must_use]
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        self.password.expose()
    }

    /// The postmaster's process id, while the server runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut running = self.running();
        running.alive().map(|server| server.pid())
    }

    /// What the server has logged since the cluster was made.
    pub fn log(&self) -> Result<String, Error> {
        self.layout.log()
    }

    /// Starts the server on its port and waits until it takes connections.
    /// Does nothing while it runs.
    pub fn start(&self) -> Result<(), Error> {
        let mut running = self.running();
        if running.alive().is_some() {
            return Ok(());
        }
        let started = Server::start(&self.arguments, &self.layout, &mut running.guardian)?;
        let server = running.server.insert(started);
        let ready = server.wait_until_ready(&self.layout, self.ready_within);
        if ready.is_err() {
            server.signal(StopMode::Immediate.signal())?;
            running.wait_for_end(STOP_WITHIN)?;
        }
        ready
    }

    /// Stops the server and waits until its last process has gone. Does
    /// nothing while it is stopped.
    pub fn stop(&self, mode: StopMode) -> Result<(), Error> {
        let mut running = self.running();
        let Some(server) = running.alive() else {
            return Ok(());
        };
        server.signal(mode.signal())?;
        running.wait_for_end(STOP_WITHIN)
    }

    /// Stops the server (fast) and starts it again.
    pub fn restart(&self) -> Result<(), Error> {
        self.stop(StopMode::Fast)?;
        self.start()
    }

    /// Kills the postmaster as a crash would, and waits until its children
    /// have gone too; those that do not notice by themselves are killed.
    pub fn kill_9(&self) -> Result<(), Error> {
        let mut running = self.running();
        let Some(server) = running.alive() else {
            return Ok(());
        };
        let children = server.children()?;
        server.signal(Signal::KILL)?;
        if !server.has_ended(ORPHANS_WITHIN) {
            server::signal_each(&children, Signal::KILL)?;
        }
        running.wait_for_end(STOP_WITHIN)
    }

    /// Kills every process of the server at once, as the loss of its host
    /// would: nobody gets to say goodbye, frozen or not. Does nothing while it
    /// is stopped.
    pub fn crash(&self) -> Result<(), Error> {
        let mut running = self.running();
        let Some(server) = running.alive() else {
            return Ok(());
        };
        // A stopped postmaster forks nobody that the list would miss.
        server.signal(Signal::STOP)?;
        let children = server.children()?;
        server.signal(Signal::KILL)?;
        server::signal_each(&children, Signal::KILL)?;
        running.wait_for_end(STOP_WITHIN)
    }

    /// Makes the server read its configuration files again, certificates too.
    pub fn reload(&self) -> Result<(), Error> {
        self.running().alive().ok_or(Error::Stopped)?.signal(Signal::HUP)
    }

    /// Stops every process of the server in its tracks: connections stay open
    /// and nothing answers, as when its host hangs.
    pub fn freeze(&self) -> Result<(), Error> {
        self.running().alive().ok_or(Error::Stopped)?.signal_all(Signal::STOP)
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.running().alive().ok_or(Error::Stopped)?.signal_all(Signal::CONT)
    }

    /// Runs SQL in the database `postgres` as superuser, each statement in its
    /// own transaction; the rows come back unaligned, one a line.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.psql_in("postgres", sql)
    }

    /// Like [`Cluster::psql`], in the named database.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        let mut psql = self.client("psql", database);
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        let output = data::run_with_input(psql, sql)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().into());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim_end().into();
        Err(Error::Sql { message })
    }

    /// A client program of the installation (`psql`, `pgbench`, `pg_dump`)
    /// that will reach this cluster as superuser over its unix socket.
    #[must_use]
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = self.installation().command(program);
        command
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", &self.superuser)
            .env("PGPASSWORD", self.password())
            .env("PGDATABASE", database)
            .stdin(Stdio::null());
        command
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // A panic while the lock was held leaves nothing half-done that the
        // guardian would not clean up.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The server, if it has a process left.
    fn alive(&mut self) -> Option<&mut Server> {
        if self.server.as_ref().is_some_and(|server| server.has_ended(Duration::ZERO)) {
            self.forget();
        }
        self.server.as_mut()
    }

    fn wait_for_end(&mut self, limit: Duration) -> Result<(), Error> {
        let server = self.server.as_mut().ok_or(Error::Stopped)?;
        if !server.has_ended(limit) {
            return Err(Error::StillRunning { pid: server.pid(), limit });
        }
        self.forget();
        Ok(())
    }

    /// Reaps a server that has ended and takes it off the guardian's hands.
    fn forget(&mut self) {
        if let Some(server) = self.server.take() {
            server.reap();
        }
        self.guardian.watch_nothing();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.alive() {
            // A frozen backend would hold up the shutdown.
            let _ = server.signal_all(Signal::CONT);
        }
        self.guardian.clean_up();
        self.forget();
    }
}

#[cfg(test)]
mod tests;

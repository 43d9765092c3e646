//! What can go wrong with a PostgreSQL server on this host.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why an installation was not found, or a cluster not made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No installation can serve as a node of a `postgresql` service.
    #[error(
        "no PostgreSQL server with TLS found: run scripts/install, or install Debian's package \
         'postgresql', or name a directory with its programs in POSTERN_POSTGRES"
    )]
    NoPostgresql,

    /// No installation can serve as a node of a `vector` service.
    #[error(
        "no PostgreSQL server with pgvector found: run scripts/install, or install Debian's \
         package 'postgresql-NN-pgvector', or name a directory with the programs of an \
         installation that has pgvector in POSTERN_POSTGRES"
    )]
    NoVector,

    /// No installation of this major version was found.
    #[error(
        "no PostgreSQL {major} server found: install it, or name the directory with its programs \
         in POSTERN_POSTGRES"
    )]
    NoMajor {
        /// The version asked for.
        major: u32,
    },

    /// A directory that was named holds no PostgreSQL server that runs.
    #[error("{} holds no PostgreSQL server that runs: {reason}", bin.display())]
    NotAnInstallation {
        /// The directory.
        bin: PathBuf,
        /// What was seen there.
        reason: String,
    },

    /// We are root, and the user that servers run as does not exist.
    #[error(
        "PostgreSQL does not run as root and there is no user 'postgres': install Debian's package \
         'postgresql', or run this as another user"
    )]
    NoAccount,

    /// Standbys need an HA manager, and it is not there, or not all of it.
    #[error(
        "standbys on this host need Patroni and etcd, and there is {lacking}: install Debian's \
         packages patroni, python3-etcd, python3-dnspython and etcd-server"
    )]
    NoHaManager {
        /// As "no patroni".
        lacking: String,
    },

    /// An installation lacks what standbys need.
    #[error("the PostgreSQL in {} has no {name}, which standbys need", bin.display())]
    NoProgram {
        /// The installation's programs.
        bin: PathBuf,
        /// The one that is missing.
        name: &'static str,
    },

    /// A program that keeps the servers together did not start.
    #[error("{name} did not start; the end of what it said:\n{log}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What it said last.
        log: String,
    },

    /// A file that we wrote is not as we wrote it.
    #[error("{} is not understood", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
    },

    /// What an earlier process started in a directory has not ended yet.
    #[error("{} is still in use by what an earlier process started there", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },

    /// TLS was asked for, and the installation was built without it.
    #[error("the PostgreSQL in {} was built without OpenSSL", bin.display())]
    NoTls {
        /// The installation's programs.
        bin: PathBuf,
    },

    /// The directory for a new cluster holds something already.
    #[error("{} is not empty", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },

    /// A unix socket's path has at most 107 bytes.
    #[error("{} is too long a path for a unix socket", directory.display())]
    SocketPathTooLong {
        /// The directory of the socket.
        directory: PathBuf,
    },

    /// Somebody else listens on the port.
    #[error("port {port} on 127.0.0.1 is taken")]
    PortTaken {
        /// The port.
        port: u16,
    },

    /// `initdb` failed.
    #[error("initdb failed:\n{log}")]
    Initdb {
        /// What it said.
        log: String,
    },

    /// `pg_basebackup` failed.
    #[error("pg_basebackup failed:\n{log}")]
    BaseBackup {
        /// What it said.
        log: String,
    },

    /// A standby did not do in time what was waited for.
    #[error("replication does not get on: {question} still gives {answer:?}")]
    NotReplicating {
        /// What was asked.
        question: String,
        /// The last answer.
        answer: String,
    },

    /// The server ended while it started.
    #[error("the server did not start; the end of its log:\n{log}")]
    StartFailed {
        /// The last lines of its log.
        log: String,
    },

    /// The server did not take connections in time.
    #[error("the server was not ready within {limit:?}; the end of its log:\n{log}")]
    NotReady {
        /// The time it had.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },

    /// The server did not stop in time.
    #[error("server process {pid} had not stopped after {limit:?}")]
    StillRunning {
        /// The postmaster's process id.
        pid: u32,
        /// The time it had.
        limit: Duration,
    },

    /// The server is stopped, and the call needs a running one.
    #[error("the server is stopped")]
    Stopped,

    /// SQL failed.
    #[error("{message}")]
    Sql {
        /// What `psql` printed on stderr.
        message: String,
    },

    /// The system refused something.
    #[error("{doing} {what}")]
    System {
        /// What we were at, as "reading".
        doing: &'static str,
        /// A path, a program or a process.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// Says what we were at when the system refused.
pub(super) trait Doing<T> {
    /// Turns the system's error into ours: "reading" "/etc/passwd".
    fn doing(self, doing: &'static str, what: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, what: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|error| Error::System {
            doing,
            what: what.as_ref().display().to_string(),
            source: error.into(),
        })
    }
}

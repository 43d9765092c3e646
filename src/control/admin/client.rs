//! The command line's side.
//!
//! Every error says what whoever typed the command can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::reload::{Done, Problems, ReloadReport};
use super::status::{Stage, Status};
use crate::control::exposition::NoAnswer;
use crate::control::exposition::http::{self, Answer};
use crate::domain::ServiceName;

/// For what is answered at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// For a reload, which looks at every node.
const RELOAD: Duration = Duration::from_secs(120);
/// Between two looks at a drain.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Speaks to a running Postern through its admin socket.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no such file.
    #[error(
        "there is no admin socket at {}: is Postern running, and is this [admin] socket of its configuration?", .0.display()
    )]
    NoSocket(PathBuf),
    /// The file is there, its process is not.
    #[error("nobody listens at {}: Postern is not running", .0.display())]
    NotRunning(PathBuf),
    /// The file or a directory above it may not be opened.
    #[error(
        "permission denied at {}: run this as the user that Postern runs as, or as root", .0.display()
    )]
    Denied(PathBuf),
    /// Anything else that keeps a connection from being made.
    #[error("cannot connect to {}: {source}", .path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Postern took the connection, and no answer came.
    #[error("Postern at {} gave no answer, its log may say why: {source}", .path.display())]
    NoAnswer {
        /// Where.
        path: PathBuf,
        /// Why.
        source: NoAnswer,
    },
    /// An answer that this version does not know.
    #[error(
        "Postern at {} answered {status}, which this version ({}) does not understand: is the same version running?", .path.display(), env!("CARGO_PKG_VERSION")
    )]
    Unknown {
        /// Where.
        path: PathBuf,
        /// The status.
        status: StatusCode,
    },
    /// The configuration has problems; nothing was changed.
    #[error("nothing was reloaded:\n  {}", .0.join("\n  "))]
    NotReloaded(Vec<String>),
    /// The order could not be carried out.
    #[error("{}", .0.join("\n  "))]
    NotDone(Vec<String>),
}

impl AdminClient {
    /// Speaks to the Postern whose `[admin] socket` this is.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// How Postern is.
    pub async fn status(&self) -> Result<Status, AdminError> {
        let answer = self.ask(Method::GET, "/status", AT_ONCE).await?;
        self.expect(&answer, StatusCode::OK)
    }

    /// How Postern is, as the JSON that it sent.
    pub async fn status_json(&self) -> Result<Bytes, AdminError> {
        let answer = self.ask(Method::GET, "/status", AT_ONCE).await?;
        self.check(&answer, StatusCode::OK)?;
        Ok(answer.body)
    }

    /// Begins the drain, and returns.
    pub async fn drain(&self) -> Result<(), AdminError> {
        let answer = self.ask(Method::POST, "/drain", AT_ONCE).await?;
        self.check(&answer, StatusCode::ACCEPTED)
    }

    /// Waits for a drain that has begun, and shows each look at it. It is over
    /// when no client is left or Postern has gone; how long that may take is
    /// Postern's `drain_timeout`.
    pub async fn drained(&self, mut progress: impl FnMut(&Status)) -> Result<(), AdminError> {
        loop {
            let status = match self.status().await {
                Ok(status) => status,
                Err(error) if error.means_gone() => return Ok(()),
                Err(error) => return Err(error),
            };
            progress(&status);
            if status.phase != Stage::Running && status.clients.total() == 0 {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Reloads the configuration and returns what has changed.
    pub async fn reload(&self) -> Result<ReloadReport, AdminError> {
        let answer = self.ask(Method::POST, "/reload", RELOAD).await?;
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            let Problems { problems } = self.read(&answer)?;
            return Err(AdminError::NotReloaded(problems));
        }
        self.expect(&answer, StatusCode::OK)
    }

    /// Gives an order for a service: `pause`, `resume` or `switchover`, with
    /// `?to=NODE` if a node is meant. Returns what was done.
    pub async fn order(&self, service: &ServiceName, order: &str) -> Result<String, AdminError> {
        let path = format!("/services/{service}/{order}");
        let answer = self.ask(Method::POST, &path, RELOAD).await?;
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            let Problems { problems } = self.read(&answer)?;
            return Err(AdminError::NotDone(problems));
        }
        Ok(self.expect::<Done>(&answer, StatusCode::OK)?.done)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        deadline: Duration,
    ) -> Result<Answer, AdminError> {
        let stream = timeout(AT_ONCE, UnixStream::connect(&self.socket)).await;
        let stream = stream
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| AdminError::connecting(&self.socket, source))?;
        let answer = http::ask(stream, method, path, deadline).await;
        answer.map_err(|source| AdminError::NoAnswer { path: self.socket.clone(), source })
    }

    fn expect<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        status: StatusCode,
    ) -> Result<T, AdminError> {
        self.check(answer, status)?;
        self.read(answer)
    }

    fn check(&self, answer: &Answer, status: StatusCode) -> Result<(), AdminError> {
        match answer.status {
            found if found == status => Ok(()),
            StatusCode::FORBIDDEN => Err(AdminError::Denied(self.socket.clone())),
            _ => Err(self.unknown(answer)),
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, AdminError> {
        serde_json::from_slice(&answer.body).map_err(|_| self.unknown(answer))
    }

    fn unknown(&self, answer: &Answer) -> AdminError {
        AdminError::Unknown { path: self.socket.clone(), status: answer.status }
    }
}

impl AdminError {
    pub(super) fn connecting(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoSocket(path),
            io::ErrorKind::ConnectionRefused => Self::NotRunning(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            _ => Self::Connect { path, source },
        }
    }

    /// Whether a Postern that was there a moment ago has ended.
    fn means_gone(&self) -> bool {
        match self {
            Self::NoSocket(_) | Self::NotRunning(_) => true,
            Self::NoAnswer { source, .. } => !matches!(source, NoAnswer::Late(_)),
            Self::Denied(_)
            | Self::Connect { .. }
            | Self::Unknown { .. }
            | Self::NotReloaded(_)
            | Self::NotDone(_) => false,
        }
    }
}

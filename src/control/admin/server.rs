//! The server's side: HTTP with JSON over a unix socket.
//!
//! ```text
//! GET  /status  200 Status
//! POST /drain   202 {"phase": "draining"}: it has begun; look at /status
//! POST /reload  200 ReloadReport, or 422 {"problems": [...]}: nothing changed
//! POST /services/SERVICE/pause, resume, switchover[?to=NODE]
//!               200 {"done": ...}, or 422 {"problems": [...]}
//! ```

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::task::{JoinError, spawn_blocking};

use super::peer::Uid;
use super::reload::{Done, Problems, Reload, Towards};
use super::status::{Listening, Stage, Status};
use crate::control::exposition::NodeState;
use crate::control::exposition::http::{self, Bounds};
use crate::control::planned::{CarryOut, Planned};
use crate::directory::{CoarseClock, Directory, Roster};
use crate::net::Listener;
use crate::net::listener::SocketFile;
use crate::pool::Slots;
use crate::shutdown::{Phase, Shutdown};

/// Only its owner may open it.
const MODE: u32 = 0o600;

/// Command lines are few; a reload looks at every node.
const BOUNDS: Bounds = Bounds { connections: 16, lifetime: Duration::from_secs(120) };

/// What the socket shows and what it can order.
pub struct Controls {
    /// The services.
    pub directory: Arc<Directory>,
    /// The sessions.
    pub roster: Roster,
    /// The slots.
    pub slots: Slots,
    /// Seconds since the start.
    pub clock: CoarseClock,
    /// Moved on to its draining by an order to drain.
    pub shutdown: Shutdown,
    /// Where the data path listens.
    pub listeners: Vec<Listening>,
    /// What the watchers last saw.
    pub nodes: Box<dyn Fn() -> Vec<NodeState> + Send + Sync>,
    /// Run by an order to reload.
    pub reload: Reload,
    /// The admin API, `/v1`, for whoever may open the socket.
    pub api: Router,
    /// Run by an order to pause a service, to resume it, or to switch it over.
    pub carry_out: CarryOut,
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").finish_non_exhaustive()
    }
}

/// The bound socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// Somebody answers there.
    #[error("admin.socket: another Postern listens at {}", .0.display())]
    InUse(PathBuf),
    /// A file that must not be replaced.
    #[error("admin.socket: {} exists and is no socket", .0.display())]
    NotASocket(PathBuf),
    /// There is no such directory.
    #[error("admin.socket: the directory of {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    /// Anything else, such as a directory we may not write to.
    #[error("admin.socket: cannot listen at {}: {source}", .path.display())]
    Other {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AdminSocketError {
    fn new(path: &path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(path),
            io::ErrorKind::AlreadyExists => Self::NotASocket(path),
            io::ErrorKind::NotFound => Self::NoDirectory(path),
            _ => Self::Other { path, source },
        }
    }
}

impl AdminSocket {
    /// Listens here with mode 0600, in the place of a socket that a dead
    /// process left behind. Must be called within a tokio runtime.
    pub fn bind(path: &path::Path) -> Result<Self, AdminSocketError> {
        match Listener::unix(path, MODE) {
            Ok(Listener::Unix(listener, file)) => Ok(Self { listener, file }),
            Ok(Listener::Tcp(_)) => unreachable!("a path was asked for"),
            Err(source) => Err(AdminSocketError::new(path, source)),
        }
    }

    /// Answers and obeys until it is dropped; through a drain, too, whose
    /// progress is asked for here.
    pub async fn serve(self, controls: Controls) -> Infallible {
        // The file lives as long as the listener.
        let Self { listener, file: _file } = self;
        let ours = Uid::ours();
        let (orders, refusal) = (orders(&Arc::new(controls)), refusal());
        let router_for = move |stream: &tokio::net::UnixStream| {
            if ours.obeys(stream) {
                return orders.clone();
            }
            tracing::warn!(peer = ?stream.peer_cred().ok(), "refused at the admin socket");
            refusal.clone()
        };
        http::serve(listener, router_for, BOUNDS).await
    }
}

fn orders(controls: &Arc<Controls>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/reload", post(reload))
        .route("/services/{service}/{order}", post(planned))
        .with_state(Arc::clone(controls))
        .fallback_service(controls.api.clone())
}

fn refusal() -> Router {
    Router::new().fallback(|| async { StatusCode::FORBIDDEN })
}

async fn status(State(controls): State<Arc<Controls>>) -> Response {
    // Milliseconds of CPU for thousands of services: not on a thread that polls.
    match spawn_blocking(move || Status::of(&controls)).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => broke_off(&error),
    }
}

async fn drain(State(controls): State<Arc<Controls>>) -> Response {
    tracing::info!("told to drain at the admin socket");
    controls.shutdown.advance(Phase::Draining);
    let phase = Stage::from(controls.shutdown.phase());
    let begun = Json(serde_json::json!({ "phase": phase }));
    (StatusCode::ACCEPTED, begun).into_response()
}

async fn reload(State(controls): State<Arc<Controls>>) -> Response {
    tracing::info!("told to reload at the admin socket");
    // A task of its own: whoever ordered it may go away, and the reload must
    // not stop half-way with him.
    match tokio::spawn((controls.reload)()).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(problems)) => {
            let problems = Json(Problems { problems });
            (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response()
        }
        Err(error) => broke_off(&error),
    }
}

async fn planned(
    State(controls): State<Arc<Controls>>,
    Path((service, order)): Path<(String, String)>,
    Query(Towards { to }): Query<Towards>,
) -> Response {
    let order = match order.as_str() {
        "pause" => Planned::Pause,
        "resume" => Planned::Resume,
        "switchover" => Planned::Switchover { to },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let Ok(service) = service.parse() else { return StatusCode::NOT_FOUND.into_response() };
    // A task of its own, as for a reload.
    match tokio::spawn((controls.carry_out)(service, order)).await {
        Ok(Ok(done)) => Json(Done { done }).into_response(),
        Ok(Err(problem)) => {
            let problems = Json(Problems { problems: vec![problem] });
            (StatusCode::UNPROCESSABLE_ENTITY, problems).into_response()
        }
        Err(error) => broke_off(&error),
    }
}

fn broke_off(error: &JoinError) -> Response {
    tracing::error!(%error, "an order at the admin socket broke off");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

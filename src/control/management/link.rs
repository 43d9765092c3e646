//! At most one management connection to a node: opened when somebody needs
//! it, opened again after a while when it could not be, closed when nobody
//! has needed it for long.
//!
//! ```text
//! nothing ─ session() ─▶ opening ─▶ open ─ it breaks, close() ─▶ nothing
//!    ▲                      └─▶ failed ─ the pause is over ─┘
//!    └──────────────────────────────┘ within the pause everybody hears the
//!                                     same error at once
//! ```
//!
//! Opening is a task of its own: whoever waits for it may stop waiting, and
//! the next one finds it further on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::error::NodeError;
use super::session::Session;
use crate::control::config;
use crate::directory::Node;
use crate::upstream::Dialer;
use crate::upstream::dial::DialError;

/// The pause after a first failure; it doubles with each further one, unless
/// nobody is there or the server is starting: that costs next to nothing, and
/// clients wait for its end.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failure to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// The pause after the server refused the role: a wrong password that is
/// tried over and over may lock the account (trap A-27).
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// For a name to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(1);

/// The way to one node, for one management role.
#[derive(Debug)]
pub(super) struct Link {
    node: Arc<Node>,
    role: Arc<config::Management>,
    dialer: Dialer,
    /// Woken when the server ends the session.
    ended: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    opening: Option<Opening>,
    /// What the node's name stood for at the last look.
    addresses: Option<Arc<[SocketAddr]>>,
    /// Attempts that failed before this one, since the last that did not.
    failures: u32,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

#[derive(Debug, Clone)]
struct Failure {
    error: NodeError,
    at: Instant,
}

impl Link {
    /// A link that opens nothing yet.
    pub(super) fn new(node: Arc<Node>, role: Arc<config::Management>, dialer: Dialer) -> Self {
        Self { node, role, dialer, ended: Arc::default(), state: Mutex::default() }
    }

    /// Closes the session if the node's name leads elsewhere by now: the server
    /// that it led to may still be up, and not the service's any more (trap
    /// E-11). Cancel-safe.
    pub(super) async fn follow_name(&self) {
        let resolving = self.dialer.addresses(&self.node.address);
        let Ok(Ok(now)) = timeout(RESOLVED_WITHIN, resolving).await else {
            // Whoever is known is as good as before.
            return;
        };
        let before = self.lock().addresses.replace(Arc::clone(&now));
        let moved = before.is_some_and(|before| !before.iter().any(|known| now.contains(known)));
        if moved {
            tracing::info!(service = %self.node.service, node = %self.node.address, ?now, "a node's name leads elsewhere");
            self.close();
        }
    }

    /// Waits until the server has ended a session that somebody wanted to keep.
    /// Cancel-safe.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Whether this link leads where `node` is, as this role.
    pub(super) fn leads_to(&self, node: &Node, role: &config::Management) -> bool {
        let same_node = self.node.address == node.address
            && self.node.tls == node.tls
            && self.node.authorities == node.authorities;
        let passwords = [&self.role, role].map(|role| role.password.expose().as_bytes());
        same_node
            && self.role.user == role.user
            && self.role.database == role.database
            && constant_time::verify_slices_are_equal(passwords[0], passwords[1]).is_ok()
    }

    /// Asks something on the node's session. If the session turns out to have
    /// died since it was used last, asks once more on a new one.
    pub(super) async fn ask<T, F>(
        &self,
        connect_within: Duration,
        question: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, NodeError>
    where
        F: Future<Output = Result<T, NodeError>>,
    {
        let session = self.session(connect_within).await?;
        let answer = question(Arc::clone(&session)).await;
        match answer {
            Err(NodeError::Broken(_)) if session.is_over() => {
                question(self.session(connect_within).await?).await
            }
            other => other,
        }
    }

    /// The session, opened if need be. Must be called on the control runtime.
    async fn session(&self, connect_within: Duration) -> Result<Arc<Session>, NodeError> {
        let opening = self.opening(Instant::now(), connect_within);
        opening.await.map_err(|failure| failure.error)
    }

    /// The session that is open, if one is: opens none.
    pub(super) fn kept(&self) -> Option<Arc<Session>> {
        let state = self.lock();
        let session = state.opening.as_ref()?.peek()?.as_ref().ok()?;
        (!session.is_over()).then(|| Arc::clone(session))
    }

    /// Closes the session if there is one, once those who use it are done.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let settled = |opening: &Opening| opening.peek().is_some();
        if state.opening.as_ref().is_some_and(settled) {
            state.opening = None;
        }
    }

    /// The attempt under way, the session it led to, the failure that still
    /// counts, or a new attempt.
    fn opening(&self, now: Instant, within: Duration) -> Opening {
        let mut state = self.lock();
        if let Some(opening) = &state.opening {
            let counts = match opening.peek() {
                None => true,
                Some(Ok(session)) => !session.is_over(),
                Some(Err(failure)) => now < failure.at + pause(&failure.error, state.failures),
            };
            if counts {
                return opening.clone();
            }
        }
        let failed = state.opening.as_ref().and_then(Shared::peek);
        let failed = failed.is_some_and(Result::is_err);
        state.failures = if failed { state.failures + 1 } else { 0 };
        let opening = self.open(within);
        state.opening = Some(opening.clone());
        opening
    }

    fn open(&self, within: Duration) -> Opening {
        let (node, role) = (Arc::clone(&self.node), Arc::clone(&self.role));
        let (dialer, ended) = (self.dialer.clone(), Arc::clone(&self.ended));
        let task = tokio::spawn(async move {
            let opened = Session::open(&dialer, &node, &role, within, ended).await;
            opened.map(Arc::new)
        });
        let opened = task.map(|ended| {
            let ended_early = |_| Err(NodeError::Broken("the attempt was given up".to_owned()));
            let at = Instant::now();
            ended.unwrap_or_else(ended_early).map_err(|error| Failure { error, at })
        });
        opened.boxed().shared()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a failure counts, after so many earlier ones.
fn pause(error: &NodeError, earlier: u32) -> Duration {
    match error {
        NodeError::Dial(error) if matches!(**error, DialError::Connect(_)) => FIRST_PAUSE,
        NodeError::Login { sqlstate, .. } if sqlstate == "57P03" => FIRST_PAUSE,
        NodeError::Login { sqlstate, .. } if sqlstate.starts_with("28") => REFUSED_PAUSE,
        _ => (FIRST_PAUSE * 2_u32.pow(earlier.min(5))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a27_a_refused_role_waits_longer_than_an_absent_server() {
        let absent = NodeError::Broken(String::new());
        assert_eq!(pause(&absent, 0), FIRST_PAUSE);
        assert_eq!(pause(&absent, 1), 2 * FIRST_PAUSE);
        assert_eq!(pause(&absent, u32::MAX), LONGEST_PAUSE);
        let refused = |sqlstate: &str| NodeError::Login {
            message: String::new(),
            sqlstate: sqlstate.to_owned(),
        };
        assert_eq!(pause(&refused("28P01"), 0), REFUSED_PAUSE);
        assert_eq!(pause(&refused("57P03"), 9), FIRST_PAUSE);
        let nobody = DialError::Connect(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(pause(&NodeError::Dial(Arc::new(nobody)), 9), FIRST_PAUSE);
        assert_eq!(pause(&refused("53300"), 0), FIRST_PAUSE);
    }
}

//! Closes server connections, and keeps their slots until the server has let
//! go (decision 8).
//!
//! ```text
//! busy? → CancelRequest → Terminate → FIN → read to EOF ──▶ slot free
//!                                        └ server_close_timeout
//!                                            → pg_terminate_backend, again
//!                                              and again, until EOF or the
//!                                              process is gone ──▶ slot free
//! ```
//!
//! A connection whose node has lost its role hears nothing more: it is severed,
//! and the management connection says when its backend is gone.
//!
//! PostgreSQL leaves shared memory before it closes the socket, so a slot that
//! is freed at EOF is never one too many in `pg_stat_activity`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::server::Lead;
use super::slots::Slot;
use crate::directory::Node;
use crate::net::Connection;
use crate::upstream::Dialer;
use crate::upstream::cancel::{Backend, cancel};
use crate::wire::login::TERMINATE;

/// Between two attempts to end a backend by force.
const RETRY: Duration = Duration::from_secs(1);

/// What the management connection says about a backend it was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaperAnswer {
    /// `pg_stat_activity` does not show the process any more.
    Gone,
    /// It was told to end, or may not be told.
    Told,
    /// The node does not answer.
    Unreachable,
}

/// The future of [`BackendReaper::terminate`].
pub type ReaperFuture<'a> = Pin<Box<dyn Future<Output = ReaperAnswer> + Send + 'a>>;

/// Ends backends by force: the management connection does it.
pub trait BackendReaper: Send + Sync {
    /// Terminates a backend of Postern's if it is still there.
    fn terminate<'a>(&'a self, node: &'a Node, process_id: u32) -> ReaperFuture<'a>;
}

/// Closes connections on the data path's runtime.
#[derive(Clone)]
pub struct Closer {
    dialer: Dialer,
    reaper: Arc<dyn BackendReaper>,
    runtime: Handle,
    close_timeout: Duration,
    terminated: IntCounter,
}

/// A connection that nobody needs any more.
#[derive(Debug)]
pub struct Leftover {
    /// The connection itself.
    pub connection: Connection,
    /// Its slot.
    pub slot: Slot,
    /// Where it leads. Once the node's time in its role is over, nothing more
    /// is sent.
    pub lead: Lead,
    /// The backend at its end, or 0 if the login did not come that far.
    pub process_id: u32,
    /// Set if a query may be under way that nobody waits for.
    pub cancel: Option<Arc<Backend>>,
}

impl Closer {
    /// A closer that gives servers this long to close, and counts those that
    /// have to be told.
    #[must_use]
    pub fn new(
        dialer: Dialer,
        reaper: Arc<dyn BackendReaper>,
        runtime: Handle,
        close_timeout: Duration,
        terminated: IntCounter,
    ) -> Self {
        Self { dialer, reaper, runtime, close_timeout, terminated }
    }

    /// Takes a connection over. Returns at once; the slot is free when the
    /// server has let go.
    pub fn close(&self, mut leftover: Leftover) {
        leftover.slot.closing();
        let closer = self.clone();
        self.runtime.spawn(async move { closer.see_off(leftover).await });
    }

    async fn see_off(&self, leftover: Leftover) {
        let Leftover { mut connection, slot, lead, process_id, cancel } = leftover;
        let Lead { node, tenure } = lead;
        let orderly = async {
            let deadline = Instant::now() + self.close_timeout;
            if let Some(backend) = cancel {
                self.cancel(&backend, deadline).await;
            }
            // A server that reads no more still has to be waited for.
            let _ = timeout_at(deadline, say_goodbye(&mut connection)).await;
            if timeout_at(deadline, connection.read_to_end()).await.is_err() {
                self.insist(&mut connection, &node, process_id).await;
            }
        };
        tokio::select! {
            biased;
            () = tenure.ended() => {}
            () = orderly => return drop(slot),
        }
        connection.sever();
        self.wait_until_gone(&node, process_id).await;
        drop(slot);
    }

    /// Waits for a backend whose node has lost its role, and whose connection
    /// was severed: a busy one notices only when it has something to say. A
    /// node that does not answer takes its slots with it (decision 8).
    async fn wait_until_gone(&self, node: &Node, process_id: u32) {
        if process_id == 0 {
            return;
        }
        loop {
            let retry_at = Instant::now() + RETRY;
            match self.reaper.terminate(node, process_id).await {
                ReaperAnswer::Gone | ReaperAnswer::Unreachable => return,
                ReaperAnswer::Told => self.terminated.inc(),
            }
            sleep_until(retry_at).await;
        }
    }

    async fn cancel(&self, backend: &Backend, deadline: Instant) {
        if let Err(error) = cancel(&self.dialer, backend, deadline).await {
            let node = &backend.node().address;
            tracing::debug!(%error, %node, "could not cancel an abandoned query");
        }
    }

    /// Reads on while the backend is told to end once a second. The slot is
    /// held as long as it may be there: also when its node does not answer.
    async fn insist(&self, connection: &mut Connection, node: &Node, process_id: u32) {
        loop {
            // A login that did not get so far as to tell its process id is
            // ended by the server's own authentication_timeout.
            if process_id != 0 {
                let answer = self.reaper.terminate(node, process_id).await;
                tracing::info!(
                    service = %node.service, node = %node.address, process_id, ?answer,
                    "a server process had not closed in time and is being terminated"
                );
                match answer {
                    ReaperAnswer::Gone => return,
                    ReaperAnswer::Told => self.terminated.inc(),
                    ReaperAnswer::Unreachable => {}
                }
            }
            let retry_at = Instant::now() + RETRY;
            if is_closed(timeout(RETRY, connection.read_to_end()).await.ok()) {
                return;
            }
            sleep_until(retry_at).await;
        }
    }
}

/// EOF, or the reset that a process sends whose input was not read to its end.
/// Any other error, a time-out of the network among them, says nothing.
fn is_closed(read: Option<io::Result<()>>) -> bool {
    match read {
        Some(Ok(())) => true,
        Some(Err(error)) => error.kind() == io::ErrorKind::ConnectionReset,
        None => false,
    }
}

async fn say_goodbye(connection: &mut Connection) -> io::Result<()> {
    connection.send(&TERMINATE).await?;
    connection.close().await
}

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
//! A reset is no EOF: a firewall that has forgotten the connection sends one as
//! well, while the backend knows nothing. Then the process is asked for. Only a
//! login that has told no process id is believed to have ended with a reset.
//!
//! PostgreSQL leaves shared memory before it closes the socket, so a slot that
//! is freed at EOF is never one too many in `pg_stat_activity`.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// The longest that a login may take on a server.
const LONGEST_LOGIN: Duration = Duration::from_secs(600);
/// Between two cancel requests for what a client has left behind.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);

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
    /// Terminates a backend of Postern's if it is still there, and was there at
    /// this time: a younger process has only been given the same id.
    fn terminate<'a>(
        &'a self,
        node: &'a Node,
        process_id: u32,
        since: std::time::Instant,
    ) -> ReaperFuture<'a>;
}

/// A backend's process id, or 0, and when it was there.
type Met = (u32, std::time::Instant);

/// Closes connections on the data path's runtime.
#[derive(Clone)]
pub struct Closer {
    dialer: Dialer,
    reaper: Arc<dyn BackendReaper>,
    runtime: Handle,
    /// In milliseconds.
    close_timeout: Arc<AtomicU64>,
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
    /// When the backend was there.
    pub since: std::time::Instant,
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
        let closer = Self { dialer, reaper, runtime, close_timeout: Arc::default(), terminated };
        closer.set_close_timeout(close_timeout);
        closer
    }

    /// Servers that are told to close from now on get this long.
    pub fn set_close_timeout(&self, close_timeout: Duration) {
        let millis = u64::try_from(close_timeout.as_millis()).unwrap_or(u64::MAX);
        self.close_timeout.store(millis, Ordering::Relaxed);
    }

    /// Takes a connection over. Returns at once; the slot is free when the
    /// server has let go.
    pub fn close(&self, mut leftover: Leftover) {
        leftover.slot.closing();
        let closer = self.clone();
        self.runtime.spawn(async move { closer.see_off(leftover).await });
    }

    async fn see_off(&self, leftover: Leftover) {
        let Leftover { mut connection, slot, lead, process_id, since, cancel } = leftover;
        let backend = (process_id, since);
        let Lead { node, tenure } = lead;
        let busy = cancel.is_some();
        let orderly = async {
            let close_within = Duration::from_millis(self.close_timeout.load(Ordering::Relaxed));
            let deadline = Instant::now() + close_within;
            if let Some(backend) = &cancel {
                self.cancel(backend, deadline).await;
            }
            // A server that reads no more still has to be waited for.
            let _ = timeout_at(deadline, say_goodbye(&mut connection)).await;
            let reading = self.read_to_end(&mut connection, cancel.as_deref());
            if !matches!(timeout_at(deadline, reading).await, Ok(Ok(()))) {
                self.insist(&mut connection, &node, backend).await;
            }
        };
        tokio::select! {
            biased;
            () = tenure.ended() => {}
            () = orderly => return drop(slot),
        }
        self.sever(connection, busy, &node, backend).await;
        drop(slot);
    }

    /// Ends a connection whose node has lost its role, without another byte.
    /// An idle backend notices at once. A busy one may have something of ours
    /// still on its way, which is thrown away, and notices when it has
    /// something to say, or is told. A node that does not answer takes its
    /// slots with it (decision 8).
    async fn sever(
        &self,
        mut connection: Connection,
        busy: bool,
        node: &Node,
        (process_id, since): Met,
    ) {
        let close_within = Duration::from_millis(self.close_timeout.load(Ordering::Relaxed));
        let deadline = Instant::now() + close_within;
        if busy {
            connection.sever();
        } else {
            connection.shut();
            if timeout_at(deadline, connection.read_to_end()).await.is_ok() {
                return;
            }
            connection.sever();
        }
        if process_id == 0 {
            return;
        }
        loop {
            let retry_at = Instant::now() + RETRY;
            match self.reaper.terminate(node, process_id, since).await {
                ReaperAnswer::Gone | ReaperAnswer::Unreachable => return,
                ReaperAnswer::Told => self.terminated.inc(),
            }
            sleep_until(retry_at).await;
        }
    }

    /// Reads to the end. Where one query was cancelled the next one of a
    /// pipeline begins, so the request is repeated meanwhile.
    async fn read_to_end(
        &self,
        connection: &mut Connection,
        cancel: Option<&Backend>,
    ) -> io::Result<()> {
        let mut reading = pin!(connection.read_to_end());
        let Some(backend) = cancel else { return reading.await };
        loop {
            if let Ok(end) = timeout(CANCEL_AGAIN, &mut reading).await {
                return end;
            }
            self.cancel(backend, Instant::now() + RETRY).await;
        }
    }

    async fn cancel(&self, backend: &Backend, deadline: Instant) {
        if let Err(error) = cancel(&self.dialer, backend, deadline).await {
            let node = &backend.node().address;
            tracing::debug!(%error, %node, "could not cancel an abandoned query");
        }
    }

    /// A login that did not get so far as to tell its process id is ended by the
    /// server's own `authentication_timeout`, whose longest value is this.
    async fn outlast_login(connection: &mut Connection) {
        let end = timeout(LONGEST_LOGIN, connection.read_to_end()).await;
        if matches!(&end, Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset) {
            sleep_until(Instant::now() + LONGEST_LOGIN).await;
        }
    }

    /// Reads on while the backend is told to end once a second. The slot is
    /// held as long as it may be there: also when its node does not answer.
    async fn insist(&self, connection: &mut Connection, node: &Node, (process_id, since): Met) {
        if process_id == 0 {
            return Self::outlast_login(connection).await;
        }
        loop {
            let answer = self.reaper.terminate(node, process_id, since).await;
            tracing::info!(
                service = %node.service, node = %node.address, process_id, ?answer,
                "a server process had not closed in time and is being terminated"
            );
            match answer {
                ReaperAnswer::Gone => return,
                ReaperAnswer::Told => self.terminated.inc(),
                ReaperAnswer::Unreachable => {}
            }
            let retry_at = Instant::now() + RETRY;
            if matches!(timeout(RETRY, connection.read_to_end()).await, Ok(Ok(()))) {
                return;
            }
            sleep_until(retry_at).await;
        }
    }
}

/// Where the client has said Terminate itself, and has closed, nothing can be
/// sent any more.
async fn say_goodbye(connection: &mut Connection) -> io::Result<()> {
    if connection.is_shut() {
        return Ok(());
    }
    connection.send(&TERMINATE).await?;
    connection.close().await
}

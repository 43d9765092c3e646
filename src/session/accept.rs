//! Accepts connections. Nothing a client or the system does ends this loop:
//! only the shutdown does (trap A-21).
//!
//! A client of this very process comes in here too, by [`bring_in`]: it goes
//! the way of everybody, and has come over a unix socket.

use std::io;
use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::{Arrived, FrontDoor, serve};
use crate::domain::{ClientAddress, PoolMode};
use crate::net::{Listener, Socket};
use crate::shutdown::Phase;

/// After an error of `accept()`: long enough not to spin, short enough not to
/// be noticed.
const PAUSE: Duration = Duration::from_millis(20);

/// The descriptors that clients and their server connections may use; the
/// rest of the process's limit is kept for the admin socket, the metrics and
/// the management connections.
#[derive(Debug, Clone)]
pub struct Descriptors(Arc<Semaphore>);

/// Descriptors of one client: its own, and its server connection's.
const PER_CLIENT: u64 = 2;

impl Descriptors {
    /// As many clients as `limit` descriptors allow after `reserved` are kept
    /// back, but at least one.
    #[must_use]
    pub fn new(limit: u64, reserved: u64) -> Self {
        let clients = (limit.saturating_sub(reserved) / PER_CLIENT).max(1);
        let most = Semaphore::MAX_PERMITS;
        Self(Arc::new(Semaphore::new(usize::try_from(clients).unwrap_or(most).min(most))))
    }

    /// Clients that there are descriptors for.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.available_permits()
    }
}

/// Accepts clients until the shutdown. Those beyond the descriptors wait in
/// the kernel's backlog; strangers beyond the cap are closed at once.
pub async fn accept(door: Arc<FrontDoor>, listener: Listener, mode: PoolMode) {
    let stopping = door.shutdown.clone();
    tokio::select! {
        () = accept_all(door, listener, mode) => {}
        () = stopping.reached(Phase::Stopping) => {}
    }
}

async fn accept_all(door: Arc<FrontDoor>, listener: Listener, mode: PoolMode) {
    loop {
        let Ok(permit) = Arc::clone(&door.descriptors.0).acquire_owned().await else {
            return;
        };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                report(&door, &error);
                sleep(PAUSE).await;
                continue;
            }
        };
        begin(&door, (socket, peer), mode, permit);
    }
}

fn begin(
    door: &Arc<FrontDoor>,
    (socket, peer): (Socket, ClientAddress),
    listener: PoolMode,
    permit: OwnedSemaphorePermit,
) {
    door.metrics.accepted.inc();
    let Ok(stranger) = door.strangers.admit(door.policy.load().caps) else {
        door.metrics.crowded_out.inc();
        return;
    };
    let door = Arc::clone(door);
    tokio::spawn(async move {
        serve(door, Arrived { socket, peer, listener, stranger }).await;
        drop(permit);
    });
}

/// Brings in a client of this process. Must be called on the data path's
/// runtime; the client's end of the socket does not block.
///
/// # Errors
/// As the system; `WouldBlock` if there are descriptors for nobody more.
pub fn bring_in(door: &Arc<FrontDoor>, mode: PoolMode) -> io::Result<Pair> {
    let permit = Arc::clone(&door.descriptors.0).try_acquire_owned();
    let permit = permit.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
    let (ours, theirs) = Pair::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let socket = Socket::Unix(UnixStream::from_std(ours)?);
    begin(door, (socket, ClientAddress::Local), mode, permit);
    Ok(theirs)
}

/// A client that was gone before it was accepted is nothing to report.
fn report(door: &FrontDoor, error: &io::Error) {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !gone.contains(&error.kind()) {
        door.metrics.accept_errors.inc();
        tracing::warn!(%error, "could not accept a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a21_some_descriptors_are_kept_back() {
        assert_eq!(Descriptors::new(64, 40).clients(), 12);
        assert_eq!(Descriptors::new(10, 40).clients(), 1);
        assert!(Descriptors::new(u64::MAX, 40).clients() > 1_000_000);
    }
}

//! Accepts connections. Nothing a client or the system does ends this loop:
//! only the shutdown does (trap A-21).
//!
//! A client of this very process comes in here too, by [`bring_in`]: it goes
//! the way of everybody, and has come over a unix socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::{Arrived, FrontDoor, serve};
use crate::domain::{ClientAddress, PoolMode};
use crate::net::socket::Detached;
use crate::net::{Listener, Socket, Worker};
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
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                report(&door, &error);
                sleep(PAUSE).await;
                continue;
            }
        };
        let (socket, peer) = accepted;
        begin(&door, (Accepted::Here(socket), peer), mode, permit);
    }
}

/// A client's socket, and who watches it.
enum Accepted {
    Here(Socket),
    ByNobody(Detached),
}

impl Accepted {
    /// Watched by nobody, if it is for another worker than this.
    fn bound_for(self, worker: Worker) -> io::Result<Self> {
        match self {
            Self::Here(socket) if worker != Worker::here() => socket.detach().map(Self::ByNobody),
            accepted => Ok(accepted),
        }
    }

    /// Watched by the worker that this is called on.
    fn arrive(self) -> io::Result<Socket> {
        match self {
            Self::Here(socket) => Ok(socket),
            Self::ByNobody(socket) => socket.attach(),
        }
    }
}

fn begin(
    door: &Arc<FrontDoor>,
    (socket, peer): (Accepted, ClientAddress),
    listener: PoolMode,
    permit: OwnedSemaphorePermit,
) {
    door.metrics.accepted.inc();
    let Ok(stranger) = door.strangers.admit(door.policy.load().caps) else {
        door.metrics.crowded_out.inc();
        return;
    };
    let door = Arc::clone(door);
    let place = door.workers.assign();
    let Ok(socket) = socket.bound_for(place.worker()) else { return };
    // Boxed, since the runtime moves a task's future about once it is done.
    place.runtime().spawn(Box::pin(async move {
        let Ok(socket) = socket.arrive() else { return };
        serve(door, Arrived { socket, peer, listener, stranger }).await;
        drop((permit, place));
    }));
}

/// Brings in a client of this process; its end of the socket does not block.
///
/// # Errors
/// As the system; `WouldBlock` if there are descriptors for nobody more.
pub fn bring_in(door: &Arc<FrontDoor>, mode: PoolMode) -> io::Result<UnixStream> {
    let permit = Arc::clone(&door.descriptors.0).try_acquire_owned();
    let permit = permit.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    begin(door, (Accepted::ByNobody(Detached::Unix(ours)), ClientAddress::Local), mode, permit);
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

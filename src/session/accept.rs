//! Accepts connections. Nothing a client or the system does ends this loop:
//! only the shutdown does (trap A-21).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{Arrived, FrontDoor, serve};
use crate::domain::PoolMode;
use crate::net::Listener;
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
pub async fn accept(
    door: Arc<FrontDoor>,
    listener: Listener,
    mode: PoolMode,
    descriptors: Descriptors,
) {
    let stopping = door.shutdown.clone();
    tokio::select! {
        () = accept_all(door, listener, mode, descriptors) => {}
        () = stopping.reached(Phase::Stopping) => {}
    }
}

async fn accept_all(
    door: Arc<FrontDoor>,
    listener: Listener,
    listener_mode: PoolMode,
    descriptors: Descriptors,
) {
    loop {
        let Ok(permit) = Arc::clone(&descriptors.0).acquire_owned().await else {
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
        door.metrics.accepted.inc();
        let Ok(stranger) = door.strangers.admit(door.policy.load().caps) else {
            door.metrics.crowded_out.inc();
            continue;
        };
        let (door, listener) = (Arc::clone(&door), listener_mode);
        tokio::spawn(async move {
            serve(door, Arrived { socket, peer, listener, stranger }).await;
            drop(permit);
        });
    }
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

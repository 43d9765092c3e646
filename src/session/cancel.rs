//! Cancel requests (decision 37): they reach the query of the client that was
//! given the key, or nothing.
//!
//! The session's allowlist applies, wrong keys slow their sender down, and no
//! answer ever says which of these it was: PostgreSQL answers nothing either.
//! A request needs no slot, so it works when the plan is full (trap B-3).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::FrontDoor;
use super::door::random;
use super::introduce::Cancelling;
use crate::domain::{ClientAddress, ServiceName};
use crate::metrics::CancelOutcome;
use crate::upstream::cancel::{Backend, UnderWay, cancel};

/// How long a cancel request may take: PgBouncer's `cancel_wait_timeout`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a key for protocol 3.0 and 3.1.
const SHORT_KEY: usize = 4;
/// The format of long keys, so that later ones can be told apart.
const KEY_FORMAT: u8 = 1;
/// Which Postern of a fleet made the key; there is one.
const POSTERN_ID: u8 = 0;

/// What a key cancels: whatever its session is doing when it is used.
#[derive(Debug)]
pub struct CancelTarget {
    /// The session's service, for its allowlist.
    pub service: ServiceName,
    aim: Mutex<Aim>,
    /// Wakes a session that waits for a server connection.
    waker: AtomicWaker,
}

/// What a session is doing.
#[derive(Debug, Default)]
enum Aim {
    /// Nothing that could be cancelled.
    #[default]
    Nothing,
    /// It waits for a server connection.
    Waiting,
    /// It was told to wait no longer.
    Cancelled,
    /// It has the connection to this backend.
    Backend(Arc<Backend>),
}

impl CancelTarget {
    /// The target of a session that has no server connection yet.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self { service, aim: Mutex::default(), waker: AtomicWaker::new() }
    }

    /// The session has this backend now, if the server told a key for it.
    pub fn aim_at(&self, backend: Option<&Arc<Backend>>) {
        *self.lock() = backend.map_or(Aim::Nothing, |backend| Aim::Backend(Arc::clone(backend)));
    }

    /// The session waits for a server connection from now on.
    pub fn wait(&self) {
        *self.lock() = Aim::Waiting;
    }

    /// The session has no connection any more, and waits for none. Returns the
    /// backend it had if a cancel request for it is under way.
    pub fn aim_at_nothing(&self) -> Option<Arc<Backend>> {
        match std::mem::take(&mut *self.lock()) {
            Aim::Backend(backend) => Some(backend).filter(|backend| backend.is_being_cancelled()),
            Aim::Nothing | Aim::Waiting | Aim::Cancelled => None,
        }
    }

    /// Ready when a session that [waits](Self::wait) was told not to.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if matches!(*self.lock(), Aim::Cancelled) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A request came: to be sent on, or dealt with already.
    fn requested(&self) -> Result<UnderWay, CancelOutcome> {
        let mut aim = self.lock();
        match &*aim {
            Aim::Backend(backend) => return Ok(UnderWay::to(backend)),
            Aim::Waiting | Aim::Cancelled => *aim = Aim::Cancelled,
            Aim::Nothing => return Err(CancelOutcome::Idle),
        }
        drop(aim);
        self.waker.wake();
        Err(CancelOutcome::Forwarded)
    }

    fn lock(&self) -> MutexGuard<'_, Aim> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new key: 32 random bits, or format, Postern and 30 random bytes.
#[must_use]
pub fn cancel_key(long: bool) -> Vec<u8> {
    if long {
        let random: [u8; 30] = random();
        [&[KEY_FORMAT, POSTERN_ID], &random[..]].concat()
    } else {
        random::<SHORT_KEY>().to_vec()
    }
}

/// Deals with a request; the client's connection is closed when it is done,
/// which is what the client waits for.
pub async fn handle(door: &FrontDoor, cancelling: Cancelling) {
    let Cancelling { request, address, mut connection, stranger } = cancelling;
    let outcome = forward(door, request.process_id, request.key.expose(), address).await;
    door.metrics.cancel_handled(outcome);
    tracing::debug!(%address, ?outcome, "cancel request");
    let _ = connection.close().await;
    drop(stranger);
}

async fn forward(
    door: &FrontDoor,
    process_id: u32,
    key: &[u8],
    address: ClientAddress,
) -> CancelOutcome {
    let suspect = (address.network(), "cancel".into());
    if !door.guesses.wait(&suspect).is_zero() {
        return CancelOutcome::Limited;
    }
    let Some(target) = door.cancel_keys.find(process_id, key) else {
        door.guesses.failed(suspect);
        return CancelOutcome::UnknownKey;
    };
    let service = door.directory.service(&target.service);
    if !service.is_some_and(|service| service.allowlist.permits(&address)) {
        return CancelOutcome::NotPermitted;
    }
    let request = match target.requested() {
        Ok(request) => request,
        Err(outcome) => return outcome,
    };
    if request.backend().is_out_of_reach() {
        return CancelOutcome::Idle;
    }
    let deadline = Instant::now() + CANCEL_TIMEOUT;
    match cancel(&door.dialer, request.backend(), deadline).await {
        Ok(()) => CancelOutcome::Forwarded,
        Err(error) => {
            let node = &request.backend().node().address;
            tracing::info!(%node, %error, "could not forward a cancel request");
            CancelOutcome::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b07_keys_have_the_length_of_the_protocol_spoken() {
        assert_eq!(cancel_key(false).len(), 4);
        assert_eq!(cancel_key(true).len(), 32);
        assert_ne!(cancel_key(true), cancel_key(true));
    }
}

//! A node that does not take logins is tried by one client at a time, and not
//! too often: whatever number waits for it, it meets no herd when it comes
//! back (decision 31, trap E-16). As soon as one login succeeds, everybody may.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Between two logins that a node in trouble is tried with.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a node takes logins, and who finds out.
#[derive(Debug, Default)]
pub struct Trials {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// It does, as far as anybody knows.
    #[default]
    Well,
    /// It does not, and is tried again at this time.
    Trouble { next: Instant },
    /// It does not, and somebody is trying.
    Tried,
}

/// The right to try a login now. Dropped without a result, it goes to the next.
#[derive(Debug)]
#[must_use]
pub struct Trial {
    trials: Arc<Trials>,
    alone: bool,
}

impl Trials {
    /// The right to try a login: at once if the node is well, otherwise when it
    /// is one's turn. Cancel-safe.
    pub async fn turn(self: &Arc<Self>) -> Trial {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.take() {
                Ok(alone) => return Trial { trials: Arc::clone(self), alone },
                Err(None) => changed.await,
                Err(Some(next)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(next) => {}
                },
            }
        }
    }

    /// A turn, which is alone or not; or when to ask again.
    fn take(&self) -> Result<bool, Option<Instant>> {
        let mut state = self.lock();
        match *state {
            State::Well => Ok(false),
            State::Tried => Err(None),
            State::Trouble { next } if next > Instant::now() => Err(Some(next)),
            State::Trouble { .. } => {
                *state = State::Tried;
                Ok(true)
            }
        }
    }

    fn set(&self, to: State) {
        *self.lock() = to;
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    /// The node took the login, or refused it for the login's own sake.
    pub fn succeeded(mut self) {
        self.alone = false;
        if *self.trials.lock() != State::Well {
            self.trials.set(State::Well);
        }
    }

    /// The node does not take logins.
    pub fn failed(mut self) {
        self.alone = false;
        self.trials.set(State::Trouble { next: Instant::now() + PAUSE });
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.alone {
            self.trials.set(State::Trouble { next: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn e16_a_node_in_trouble_meets_one_at_a_time_and_then_everybody() {
        let trials = Arc::new(Trials::default());
        trials.turn().await.failed();
        let (tries, began) = (Arc::new(AtomicU32::new(0)), Instant::now());
        let well_at = began + Duration::from_secs(1);
        let waiters = (0..5_000).map(|_| {
            let (trials, tries) = (Arc::clone(&trials), Arc::clone(&tries));
            tokio::spawn(async move {
                loop {
                    let turn = trials.turn().await;
                    if Instant::now() >= well_at {
                        return turn.succeeded();
                    }
                    tries.fetch_add(1, Ordering::Relaxed);
                    turn.failed();
                }
            })
        });
        for waiter in waiters.collect::<Vec<_>>() {
            waiter.await.unwrap();
        }
        let tries = tries.load(Ordering::Relaxed);
        assert!((40..=51).contains(&tries), "{tries} logins in a second");
        assert!(began.elapsed() < Duration::from_millis(1100));
    }

    #[tokio::test(start_paused = true)]
    async fn e19_a_trial_that_is_dropped_goes_to_the_next() {
        let trials = Arc::new(Trials::default());
        trials.turn().await.failed();
        let first = trials.turn().await;
        let second = tokio::spawn({
            let trials = Arc::clone(&trials);
            async move { trials.turn().await.succeeded() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        tokio::time::timeout(Duration::from_secs(9), second).await.expect("a turn").unwrap();
        assert_eq!(*trials.lock(), State::Well);
    }
}

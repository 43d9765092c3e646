//! A clock that is read without asking the system: tenths of seconds since
//! Postern started, advanced by a task outside the data path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The time since the start; behind by up to one tick.
#[derive(Debug, Clone, Default)]
pub struct CoarseClock(Arc<AtomicU32>);

impl CoarseClock {
    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.tenths() / 10
    }

    /// Tenths of seconds since the start.
    #[must_use]
    pub fn tenths(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the clock to whole seconds.
    pub fn set(&self, seconds: u32) {
        self.advance(Duration::from_secs(seconds.into()));
    }

    /// Sets the clock; its one ticking task calls this.
    pub fn advance(&self, since_start: Duration) {
        let tenths = u32::try_from(since_start.as_millis() / 100).unwrap_or(u32::MAX);
        self.0.store(tenths, Ordering::Relaxed);
    }
}

//! A clock that is read without asking the system: seconds since Postern
//! started, advanced by a task outside the data path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whole seconds since the start; off by up to one tick.
#[derive(Debug, Clone, Default)]
pub struct CoarseClock(Arc<AtomicU32>);

impl CoarseClock {
    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the clock; its one ticking task calls this.
    pub fn set(&self, seconds: u32) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

//! What writers have been told so far, for whoever watches them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Outcome;

/// Counts of what all writers were told.
#[derive(Debug, Default)]
pub struct Tally {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    disconnected: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Acknowledged => &self.acknowledged,
            Outcome::Failed(_) => &self.failed,
            Outcome::Unknown(_) => &self.unknown,
            Outcome::Disconnected => &self.disconnected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows whose commit was acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Rows that were reported as not committed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Rows whose outcome was reported as unknown.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Connections that writers lost.
    #[must_use]
    pub fn disconnected(&self) -> u64 {
        self.disconnected.load(Ordering::Relaxed)
    }
}

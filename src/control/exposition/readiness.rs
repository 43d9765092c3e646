//! Whether this Postern should be sent clients.
//!
//! The answer depends on Postern alone and never on a customer's node: one
//! customer's outage must not take the front door from all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::shutdown::{Phase, Shutdown};

/// What readiness depends on; clones speak of the same process.
#[derive(Debug, Clone)]
pub struct Readiness {
    steps: Arc<Steps>,
    shutdown: Shutdown,
}

#[derive(Debug, Default)]
struct Steps {
    listening: AtomicBool,
    published: AtomicBool,
}

/// Why no client should be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The end has begun.
    #[error("draining: no new clients are taken")]
    Draining,
    /// Not all listeners are bound yet.
    #[error("starting: not all listeners are bound")]
    NotListening,
    /// No Directory has been published yet.
    #[error("starting: no directory of services is published")]
    NoDirectory,
}

impl Readiness {
    /// Not ready yet; over as soon as this shutdown begins.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { steps: Arc::default(), shutdown }
    }

    /// All listeners are bound.
    pub fn listeners_bound(&self) {
        self.steps.listening.store(true, Ordering::Relaxed);
    }

    /// A Directory has been published.
    pub fn directory_published(&self) {
        self.steps.published.store(true, Ordering::Relaxed);
    }

    /// Whether clients can be sent here.
    pub fn check(&self) -> Result<(), NotReady> {
        if self.shutdown.phase() != Phase::Running {
            return Err(NotReady::Draining);
        }
        if !self.steps.listening.load(Ordering::Relaxed) {
            return Err(NotReady::NotListening);
        }
        if !self.steps.published.load(Ordering::Relaxed) {
            return Err(NotReady::NoDirectory);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_needed_and_the_drain_ends_it() {
        let shutdown = Shutdown::default();
        let readiness = Readiness::new(shutdown.clone());
        assert_eq!(readiness.check(), Err(NotReady::NotListening));
        readiness.listeners_bound();
        assert_eq!(readiness.check(), Err(NotReady::NoDirectory));
        readiness.directory_published();
        assert_eq!(readiness.check(), Ok(()));
        shutdown.advance(Phase::Draining);
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }
}

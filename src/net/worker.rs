//! Which of the data path's threads something runs on.
//!
//! Each worker drives a runtime of its own, which watches the sockets that were
//! attached on it. A task that waits for a socket of another worker's works as
//! well, but is woken across threads for everything that comes; so sessions stay
//! where they began, and server connections come to them.

use std::cell::Cell;

/// One worker of the data path, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Worker(pub u16);

thread_local! {
    static HERE: Cell<Worker> = const { Cell::new(Worker(0)) };
}

impl Worker {
    /// The worker whose thread this is; the first, on any other thread.
    #[must_use]
    #[inline]
    pub fn here() -> Self {
        HERE.get()
    }

    /// Makes this thread the worker's.
    pub fn enter(self) {
        HERE.set(self);
    }
}

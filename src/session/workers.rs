//! The data path's workers, as far as clients are spread over them: each new one
//! goes to the worker with the fewest, and stays there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

use crate::net::Worker;

/// All workers; clones count the same clients.
#[derive(Debug, Clone)]
pub struct Workers(Arc<[Load]>);

#[derive(Debug)]
struct Load {
    runtime: Handle,
    clients: AtomicUsize,
}

/// A client's place on a worker, left by dropping it.
#[derive(Debug)]
#[must_use]
pub struct Assignment {
    workers: Workers,
    index: usize,
}

impl Workers {
    /// Workers with these runtimes and no clients.
    #[must_use]
    pub fn new(runtimes: impl IntoIterator<Item = Handle>) -> Self {
        let load = |runtime| Load { runtime, clients: AtomicUsize::new(0) };
        Self(runtimes.into_iter().map(load).collect())
    }

    /// A place on the worker with the fewest clients.
    pub fn assign(&self) -> Assignment {
        let clients = |load: &Load| load.clients.load(Ordering::Relaxed);
        let least = self.0.iter().enumerate().min_by_key(|(_, load)| clients(load));
        let index = least.map_or(0, |(index, _)| index);
        self.0[index].clients.fetch_add(1, Ordering::Relaxed);
        Assignment { workers: self.clone(), index }
    }
}

impl Assignment {
    /// The worker.
    ///
    /// # Panics
    /// Never: there are not so many.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker(u16::try_from(self.index).expect("workers are few"))
    }

    /// Where the client's task is to run.
    #[must_use]
    pub fn runtime(&self) -> Handle {
        self.workers.0[self.index].runtime.clone()
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.workers.0[self.index].clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_are_spread_evenly_as_they_come_and_go() {
        let workers = Workers::new([Handle::current(), Handle::current()]);
        let mut there: Vec<_> = (0..5).map(|_| workers.assign()).collect();
        assert_eq!(there.iter().map(|place| place.index).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
        there.retain(|place| place.index == 1);
        assert_eq!([workers.assign(), workers.assign()].map(|place| place.index), [0, 0]);
    }
}

//! The idle connections of one pool.

use crate::net::Worker;
use crate::pool::pooled::PooledServer;

/// Idle connections, with the workers that watch them, the one used last at
/// the end.
#[derive(Debug, Default)]
pub(super) struct Idle(Vec<(Worker, Box<PooledServer>)>);

impl Idle {
    pub(super) fn put(&mut self, server: Box<PooledServer>) {
        self.0.push((server.worker(), server));
    }

    /// The one used last of those that are watched here, or of all.
    pub(super) fn take(&mut self, here: Worker) -> Option<Box<PooledServer>> {
        let own = self.0.iter().rposition(|(worker, _)| *worker == here);
        let index = own.or(self.0.len().checked_sub(1))?;
        Some(self.0.remove(index).1)
    }

    /// The one that was unused longest.
    pub(super) fn take_oldest(&mut self) -> Option<Box<PooledServer>> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0).1) }
    }

    /// Takes out those of which `unwanted` says so.
    pub(super) fn extract(
        &mut self,
        mut unwanted: impl FnMut(&mut PooledServer) -> bool,
    ) -> impl Iterator<Item = Box<PooledServer>> {
        self.0.extract_if(.., move |(_, server)| unwanted(server)).map(|(_, server)| server)
    }
}

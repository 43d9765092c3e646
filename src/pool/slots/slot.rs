//! The right to one server connection, given back by dropping it.

use std::sync::Arc;

use super::NodeSlots;
use crate::pool::ledger::Use;

/// The right to one server connection on one node.
#[derive(Debug)]
#[must_use]
pub struct Slot {
    node: Arc<NodeSlots>,
    used_as: Use,
}

impl Slot {
    pub(super) fn new(node: &Arc<NodeSlots>, used_as: Use) -> Self {
        Self { node: Arc::clone(node), used_as }
    }

    /// The ledger has counted the use of its connection already.
    pub(super) fn counted_as(&mut self, used_as: Use) {
        self.used_as = used_as;
    }

    /// The connection of this slot is being closed; whoever would be turned
    /// away otherwise may wait for it.
    pub fn closing(&mut self) {
        self.use_as(Use::Closing);
    }

    /// The connection of this slot is open and lent.
    pub fn busy(&mut self) {
        self.use_as(Use::Busy);
    }

    /// The client keeps the connection.
    pub fn pinned(&mut self) {
        self.use_as(Use::Pinned);
    }

    /// The node it is on.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeSlots> {
        &self.node
    }

    fn use_as(&mut self, to: Use) {
        let from = std::mem::replace(&mut self.used_as, to);
        if from != to {
            self.node.change_ledger(|ledger| ledger.change(from, to));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let was = self.used_as;
        self.node.change_ledger(|ledger| ledger.release(was));
    }
}

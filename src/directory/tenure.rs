//! How long a connection to a node may be used: as long as the node keeps its
//! role (decisions 30 and 36).
//!
//! A [`Tenure`] is one node's time in one role. Every server connection holds
//! that under which it was opened, and asks it before each byte it sends: one
//! load of a flag. Publishing another primary ends the tenures of the old one
//! and of the new one within the publication itself, so that nobody who has
//! seen the new primary finds a usable connection to the old one.
//!
//! Invariant: a tenure that is over stays over. A node that takes up its role
//! again, or another one, gets a new tenure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::snapshot::Topology;
use crate::domain::{Epoch, NodeAddress};

/// One node's time in one role.
#[derive(Debug, Default)]
pub struct Tenure {
    over: AtomicBool,
    ended: Notify,
}

impl Tenure {
    /// Whether connections that were opened under it may be used no longer.
    #[must_use]
    #[inline]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits until it is over. Cancel-safe.
    pub async fn ended(&self) {
        let mut ended = std::pin::pin!(self.ended.notified());
        ended.as_mut().enable();
        if !self.is_over() {
            ended.await;
        }
    }

    /// Ends it; whoever waits for its end goes on.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }
}

/// The tenures of a service's nodes, carried from one snapshot to the next.
#[derive(Debug, Clone, Default)]
pub struct Tenures {
    by_node: HashMap<NodeAddress, Arc<Tenure>>,
    /// The last primary, also while there is none.
    primary: Option<NodeAddress>,
    epoch: Epoch,
}

impl Tenures {
    /// The tenure of a node now. Nodes that are not the service's have none
    /// that lasts.
    #[must_use]
    pub fn of(&self, node: &NodeAddress) -> Arc<Tenure> {
        self.by_node.get(node).cloned().unwrap_or_else(|| {
            let over = Tenure::default();
            over.end();
            Arc::new(over)
        })
    }

    /// The tenures with which a service goes on that now has these nodes and
    /// this topology, and those that are over with it.
    pub(super) fn succeeded<'n>(
        &self,
        nodes: impl Iterator<Item = &'n NodeAddress>,
        topology: &Topology,
    ) -> (Self, Vec<Arc<Tenure>>) {
        let primary = topology.primary.as_ref().ok().map(|node| &node.address);
        let another =
            primary.is_some() && self.primary.is_some() && primary != self.primary.as_ref();
        let succession = another || topology.epoch > self.epoch;
        let leaves = |node: &NodeAddress| {
            succession && (self.primary.as_ref() == Some(node) || primary == Some(node))
        };
        let keeps = |node: &NodeAddress| self.by_node.get(node).filter(|_| !leaves(node)).cloned();
        let by_node: HashMap<_, _> =
            nodes.map(|node| (node.clone(), keeps(node).unwrap_or_default())).collect();
        let is_over = |(node, tenure): &(&NodeAddress, &Arc<Tenure>)| {
            !by_node.get(*node).is_some_and(|kept| Arc::ptr_eq(kept, tenure))
        };
        let over = self.by_node.iter().filter(is_over).map(|(_, over)| Arc::clone(over)).collect();
        let next = Self {
            by_node,
            primary: primary.or(self.primary.as_ref()).cloned(),
            epoch: self.epoch.max(topology.epoch),
        };
        (next, over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Node, Pooling};
    use crate::domain::NodeTls;
    use crate::domain::refusal::Unavailable;

    fn address(name: &str) -> NodeAddress {
        format!("{name}:5432").parse().unwrap()
    }

    fn led_by(primary: Option<&str>, sequence: u64) -> Topology {
        let node = |name| Node {
            service: "orders".parse().unwrap(),
            address: address(name),
            tls: NodeTls::Prefer,
            authorities: None,
            capacity: 1,
            pooling: Pooling::default(),
        };
        let primary = primary.map(|name| Arc::new(node(name))).ok_or(Unavailable::Unreachable);
        let epoch = Epoch { sequence, ..Epoch::default() };
        Topology { primary, epoch, standbys: Vec::new() }
    }

    /// What a service of three nodes goes through, and whose tenures end.
    fn through(topologies: &[Topology]) -> Vec<Vec<&'static str>> {
        let names = ["a", "b", "c"];
        let nodes = names.map(address);
        let mut tenures = Tenures::default();
        let step = |topology| {
            let before = names.map(|name| tenures.of(&address(name)));
            let (next, over) = tenures.succeeded(nodes.iter(), topology);
            for tenure in &over {
                tenure.end();
            }
            tenures = next;
            let ended = names.into_iter().zip(before).filter(|(name, before)| {
                before.is_over() && !Arc::ptr_eq(before, &tenures.of(&address(name)))
            });
            ended.map(|(name, _)| name).collect()
        };
        topologies.iter().map(step).skip(1).collect()
    }

    #[test]
    fn a_succession_ends_the_tenures_of_both_and_of_nobody_else() {
        let ended = through(&[led_by(Some("a"), 1), led_by(Some("a"), 1), led_by(Some("b"), 2)]);
        assert_eq!(ended, [vec![], vec!["a", "b"]]);
    }

    #[test]
    fn a_time_without_a_primary_ends_nothing_until_another_follows() {
        let ended = through(&[
            led_by(Some("a"), 1),
            led_by(None, 1),
            led_by(Some("a"), 1),
            led_by(None, 1),
            led_by(Some("c"), 1),
        ]);
        assert_eq!(ended, [vec![], vec![], vec![], vec!["a", "c"]]);
    }

    #[test]
    fn the_same_node_on_another_timeline_begins_anew() {
        let ended = through(&[led_by(Some("a"), 1), led_by(Some("a"), 2), led_by(Some("a"), 1)]);
        assert_eq!(ended, [vec!["a"], vec![]]);
    }

    #[test]
    fn a_node_that_leaves_takes_its_connections_with_it() {
        let (a, b) = (address("a"), address("b"));
        let (tenures, _) = Tenures::default().succeeded([&a, &b].into_iter(), &led_by(None, 0));
        let of_b = tenures.of(&b);
        let (tenures, over) = tenures.succeeded([&a].into_iter(), &led_by(None, 0));
        assert!(over.len() == 1 && Arc::ptr_eq(&over[0], &of_b));
        assert!(tenures.of(&b).is_over() && !tenures.of(&a).is_over());
    }

    #[tokio::test]
    async fn its_end_wakes_whoever_waits_for_it() {
        let tenure = Arc::new(Tenure::default());
        let waiting = tokio::spawn({
            let tenure = Arc::clone(&tenure);
            async move { tenure.ended().await }
        });
        tokio::task::yield_now().await;
        tenure.end();
        waiting.await.unwrap();
        tenure.ended().await;
    }
}

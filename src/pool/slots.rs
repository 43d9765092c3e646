//! Slots: the ledger behind its mutex, and the permits it gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ledger::{Admission, Counts, Ledger, Ticket, Was};
use crate::directory::Node;
use crate::domain::{NodeAddress, ServiceName};

/// The slots of all nodes; clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    nodes: Arc<Mutex<HashMap<NodeKey, Arc<NodeSlots>>>>,
}

type NodeKey = (ServiceName, NodeAddress);

/// One node's counts, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotCounts {
    /// The service.
    pub service: ServiceName,
    /// The node.
    pub node: NodeAddress,
    /// The counts.
    pub counts: Counts,
}

#[derive(Debug, Default)]
struct NodeSlots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    waiters: HashMap<Ticket, oneshot::Sender<Slot>>,
}

/// The right to one server connection on one node.
#[derive(Debug)]
#[must_use]
pub struct Slot {
    node: Arc<NodeSlots>,
    was: Was,
}

/// No slot came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The counts when it was refused.
    pub counts: Counts,
}

impl Slots {
    /// A slot on this node for a session: at once, or as soon as a connection
    /// that is being closed has gone, within `wait`. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn session(&self, node: &Node, wait: Duration) -> Result<Slot, Refused> {
        let slots = self.of(node);
        let (ticket, receiver) = match slots.admit(node.capacity)? {
            Outcome::Granted(slot) => return Ok(slot),
            Outcome::Wait(ticket, receiver) => (ticket, receiver),
        };
        // Dropped at whatever point: the ticket leaves the queue, and a slot
        // that was sent meanwhile is dropped with the receiver.
        let _place = Place { node: Arc::clone(&slots), ticket };
        match timeout(wait, receiver).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Refused { counts: slots.lock().ledger.counts() }),
        }
    }

    /// The counts of all nodes that ever had a session.
    #[must_use]
    pub fn counts(&self) -> Vec<SlotCounts> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes
            .iter()
            .map(|((service, node), slots)| SlotCounts {
                service: service.clone(),
                node: node.clone(),
                counts: slots.lock().ledger.counts(),
            })
            .collect()
    }

    /// Forgets nodes that `keep` does not want and that hold nothing.
    pub fn retain(&self, keep: impl Fn(&ServiceName, &NodeAddress) -> bool) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|(service, node), slots| keep(service, node) || !slots.is_unused());
    }

    /// Tells the ledger of a node that its capacity has changed.
    pub fn set_capacity(&self, node: &Node) {
        let slots = self.of(node);
        let mut state = slots.lock();
        let granted = state.ledger.set_capacity(node.capacity);
        let ready: Vec<_> = granted.iter().filter_map(|t| state.waiters.remove(t)).collect();
        drop(state);
        for waiter in ready {
            let _ = waiter.send(Slot { node: Arc::clone(&slots), was: Was::Held });
        }
    }

    fn of(&self, node: &Node) -> Arc<NodeSlots> {
        let key = (node.service.clone(), node.address.clone());
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(nodes.entry(key).or_default())
    }
}

enum Outcome {
    Granted(Slot),
    Wait(Ticket, oneshot::Receiver<Slot>),
}

impl NodeSlots {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unused(&self) -> bool {
        let counts = self.lock().ledger.counts();
        counts.held + counts.closing + counts.waiting == 0
    }

    fn admit(self: &Arc<Self>, capacity: u32) -> Result<Outcome, Refused> {
        let mut state = self.lock();
        if state.ledger.counts().capacity == 0 {
            // The first session of this node; nobody can be waiting.
            let _ = state.ledger.set_capacity(capacity);
        }
        match state.ledger.admit() {
            Admission::Granted => {
                Ok(Outcome::Granted(Slot { node: Arc::clone(self), was: Was::Held }))
            }
            Admission::Wait(ticket) => {
                let (sender, receiver) = oneshot::channel();
                state.waiters.insert(ticket, sender);
                Ok(Outcome::Wait(ticket, receiver))
            }
            Admission::Full => Err(Refused { counts: state.ledger.counts() }),
        }
    }

    /// Gives a slot back and hands it to whoever waits for it. A waiter who
    /// has just gone drops what he is handed, which gives it to the next.
    fn release(self: &Arc<Self>, was: Was) {
        let mut state = self.lock();
        let waiter = state.ledger.release(was).and_then(|ticket| state.waiters.remove(&ticket));
        drop(state);
        if let Some(waiter) = waiter {
            let _ = waiter.send(Slot { node: Arc::clone(self), was: Was::Held });
        }
    }
}

impl Slot {
    /// The connection of this slot is being closed; whoever is turned away
    /// otherwise may wait for it.
    pub fn closing(&mut self) {
        if self.was == Was::Held {
            self.node.lock().ledger.close();
            self.was = Was::Closing;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.node.release(self.was);
    }
}

/// A place in the queue, left by dropping it.
struct Place {
    node: Arc<NodeSlots>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.node.lock();
        state.ledger.abandon(self.ticket);
        // If the ticket was granted but not yet sent, the sender's `send`
        // fails or the receiver drops the slot: either way it goes back.
        let waiter = state.waiters.remove(&self.ticket);
        drop(state);
        drop(waiter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::NodeTls;

    fn node(capacity: u32) -> Node {
        Node {
            service: "orders".parse().unwrap(),
            address: "127.0.0.1:5432".parse().unwrap(),
            tls: NodeTls::Prefer,
            authorities: None,
            capacity,
        }
    }

    fn used(slots: &Slots) -> (u32, u32, u32) {
        let counts = slots.counts()[0].counts;
        (counts.held, counts.closing, counts.waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn c05_a_closing_slot_goes_to_the_one_who_waits() {
        let (slots, node, wait) = (Slots::default(), node(1), Duration::from_secs(1));
        let mut slot = slots.session(&node, wait).await.unwrap();
        assert!(slots.session(&node, wait).await.is_err());
        slot.closing();
        let waiting = tokio::spawn({
            let (slots, node) = (slots.clone(), node.clone());
            async move { slots.session(&node, wait).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(used(&slots), (0, 1, 1));
        drop(slot);
        let slot = waiting.await.unwrap().unwrap();
        assert_eq!(used(&slots), (1, 0, 0));
        drop(slot);
        assert_eq!(used(&slots), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn e19_whoever_stops_waiting_leaves_nothing_behind() {
        let (slots, node) = (Slots::default(), node(1));
        let mut slot = slots.session(&node, Duration::ZERO).await.unwrap();
        slot.closing();
        let refused = slots.session(&node, Duration::from_millis(10)).await;
        assert!(refused.is_err());
        let mut dropped = Box::pin(slots.session(&node, Duration::from_secs(9)));
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        assert_eq!(used(&slots), (0, 1, 1));
        drop(slot);
        assert_eq!(used(&slots), (1, 0, 0));
        drop(dropped);
        assert_eq!(used(&slots), (0, 0, 0));
    }
}

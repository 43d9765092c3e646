//! Slots: the ledgers behind their mutexes, the permits they give, and the
//! pooled connections that nobody uses at the moment.
//!
//! A mutex is held for the time of a few counts, never across an await.

mod idle;
mod lending;
mod making_way;
mod pools;
mod slot;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::ledger::{Counts, Ledger, Limits, PoolId};
use super::pooled::PoolKey;
use super::trial::{Trial, Trials};
use crate::directory::{Node, Pooling};
use crate::domain::{NodeAddress, ServiceName};
use crate::state::routines::known::KnownRoutines;
use crate::state::schema::SchemaAge;
use idle::Idle;
pub use lending::Leased;
use pools::Pool;
pub use pools::Spare;
pub use slot::Slot;
use waiting::Cells;
pub use waiting::{Grant, Waiting};

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

/// One node's slots and idle connections.
#[derive(Debug, Default)]
pub struct NodeSlots {
    state: Mutex<State>,
    /// A server let a role in without a password.
    unproven: AtomicBool,
    trials: Arc<Trials>,
    /// The node's settings, as of its last publication that somebody saw.
    pooling: ArcSwap<Pooling>,
    schema: SchemaAge,
    /// By database.
    routines: Mutex<HashMap<Bytes, Arc<KnownRoutines>>>,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    ids: HashMap<PoolKey, PoolId>,
    pools: FxHashMap<PoolId, Pool>,
    last_id: u32,
    /// Idle connections, the one used last at the end.
    idle: FxHashMap<PoolId, Idle>,
    waiters: Cells,
    /// Pools whose role may not log in with their credential any more.
    retired: HashSet<PoolId>,
}

/// No slot came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The counts when it was refused.
    pub counts: Counts,
}

impl Slots {
    /// A slot on this node for a session: at once, or as soon as a connection
    /// that is being closed has gone, within `wait`. Who has waited `since`
    /// longer ago is served first. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Panics
    /// Never: whoever names no pool is given no connection.
    pub async fn session(
        &self,
        node: &Node,
        since: Instant,
        wait: Duration,
    ) -> Result<Slot, Refused> {
        match self.session_of(node, None, since, wait).await? {
            Grant::Slot(slot) => Ok(slot),
            Grant::Connection(_) => unreachable!("no pool was named"),
        }
    }

    /// The same, or a connection of this pool.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn session_of(
        &self,
        node: &Node,
        pool: Option<PoolId>,
        since: Instant,
        wait: Duration,
    ) -> Result<Grant, Refused> {
        let slots = self.of(node);
        match slots.admit_session(pool, since)? {
            Leased::Now(grant) => Ok(grant),
            Leased::Later(waiting) => {
                let granted = tokio::time::timeout(wait, waiting).await;
                granted.map_err(|_| Refused { counts: slots.counts() })
            }
        }
    }

    /// The slots of a node, with the limits that the node has now.
    #[must_use]
    pub fn of(&self, node: &Node) -> Arc<NodeSlots> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = nodes.get(&(node.service.clone(), node.address.clone())) {
            let slots = Arc::clone(slots);
            drop(nodes);
            slots.follow(node);
            return slots;
        }
        let slots = Arc::new(NodeSlots::default());
        slots.follow(node);
        nodes.insert((node.service.clone(), node.address.clone()), Arc::clone(&slots));
        slots
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
                counts: slots.counts(),
            })
            .collect()
    }

    /// Every node's slots, with its service.
    #[must_use]
    pub fn by_service(&self) -> Vec<(ServiceName, Arc<NodeSlots>)> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().map(|((service, _), slots)| (service.clone(), Arc::clone(slots))).collect()
    }

    /// Every node's slots, for the keeper.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<NodeSlots>> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().cloned().collect()
    }

    /// Closes idle connections of nodes that `keep` does not want, and forgets
    /// those of them that hold nothing.
    pub fn retain(&self, keep: impl Fn(&ServiceName, &NodeAddress) -> bool) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|(service, node), slots| {
            let kept = keep(service, node);
            if !kept {
                slots.close_idle(|_| true);
            }
            kept || !slots.is_unused()
        });
    }

    /// Tells the ledger of a node that its limits may have changed, and closes
    /// what waits for sessions that want none of it any more.
    pub fn set_limits(&self, node: &Node) {
        let slots = self.of(node);
        slots.keep_to(limits(node));
        if !node.pooling.session_reuse {
            slots.close_idle(|server| server.origin().is_some());
        }
    }
}

fn limits(node: &Node) -> Limits {
    Limits {
        capacity: node.capacity,
        pool_size: node.pooling.pool_size.unwrap_or(node.capacity),
        pooled_reserve: node.pooling.pooled_reserve,
    }
}

impl NodeSlots {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().ledger.counts()
    }

    /// The node's settings now. Those of a connection's own node are as old as
    /// the connection.
    #[must_use]
    pub fn pooling(&self) -> Guard<Arc<Pooling>> {
        self.pooling.load()
    }

    /// What was published of the node holds from now on.
    fn follow(self: &Arc<Self>, node: &Node) {
        if **self.pooling.load() != node.pooling {
            self.pooling.store(Arc::new(node.pooling));
        }
        self.keep_to(limits(node));
    }

    /// True once.
    pub(super) fn is_first_unproven(&self) -> bool {
        !self.unproven.swap(true, Ordering::Relaxed)
    }

    /// How old the schema on the node is, as far as Postern has seen it change.
    #[must_use]
    pub fn schema(&self) -> &SchemaAge {
        &self.schema
    }

    /// What is known of the routines of a pool's database.
    #[must_use]
    pub fn routines(&self, pool: PoolId) -> Arc<KnownRoutines> {
        let Some(database) = self.lock().database(pool) else {
            return Arc::new(KnownRoutines::new(self.schema.clone()));
        };
        let mut routines = self.routines.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(KnownRoutines::new(self.schema.clone()));
        Arc::clone(routines.entry(database).or_insert_with(new))
    }

    /// Time has passed since something was learnt of routines. Forgets those of
    /// databases to which there is no connection.
    pub(super) fn age_routines(&self, now: Instant) {
        let mut routines = self.routines.lock().unwrap_or_else(PoisonError::into_inner);
        routines.retain(|_, known| Arc::strong_count(known) > 1);
        for known in routines.values() {
            known.grow_old(now);
        }
    }

    /// The right to try a login on the node: at once, unless it is in trouble.
    /// Cancel-safe.
    pub async fn trial(&self) -> Trial {
        self.trials.turn().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unused(&self) -> bool {
        let counts = self.counts();
        counts.used() + counts.waiting == 0
    }
}

#[cfg(test)]
mod tests;

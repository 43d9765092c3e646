//! Slots: the ledgers behind their mutexes, the permits they give, and the
//! pooled connections that nobody uses at the moment.
//!
//! A mutex is held for the time of a few counts, never across an await.

mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::ledger::{Admission, Counts, GivenBack, Ledger, Limits, PoolId, Ticket, Use};
use super::pooled::{Greeting, PoolKey, PooledServer};
use super::trial::{Trial, Trials};
use crate::auth::client::Keys;
use crate::auth::credential::Credential;
use crate::directory::Node;
use crate::domain::{NodeAddress, ServiceName};
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
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    ids: HashMap<PoolKey, PoolId>,
    pools: FxHashMap<PoolId, Pool>,
    last_id: u32,
    /// Idle connections, the one used last at the end.
    #[allow(clippy::vec_box, reason = "they go from client to client as one pointer")]
    idle: FxHashMap<PoolId, Vec<Box<PooledServer>>>,
    waiters: Cells,
    /// Pools whose role may not log in with their credential any more.
    retired: HashSet<PoolId>,
}

/// What is known of a pool besides its idle connections.
#[derive(Debug)]
struct Pool {
    key: PoolKey,
    /// What logs its role in, as long as one of its clients is there.
    keys: Weak<Keys>,
    /// Held by each of its connections, and by each spare on its way.
    counted: Arc<()>,
    /// What its newest connection said at login.
    greeting: Option<Arc<Greeting>>,
    /// When a spare could not be opened.
    spare_failed: Option<Instant>,
}

/// A connection that a pool lacks, and the right to open it.
#[derive(Debug)]
pub struct Spare {
    /// The pool.
    pub pool: PoolId,
    /// What it is opened with.
    pub key: PoolKey,
    /// What logs its role in.
    pub keys: Arc<Keys>,
    /// Its slot.
    pub slot: Slot,
    /// Counts it while it is on its way.
    pub under_way: Arc<()>,
}

/// After how long a spare that could not be opened is tried again: PgBouncer's
/// `server_login_retry`.
const SPARE_RETRY: Duration = Duration::from_secs(15);

/// The right to one server connection on one node.
#[derive(Debug)]
#[must_use]
pub struct Slot {
    node: Arc<NodeSlots>,
    used_as: Use,
}

/// No slot came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The counts when it was refused.
    pub counts: Counts,
}

/// What a client that wants a pooled connection gets at once.
#[derive(Debug)]
pub enum Leased {
    /// An idle connection, a slot to open one with.
    Now(Grant),
    /// A place in the queue.
    Later(Waiting),
}

impl Slots {
    /// A slot on this node for a session: at once, or as soon as a connection
    /// that is being closed has gone, within `wait`. Who has waited `since`
    /// longer ago is served first. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn session(
        &self,
        node: &Node,
        since: Instant,
        wait: Duration,
    ) -> Result<Slot, Refused> {
        let slots = self.of(node);
        let waiting = match slots.admit_session(since)? {
            Leased::Now(Grant::Slot(slot)) => return Ok(slot),
            Leased::Now(Grant::Connection(_)) => unreachable!("a session is given slots"),
            Leased::Later(waiting) => waiting,
        };
        match tokio::time::timeout(wait, waiting).await {
            Ok(Grant::Slot(slot)) => Ok(slot),
            Ok(Grant::Connection(_)) | Err(_) => Err(Refused { counts: slots.counts() }),
        }
    }

    /// The slots of a node, with the limits that the node has now.
    #[must_use]
    pub fn of(&self, node: &Node) -> Arc<NodeSlots> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = nodes.get(&(node.service.clone(), node.address.clone())) {
            let slots = Arc::clone(slots);
            drop(nodes);
            slots.keep_to(limits(node));
            return slots;
        }
        let slots = Arc::new(NodeSlots::default());
        slots.keep_to(limits(node));
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

    /// Tells the ledger of a node that its limits may have changed.
    pub fn set_limits(&self, node: &Node) {
        self.of(node).keep_to(limits(node));
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

    /// True once.
    pub(super) fn is_first_unproven(&self) -> bool {
        !self.unproven.swap(true, Ordering::Relaxed)
    }

    /// The right to try a login on the node: at once, unless it is in trouble.
    /// Cancel-safe.
    pub async fn trial(&self) -> Trial {
        self.trials.turn().await
    }

    /// The pool of this key, and what logs its role in, which every client of
    /// it holds from now on; pools are numbered as they are first asked for.
    #[must_use]
    pub fn pool(&self, key: &PoolKey, keys: &Arc<Keys>) -> (PoolId, Arc<Keys>) {
        let mut state = self.lock();
        let State { ids, pools, last_id, .. } = &mut *state;
        let id = *ids.entry(key.clone()).or_insert_with(|| {
            *last_id += 1;
            PoolId(*last_id)
        });
        let pool = pools.entry(id).or_insert_with(|| Pool::new(key.clone()));
        let shared = pool.keys.upgrade().unwrap_or_else(|| Arc::clone(keys));
        pool.keys = Arc::downgrade(&shared);
        (id, shared)
    }

    /// The pools that have no client.
    pub(super) fn deserted(&self) -> HashSet<PoolId> {
        let state = self.lock();
        let deserted = state.pools.iter().filter(|(_, pool)| pool.keys.strong_count() == 0);
        deserted.map(|(id, _)| *id).collect()
    }

    /// Counts a connection of this pool, as long as it is held.
    #[must_use]
    pub(super) fn counted(&self, pool: PoolId) -> Arc<()> {
        self.lock().pools.get(&pool).map(|pool| Arc::clone(&pool.counted)).unwrap_or_default()
    }

    /// Forgets the pools that have neither a connection nor a client.
    pub(super) fn forget_unused(&self) {
        let mut state = self.lock();
        let State { ledger, ids, pools, idle, retired, .. } = &mut *state;
        pools.retain(|id, pool| {
            let used = Arc::strong_count(&pool.counted) > 1 || pool.keys.strong_count() > 0;
            if !used {
                ids.remove(&pool.key);
                idle.remove(id);
                retired.remove(id);
                ledger.forget(*id);
            }
            used
        });
    }

    /// The roles of pools with connections, and what they logged in with.
    pub(super) fn credentials(&self) -> HashSet<(String, Credential)> {
        let state = self.lock();
        let open = state.pools.values().filter(|pool| Arc::strong_count(&pool.counted) > 1);
        open.map(|pool| (pool.key.role().to_owned(), pool.key.credential())).collect()
    }

    /// A role may not log in with this credential any more: its idle
    /// connections are closed, the others when they come back.
    pub(super) fn retire(self: &Arc<Self>, role: &str, credential: Credential) {
        let mut state = self.lock();
        let State { pools, retired, .. } = &mut *state;
        for (id, pool) in pools.iter_mut() {
            if pool.key.credential() == credential && pool.key.role() == role {
                pool.greeting = None;
                retired.insert(*id);
            }
        }
        let retired = state.retired.clone();
        drop(state);
        self.close_idle(|server| retired.contains(&server.pool()));
    }

    /// What each pool with a client lacks of so many connections, as far as
    /// slots are free that nobody waits for.
    pub(super) fn spares(self: &Arc<Self>, least: u32) -> Vec<Spare> {
        let mut state = self.lock();
        let State { ledger, pools, retired, .. } = &mut *state;
        let mut spares = Vec::new();
        for (id, pool) in pools.iter().filter(|(id, _)| !retired.contains(id)) {
            let Some(keys) = pool.keys.upgrade() else { continue };
            let waits = pool.spare_failed.is_some_and(|failed| failed.elapsed() < SPARE_RETRY);
            while !waits && Arc::strong_count(&pool.counted) <= least as usize && ledger.spare() {
                spares.push(Spare {
                    pool: *id,
                    key: pool.key.clone(),
                    keys: Arc::clone(&keys),
                    slot: self.slot(Use::Opening),
                    under_way: Arc::clone(&pool.counted),
                });
            }
        }
        spares
    }

    /// A spare of this pool could not be opened.
    pub(super) fn spare_failed(&self, pool: PoolId) {
        if let Some(pool) = self.lock().pools.get_mut(&pool) {
            pool.spare_failed = Some(Instant::now());
        }
    }

    /// What a connection of this pool said at login, if there ever was one.
    #[must_use]
    pub fn greeting(&self, pool: PoolId) -> Option<Arc<Greeting>> {
        let greeting = self.lock().pools.get(&pool).and_then(|pool| pool.greeting.clone());
        greeting.filter(|greeting| !greeting.tenure.is_over())
    }

    /// A connection of this pool was opened and said this.
    pub fn greeted(&self, pool: PoolId, greeting: Greeting) {
        let mut state = self.lock();
        state.retired.remove(&pool);
        if let Some(pool) = state.pools.get_mut(&pool) {
            pool.greeting = Some(Arc::new(greeting));
        }
    }

    /// A connection of a pool, a slot to open one with, or a place in the
    /// queue, behind those who have waited `since` longer ago.
    ///
    /// # Panics
    /// If the ledger and the connections disagreed.
    #[must_use]
    pub fn lease(self: &Arc<Self>, pool: PoolId, since: Instant) -> Leased {
        let mut state = self.lock();
        match state.ledger.lease(pool, since, Instant::now()) {
            Admission::Idle => {
                let server = state.idle.get_mut(&pool).and_then(Vec::pop);
                drop(state);
                let mut server = server.expect("the ledger counts the idle connections");
                server.slot().used_as = Use::Busy;
                Leased::Now(Grant::Connection(server))
            }
            Admission::Granted => {
                drop(state);
                Leased::Now(Grant::Slot(self.slot(Use::Opening)))
            }
            Admission::Wait(ticket, evict) => Leased::Later(self.wait(state, ticket, evict)),
            Admission::Full => unreachable!("pools always wait"),
        }
    }

    /// A place in the queue, if that is what a client of this pool gets now.
    #[must_use]
    pub fn queue(self: &Arc<Self>, pool: PoolId, now: Instant) -> Option<Waiting> {
        let mut state = self.lock();
        let (ticket, evict) = state.ledger.queue(pool, now, now)?;
        Some(self.wait(state, ticket, evict))
    }

    /// An idle connection of a pool, if there is one.
    #[must_use]
    pub fn lease_idle(&self, pool: PoolId) -> Option<Box<PooledServer>> {
        let mut state = self.lock();
        let mut server = state.idle.get_mut(&pool)?.pop()?;
        state.ledger.lease_idle(pool);
        server.slot().used_as = Use::Busy;
        Some(server)
    }

    /// Takes back a lent connection on which nothing is left, and hands it to
    /// whoever waits for it.
    pub fn give_back(self: &Arc<Self>, mut server: Box<PooledServer>, now: Instant) {
        let pool = server.pool();
        let mut state = self.lock();
        if !state.retired.is_empty() && state.retired.contains(&pool) {
            drop(state);
            // The closer sees to it.
            return drop(server);
        }
        match state.ledger.give_back(pool, now) {
            GivenBack::Hand(ticket) => {
                state.waiters.deliver(ticket, Grant::Connection(server));
            }
            GivenBack::Keep => {
                server.slot().used_as = Use::Idle;
                server.idle_since = now;
                state.idle.entry(pool).or_default().push(server);
            }
            GivenBack::Close => {
                server.slot().used_as = Use::Closing;
                self.hand_out(&mut state);
                drop(state);
                drop(server);
            }
        }
    }

    /// Tells those who have waited since then that it takes long: from now on
    /// they watch their deadlines.
    pub fn remind_waiting(&self, since: Instant) {
        self.lock().waiters.remind(since);
    }

    /// Closes the idle connections of which `unwanted` says so.
    pub fn close_idle(self: &Arc<Self>, mut unwanted: impl FnMut(&mut PooledServer) -> bool) {
        let mut closed = Vec::new();
        let mut state = self.lock();
        let State { ledger, idle, .. } = &mut *state;
        for (pool, servers) in idle.iter_mut() {
            let gone = servers.extract_if(.., |server| unwanted(server));
            for mut server in gone {
                ledger.close_idle(*pool);
                server.slot().used_as = Use::Closing;
                server.uncount();
                closed.push(server);
            }
        }
        self.hand_out(&mut state);
        drop(state);
        drop(closed);
    }

    fn admit_session(self: &Arc<Self>, since: Instant) -> Result<Leased, Refused> {
        let mut state = self.lock();
        match state.ledger.admit_session(since, Instant::now()) {
            Admission::Granted => {
                drop(state);
                Ok(Leased::Now(Grant::Slot(self.slot(Use::Session))))
            }
            Admission::Wait(ticket, evict) => Ok(Leased::Later(self.wait(state, ticket, evict))),
            Admission::Full => Err(Refused { counts: state.ledger.counts() }),
            Admission::Idle => unreachable!("sessions are given slots"),
        }
    }

    /// Queues somebody, and closes the connection that the ledger chose to make
    /// room for him: the one of its pool that was unused longest.
    fn wait(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        ticket: Ticket,
        evict: Option<PoolId>,
    ) -> Waiting {
        let waiting = Waiting::new(self, &mut state.waiters, ticket, Instant::now());
        let victim = evict.and_then(|pool| state.idle.get_mut(&pool)).map(|idle| idle.remove(0));
        self.hand_out(&mut state);
        drop(state);
        if let Some(mut victim) = victim {
            victim.slot().used_as = Use::Closing;
        }
        waiting
    }

    /// What a plan or a look at the node has changed counts from now on.
    fn keep_to(self: &Arc<Self>, limits: Limits) {
        if self.lock().ledger.limits() != limits {
            self.change_ledger(|ledger| ledger.set_limits(limits));
        }
    }

    fn change_ledger(self: &Arc<Self>, change: impl FnOnce(&mut Ledger)) {
        let mut state = self.lock();
        change(&mut state.ledger);
        self.hand_out(&mut state);
    }

    /// Gives free slots to those who wait for them. The lock is held, so that
    /// somebody who stops waiting finds either his place in the queue or what
    /// he was given.
    fn hand_out(self: &Arc<Self>, state: &mut State) {
        for (ticket, used_as) in state.ledger.grants() {
            state.waiters.deliver(ticket, Grant::Slot(self.slot(used_as)));
        }
    }

    fn slot(self: &Arc<Self>, used_as: Use) -> Slot {
        Slot { node: Arc::clone(self), used_as }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unused(&self) -> bool {
        let counts = self.counts();
        counts.used() + counts.waiting == 0
    }
}

impl Pool {
    fn new(key: PoolKey) -> Self {
        Self { key, keys: Weak::new(), counted: Arc::default(), greeting: None, spare_failed: None }
    }
}

impl Slot {
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
            pooling: crate::directory::Pooling::default(),
        }
    }

    fn used(slots: &Slots) -> (u32, u32, u32) {
        let counts = slots.counts()[0].counts;
        (counts.session, counts.closing, counts.waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn c05_a_closing_slot_goes_to_the_one_who_waits() {
        let (slots, node, wait) = (Slots::default(), node(1), Duration::from_secs(1));
        let mut slot = slots.session(&node, Instant::now(), wait).await.unwrap();
        assert!(slots.session(&node, Instant::now(), wait).await.is_err());
        slot.closing();
        let waiting = tokio::spawn({
            let (slots, node) = (slots.clone(), node.clone());
            async move { slots.session(&node, Instant::now(), wait).await }
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
        let mut slot = slots.session(&node, Instant::now(), Duration::ZERO).await.unwrap();
        slot.closing();
        let refused = slots.session(&node, Instant::now(), Duration::from_millis(10)).await;
        assert!(refused.is_err());
        let mut dropped = Box::pin(slots.session(&node, Instant::now(), Duration::from_secs(9)));
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

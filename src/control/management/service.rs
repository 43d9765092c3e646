//! One service under watch: its nodes, its roles' verifiers, and what of both
//! is published.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::node::NodeWatch;
use super::pace::{Bustle, ROUND_WITHIN};
use super::publisher::Publisher;
use super::reigns::Reigns;
use super::topology::Throne;
use super::verifiers::Verifiers;
use crate::control::config::{self, Timeouts};
use crate::directory::{Node, Roster, Service};
use crate::domain::{Kind, NodeAddress, ServiceName};
use crate::metrics::Metrics;
use crate::routing::topology::lag::{History, Position};
use crate::routing::topology::{Leadership, Reign};

/// What all watches of one process share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) publisher: Publisher,
    pub(super) timeouts: ArcSwap<Timeouts>,
    /// The primaries of all services, on the disk.
    pub(super) reigns: Reigns,
    /// Counts failovers.
    pub(super) metrics: Metrics,
    /// Says whether a service has clients now.
    pub(super) roster: Roster,
}

/// What outlives a change of a service's nodes.
#[derive(Debug)]
pub(super) struct Memory {
    verifiers: Mutex<Verifiers>,
    /// There are questions to ask.
    pub(super) asked: Notify,
    needed_at: Mutex<Instant>,
    /// Who is the primary, and who was.
    pub(super) throne: Mutex<Throne>,
    /// What the service's store says of the leader.
    pub(super) leadership: Mutex<Leadership>,
    /// There is reason to ask the store.
    pub(super) doubted: Arc<Notify>,
    /// Where the primary was lately.
    pub(super) history: Mutex<History>,
}

impl Memory {
    /// Nothing known yet but the last primary.
    pub(super) fn new(reign: Reign, now: Instant) -> Self {
        Self {
            verifiers: Mutex::default(),
            asked: Notify::new(),
            needed_at: Mutex::new(now),
            throne: Mutex::new(Throne::new(reign, now)),
            leadership: Mutex::new(Leadership::ByTimeline),
            doubted: Arc::default(),
            history: Mutex::default(),
        }
    }

    /// A client was there at this time.
    pub(super) fn needed(&self, at: Instant) {
        *lock(&self.needed_at) = at;
    }

    /// The service has this store from now on. What another one has said
    /// counts until this one answers.
    pub(super) fn led_by(&self, store: Option<&config::Store>) {
        let mut leadership = lock(&self.leadership);
        match (&*leadership, store) {
            (_, None) => *leadership = Leadership::ByTimeline,
            (Leadership::ByTimeline, Some(_)) => *leadership = Leadership::Vacant,
            _ => {}
        }
    }

    fn idle(&self) -> Duration {
        lock(&self.needed_at).elapsed()
    }
}

/// One service under watch.
#[derive(Debug)]
pub(super) struct ServiceWatch {
    pub(super) name: ServiceName,
    pub(super) kind: Kind,
    /// The plan's connections on each node.
    pub(super) promised: u32,
    pub(super) nodes: Vec<Arc<NodeWatch>>,
    pub(super) memory: Arc<Memory>,
    /// Who says which node leads; none: timelines decide.
    pub(super) store: Option<Arc<config::Store>>,
    pub(super) common: Arc<Common>,
}

impl ServiceWatch {
    /// Whether this is the watch of such a service, for such a role.
    pub(super) fn fits(
        &self,
        service: &Service,
        role: &config::Management,
        store: Option<&config::Store>,
    ) -> bool {
        let same_nodes = self.nodes.len() == service.nodes.len()
            && self
                .nodes
                .iter()
                .zip(&service.nodes)
                .all(|(watch, node)| watch.link.leads_to(node, role));
        same_nodes
            && self.store.as_deref() == store
            && self.kind == service.kind
            && self.promised == service.plan.max_connections.get()
    }

    /// The tasks that keep the watch up to date, until they are aborted. Must
    /// be called on the control runtime.
    pub(super) fn spawn(self: &Arc<Self>) -> Tasks {
        let watching = self.nodes.iter().map(|node| {
            let (service, node) = (Arc::clone(self), Arc::clone(node));
            tokio::spawn(async move { node.watch(&service).await }).abort_handle()
        });
        let resolving = self.nodes.iter().map(|node| {
            let (service, node) = (Arc::clone(self), Arc::clone(node));
            tokio::spawn(async move { node.follow_name(&service).await }).abort_handle()
        });
        let mut tasks: Vec<_> = watching.chain(resolving).collect();
        let service = Arc::clone(self);
        tasks.push(tokio::spawn(async move { service.answer_questions().await }).abort_handle());
        if let Some(store) = self.store.clone() {
            let service = Arc::clone(self);
            let following = async move { service.follow_leader(&store).await };
            tasks.push(tokio::spawn(following).abort_handle());
        }
        Tasks(tasks)
    }

    /// The verifiers that are known.
    pub(super) fn verifiers(&self) -> MutexGuard<'_, Verifiers> {
        lock(&self.memory.verifiers)
    }

    /// How long a connection to a node may take.
    pub(super) fn connect_within(&self) -> Duration {
        self.common.timeouts.load().server_connect
    }

    /// A client came. After a quiet time the nodes are looked at before
    /// anything else, for as long as a round may take (decision 31).
    /// Cancel-safe.
    pub(super) async fn rouse(&self) {
        let now = Instant::now();
        let bustle = self.bustle();
        self.memory.needed(now);
        if bustle != Bustle::Busy {
            self.wake();
        }
        if bustle == Bustle::Quiet {
            let round = async {
                for node in &self.nodes {
                    node.looked_at_since(now).await;
                }
            };
            // What a longer round shows is published when it is over.
            let _ = timeout(ROUND_WITHIN, round).await;
        }
    }

    /// How busy the service is, by its last login and by who is there now.
    pub(super) fn bustle(&self) -> Bustle {
        match Bustle::after(self.memory.idle()) {
            Bustle::Busy => Bustle::Busy,
            _ if !self.common.roster.seats_of(&self.name).is_empty() => {
                self.memory.needed(Instant::now());
                Bustle::Busy
            }
            calm => calm,
        }
    }

    /// How long the service has had no primary; none while it has one.
    pub(super) fn vacant_for(&self) -> Option<Duration> {
        let throne = self.throne();
        (!throne.seated).then(|| throne.since.elapsed())
    }

    /// The nodes in the order in which they are asked: the primary first.
    pub(super) fn nodes_to_ask(&self) -> Vec<&Arc<NodeWatch>> {
        let primary = self.primary();
        let is_primary = |node: &NodeWatch| {
            let primary = primary.as_ref();
            primary.is_some_and(|primary| primary.address == node.address)
        };
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| !is_primary(node));
        nodes
    }

    fn primary(&self) -> Option<Arc<Node>> {
        let service = self.common.publisher.directory().service(&self.name)?;
        service.topology.primary.clone().ok()
    }

    /// Whether this node is the published primary.
    pub(super) fn is_primary(&self, address: &NodeAddress) -> bool {
        self.primary().is_some_and(|primary| primary.address == *address)
    }

    /// The primary has written up to here.
    pub(super) fn wrote(&self, timeline: u32, position: Position) {
        lock(&self.memory.history).wrote(Instant::now(), timeline, position);
    }

    /// How far a standby is behind that has replayed up to here.
    pub(super) fn lag(&self, replayed: Position) -> Option<Duration> {
        lock(&self.memory.history).lag(Instant::now(), replayed)
    }

    /// Has all nodes looked at as soon as they may be.
    pub(super) fn wake(&self) {
        self.memory.doubted.notify_one();
        self.nodes.iter().for_each(|node| node.wake());
    }
}

/// Tasks that end when this is dropped.
#[derive(Debug)]
pub(super) struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

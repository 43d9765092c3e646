//! One service under watch: its nodes, its roles' verifiers, and what of both
//! is published.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::census::Instance;
use super::node::NodeWatch;
use super::pace::{Bustle, ROUND_WITHIN};
use super::publisher::Publisher;
use super::reigns::Reigns;
use super::rotations::Rotations;
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
    /// The turns of services that nobody uses.
    pub(super) quiet_looks: Semaphore,
    /// The passwords that were replaced and still work.
    pub(super) rotations: Rotations,
    /// Who this Postern is to the others of a node.
    pub(super) instance: Instance,
}

/// What outlives a change of a service's nodes.
#[derive(Debug)]
pub(super) struct Memory {
    verifiers: Mutex<Verifiers>,
    /// There are questions to ask.
    pub(super) asked: Notify,
    /// When a client was last there; none: there never was one.
    needed_at: Mutex<Option<Instant>>,
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
            needed_at: Mutex::default(),
            throne: Mutex::new(Throne::new(reign, now)),
            leadership: Mutex::new(Leadership::ByTimeline),
            doubted: Arc::default(),
            history: Mutex::default(),
        }
    }

    /// A client was there at this time.
    pub(super) fn needed(&self, at: Instant) {
        *lock(&self.needed_at) = Some(at);
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

    /// The time since the last client; none: there never was one.
    fn idle(&self) -> Option<Duration> {
        lock(&self.needed_at).map(|at| at.elapsed())
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

    /// Keeps the watch up to date; never ends by itself. One task for all of a
    /// service, and what is under way only now and then is boxed: thousands of
    /// services that nobody uses do nothing but wait here.
    pub(super) async fn keep(self: Arc<Self>) {
        let node = |node: &Arc<NodeWatch>| {
            let (service, node) = (Arc::clone(&self), Arc::clone(node));
            async move {
                tokio::join!(
                    node.watch(&service),
                    node.follow_name(&service),
                    node.follow_others(&service)
                )
            }
        };
        let nodes = join_all(self.nodes.iter().map(node));
        let leader = async {
            if let Some(store) = &self.store {
                Box::pin(self.follow_leader(store)).await;
            }
        };
        tokio::join!(nodes, self.answer_questions(), leader);
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

    /// How busy the service is, by its last login and by who is there now. One
    /// that is paused is about to get another primary: it counts as busy.
    pub(super) fn bustle(&self) -> Bustle {
        match Bustle::after(self.memory.idle()) {
            Bustle::Busy => Bustle::Busy,
            _ if self.is_paused() || self.common.roster.has_seats(&self.name) => {
                self.memory.needed(Instant::now());
                Bustle::Busy
            }
            calm => calm,
        }
    }

    fn is_paused(&self) -> bool {
        self.common.publisher.directory().is_paused(&self.name)
    }

    /// Somebody has published the service: what was seen of its nodes goes with
    /// it, and a pause wakes those who look at them.
    pub(super) fn published(&self) {
        self.publish();
        if Bustle::after(self.memory.idle()) != Bustle::Busy && self.is_paused() {
            self.memory.needed(Instant::now());
            self.wake();
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

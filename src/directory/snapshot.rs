//! The snapshot: all services, their plans, nodes and topology, as one value
//! that is replaced whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::pooling::Pooling;
use super::services::Services;
use super::tenure::{Tenure, Tenures};
use crate::domain::refusal::Unavailable;
use crate::domain::{Allowlist, Epoch, Kind, NodeAddress, NodeTls, Plan, ServiceName};

/// A service as the data path sees it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// PostgreSQL or vector.
    pub kind: Kind,
    /// The plan it is on.
    pub plan: Arc<Plan>,
    /// Who may come in.
    pub allowlist: Allowlist,
    /// Its nodes, in configured order.
    pub nodes: Vec<Arc<Node>>,
    /// Which of them serves what.
    pub topology: Topology,
    /// How long connections to them may be used. Whoever publishes leaves this
    /// alone: the publication itself fills it in.
    pub tenures: Tenures,
    /// Why nobody is served, whatever its nodes say: its owner's will.
    pub suspended: Option<Unavailable>,
    /// Whether its clients are held, because an operator says so. Whoever
    /// publishes a service that is there already leaves this alone: it stays
    /// until [`Directory::set_paused`].
    pub paused: bool,
}

#[cfg(test)]
impl Service {
    /// A service without nodes, for tests.
    pub(crate) fn without_nodes(name: ServiceName) -> Self {
        let plan = Plan {
            name: "test".into(),
            max_connections: std::num::NonZeroU32::MIN,
            nodes: 1,
            backup_retention_days: 0,
            multi_az: false,
        };
        Self {
            name,
            kind: Kind::PostgreSql,
            plan: Arc::new(plan),
            allowlist: Allowlist::default(),
            nodes: Vec::new(),
            topology: Topology::nobody(Unavailable::Unreachable),
            tenures: Tenures::default(),
            suspended: None,
            paused: false,
        }
    }
}

impl Service {
    /// The node that takes writes, or why nobody is served.
    ///
    /// # Errors
    /// What its clients hear.
    pub fn primary(&self) -> Result<&Arc<Node>, &Unavailable> {
        match self.withheld() {
            Some(reason) => Err(reason),
            None => self.topology.primary.as_ref(),
        }
    }

    /// Why nobody is served, whatever its nodes say.
    #[must_use]
    pub fn withheld(&self) -> Option<&Unavailable> {
        self.suspended.as_ref().or(self.paused.then_some(&Unavailable::Paused))
    }
}

/// A node and what Postern may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its identity and where it is.
    pub address: NodeAddress,
    /// How connections to it are encrypted.
    pub tls: NodeTls,
    /// PEM certificates of the authorities that `verify-ca` and `verify-full`
    /// trust.
    pub authorities: Option<Arc<str>>,
    /// Slots: this Postern's share of the plan's connections (decision 12).
    pub capacity: u32,
    /// How its connections are pooled.
    pub pooling: Pooling,
}

/// What is known about a service's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The node that takes writes, or why there is none.
    pub primary: Result<Arc<Node>, Unavailable>,
    /// That of the newest primary ever accepted, also while there is none: a
    /// connection opened under an older one is never used again.
    pub epoch: Epoch,
    /// The standbys that follow the primary and are fit to be read from.
    pub standbys: Vec<Standby>,
}

/// A standby that answers, replays and belongs to the service's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Where it is.
    pub node: Arc<Node>,
    /// The age of the oldest position of the primary that it has not replayed;
    /// none: not known (decision 36).
    pub lag: Option<Duration>,
}

impl Topology {
    /// What is known before anybody has looked: nobody serves, for this
    /// reason.
    #[must_use]
    pub fn nobody(reason: Unavailable) -> Self {
        Self { primary: Err(reason), epoch: Epoch::default(), standbys: Vec::new() }
    }
}

/// How hosts and options are turned into services.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// Lower-case domains below which services have host names.
    pub domains: Vec<String>,
    /// Whom a client means that names no service.
    pub default_service: Option<ServiceName>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The services by name.
    pub services: Services,
    /// How clients name them.
    pub routing: Routing,
}

/// The place where the current snapshot is found.
#[derive(Debug)]
pub struct Directory {
    current: ArcSwap<Snapshot>,
    version: AtomicU64,
    published: watch::Sender<u64>,
    /// One publication at a time: each begins with what the last one left.
    publishing: Mutex<()>,
    /// Services some of whose tenures have ended since somebody last asked.
    successions: Mutex<BTreeSet<ServiceName>>,
    succeeded: Notify,
}

impl Directory {
    /// A directory that begins with this snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let directory = Self {
            current: ArcSwap::default(),
            version: AtomicU64::new(0),
            published: watch::Sender::new(0),
            publishing: Mutex::new(()),
            successions: Mutex::default(),
            succeeded: Notify::new(),
        };
        directory.publish(|_| snapshot);
        directory
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Counts the publications: whoever remembers what he read looks anew when
    /// it has changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The service of this name, as it is now.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.current.load().services.get(name).cloned()
    }

    /// Replaces the snapshot by what `change` makes of the current one. Only
    /// the control plane calls this. When it returns, no connection to a node
    /// that has lost its role is usable any more.
    pub fn publish(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        self.replace(|before| {
            let mut next = change(before);
            keep_paused(before, &mut next);
            next
        });
    }

    fn replace(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load();
        let mut next = change(&before);
        let over = succeed(&before, &mut next);
        // Old tenures end first: nobody may see the new primary and still use
        // a connection to the old one.
        over.values().flatten().for_each(|tenure| tenure.end());
        self.current.store(Arc::new(next));
        self.version.fetch_add(1, Ordering::Release);
        self.published.send_modify(|version| *version += 1);
        if !over.is_empty() {
            self.lock_successions().extend(over.into_keys());
            self.succeeded.notify_one();
        }
    }

    /// Waits until tenures have ended, and says of which services. One task
    /// asks. Cancel-safe.
    pub async fn successions(&self) -> Vec<ServiceName> {
        loop {
            let services = std::mem::take(&mut *self.lock_successions());
            if !services.is_empty() {
                return services.into_iter().collect();
            }
            self.succeeded.notified().await;
        }
    }

    /// Whether a service's clients are held because an operator says so.
    #[must_use]
    pub fn is_paused(&self, service: &ServiceName) -> bool {
        self.service(service).is_some_and(|service| service.paused)
    }

    /// Holds a service's new transactions and logins from now on, or no longer.
    pub fn set_paused(&self, service: &ServiceName, paused: bool) {
        self.replace(|before| {
            let mut next = Snapshot::clone(before);
            if let Some(service) = next.services.get_mut(service) {
                Arc::make_mut(service).paused = paused;
            }
            next
        });
        // Whoever waits for a connection looks again.
        self.lock_successions().insert(service.clone());
        self.succeeded.notify_one();
    }

    fn lock_successions(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.successions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows publications: waits on the receiver, then reads anew.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}

/// Carries over who is paused from one snapshot to the next.
fn keep_paused(before: &Snapshot, next: &mut Snapshot) {
    let otherwise: Vec<_> = next
        .services
        .changed_since(&before.services)
        .filter_map(|(name, service)| {
            let paused = before.services.get(name)?.paused;
            (paused != service.paused).then(|| (name.clone(), paused))
        })
        .collect();
    for (name, paused) in otherwise {
        if let Some(service) = next.services.get_mut(&name) {
            Arc::make_mut(service).paused = paused;
        }
    }
}

/// Carries the tenures over from one snapshot to the next. Returns those that
/// are over, by service.
fn succeed(before: &Snapshot, next: &mut Snapshot) -> HashMap<ServiceName, Vec<Arc<Tenure>>> {
    let mut all_over = HashMap::new();
    let changed = next.services.changed_since(&before.services);
    let changed: Vec<_> = changed.map(|(name, _)| name.clone()).collect();
    for name in changed {
        let Some(service) = next.services.get_mut(&name) else { continue };
        let known = before.services.get(&name);
        let known = known.map(|known| known.tenures.clone()).unwrap_or_default();
        let nodes = service.nodes.iter().map(|node| &node.address);
        let (tenures, over) = known.succeeded(nodes, &service.topology);
        Arc::make_mut(service).tenures = tenures;
        if !over.is_empty() {
            all_over.insert(name, over);
        }
    }
    all_over
}

//! The snapshot: all services, their plans, nodes and topology, as one value
//! that is replaced whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::tenure::{Tenure, Tenures};

use crate::domain::refusal::Unavailable;
use crate::domain::{Allowlist, Epoch, Kind, NodeAddress, NodeTls, Pins, Plan, ServiceName};

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

/// How connections to a node are pooled: the service's settings, with the
/// names and defaults of PgBouncer where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Server connections that pooled clients may hold; none: the plan's.
    pub pool_size: Option<u32>,
    /// Slots that sessions leave to the pools.
    pub pooled_reserve: u32,
    /// Connections that each pool with a client keeps at least.
    pub min_pool_size: u32,
    /// Prepared statements kept on a server connection.
    pub max_prepared_statements: usize,
    /// How long an idle connection is kept; none: for ever.
    pub server_idle_timeout: Option<Duration>,
    /// How old a connection may become; none: as old as it likes.
    pub server_lifetime: Option<Duration>,
    /// How long a client waits for a connection; none: for ever.
    pub query_wait_timeout: Option<Duration>,
    /// Who serves the read-only endpoint.
    pub reading: Reading,
    /// After how long a waiting client is told that it waits; none: never.
    pub query_wait_notify: Option<Duration>,
    /// Of so many hand-overs of a server connection one is audited; none: none
    /// is.
    pub audit_every: Option<u32>,
    /// State that is refused instead of keeping a connection for it.
    pub refused_pins: Pins,
    /// What holds for each client, on either endpoint.
    pub clients: ClientLimits,
}

/// How many clients of the transaction endpoint a service has, and how long
/// each client of either endpoint may do what it does; none: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientLimits {
    /// Clients of the transaction endpoint.
    pub max_pooled_clients: Option<usize>,
    /// Nothing, outside a transaction.
    pub client_idle_timeout: Option<Duration>,
    /// Nothing, inside a transaction.
    pub idle_transaction_timeout: Option<Duration>,
    /// A transaction.
    pub transaction_timeout: Option<Duration>,
    /// A statement.
    pub query_timeout: Option<Duration>,
    /// Not taking what was sent to it.
    pub client_write_timeout: Option<Duration>,
}

/// Who serves the read-only endpoint (decision 36).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// How far a standby may be behind; none: as far as it likes.
    pub max_replica_lag: Option<Duration>,
    /// Whether the primary serves it while no standby can.
    pub fallback: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { max_replica_lag: Some(Duration::from_secs(30)), fallback: false }
    }
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            pool_size: None,
            pooled_reserve: 0,
            min_pool_size: 0,
            max_prepared_statements: 200,
            audit_every: None,
            refused_pins: Pins::NONE,
            server_idle_timeout: Some(Duration::from_secs(600)),
            server_lifetime: Some(Duration::from_secs(3600)),
            query_wait_timeout: Some(Duration::from_secs(120)),
            reading: Reading::default(),
            query_wait_notify: Some(Duration::from_secs(5)),
            clients: ClientLimits::default(),
        }
    }
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
    pub services: HashMap<ServiceName, Arc<Service>>,
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
    for (name, service) in &mut next.services {
        if let Some(known) = before.services.get(name)
            && known.paused != service.paused
        {
            Arc::make_mut(service).paused = known.paused;
        }
    }
}

/// Carries the tenures over from one snapshot to the next. Returns those that
/// are over, by service.
fn succeed(before: &Snapshot, next: &mut Snapshot) -> HashMap<ServiceName, Vec<Arc<Tenure>>> {
    let mut all_over = HashMap::new();
    for (name, service) in &mut next.services {
        let known = before.services.get(name);
        if known.is_some_and(|known| Arc::ptr_eq(known, service)) {
            continue;
        }
        let known = known.map(|known| known.tenures.clone()).unwrap_or_default();
        let nodes = service.nodes.iter().map(|node| &node.address);
        let (tenures, over) = known.succeeded(nodes, &service.topology);
        Arc::make_mut(service).tenures = tenures;
        if !over.is_empty() {
            all_over.insert(name.clone(), over);
        }
    }
    all_over
}

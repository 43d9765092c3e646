//! Everything Postern does on a node for itself, on the control runtime: it
//! looks verifiers up, watches who is the primary, ends backends that do not
//! end by themselves, and checks nodes for `postern check --connect`.
//!
//! ```text
//!  data path                      control runtime
//!  VerifierSource::lookup ──▶ service ─ asking ──┐
//!  EvidenceSink::suspect ───▶ node ──── probe ───┼─▶ link ─▶ session ─▶ node
//!  BackendReaper::terminate ▶ reaper ────────────┘   (one at most for each)
//!                             condition ─▶ publisher ─▶ Directory
//! ```
//!
//! What must stay true: a node has at most one management connection of this
//! process; nothing a client sent reaches it but a role's name, as a query's
//! parameter; every wait has a deadline; no password and no verifier gets into
//! an error or a log.
//!
//! The Directory says which services and nodes there are; [`Settings`] says
//! who Postern is there.

mod asking;
mod caught_up;
mod census;
mod condition;
mod error;
mod inspect;
mod leadership;
mod link;
mod lookup;
mod node;
mod pace;
mod probe;
mod publisher;
mod reaper;
mod reigns;
mod role_sql;
mod rotations;
mod service;
mod session;
pub(in crate::control) mod stream;
mod topology;
mod verifiers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::config::{self, Timeouts};
use super::exposition::{NodeRole, NodeState};
use crate::auth::client::Keys;
use crate::auth::rotation::Rotation;
use crate::auth::verifier::LookupFuture;
use crate::auth::{Lookup, LookupError, VerifierSource};
use crate::directory::{Directory, Node, Roster, Service, Snapshot};
use crate::domain::ServiceName;
use crate::metrics::Metrics;
use crate::pool::BackendReaper;
use crate::pool::closer::{ReaperAnswer, ReaperFuture};
use crate::routing::EvidenceSink;
use crate::upstream::Dialer;

use census::Instance;
use condition::Standing;
pub use error::NodeError;
pub use inspect::{Finding, inspect};
use link::Link;
use node::NodeWatch;
use publisher::Publisher;
pub use reigns::Reigns;
pub use role_sql::node_sql;
use rotations::Rotations;
use service::{Common, Memory, ServiceWatch};

/// Who Postern is on the nodes, and how long things may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The management role of each service.
    pub roles: HashMap<ServiceName, Arc<config::Management>>,
    /// Who says which node leads, of the services that have somebody.
    pub stores: HashMap<ServiceName, Arc<config::Store>>,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
}

/// Gives a service something, or takes it away.
fn set<T>(of: &Mutex<HashMap<ServiceName, Arc<T>>>, service: &ServiceName, value: Option<T>) {
    let mut of = lock(of);
    match value {
        Some(value) => drop(of.insert(service.clone(), Arc::new(value))),
        None => drop(of.remove(service)),
    }
}

impl From<&config::Settings> for Settings {
    fn from(settings: &config::Settings) -> Self {
        let role = |service: &config::Service| {
            (service.name.clone(), Arc::new(service.management.clone()))
        };
        let with_store = settings.services.iter().filter(|service| service.store.is_there());
        let store =
            |service: &config::Service| (service.name.clone(), Arc::new(service.store.clone()));
        Self {
            roles: settings.services.iter().map(role).collect(),
            stores: with_store.map(store).collect(),
            timeouts: settings.timeouts.clone(),
        }
    }
}

/// Looks after all services of a Directory. Dropped, it stops.
#[derive(Debug)]
pub struct Management {
    shared: Arc<Shared>,
    following: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    common: Arc<Common>,
    dialer: Dialer,
    runtime: Handle,
    roles: Mutex<HashMap<ServiceName, Arc<config::Management>>>,
    stores: Mutex<HashMap<ServiceName, Arc<config::Store>>>,
    /// What of the Directory has been taken in. Whoever takes more in holds it.
    followed: Mutex<Arc<Snapshot>>,
    /// Read for every login, replaced when services change.
    services: ArcSwap<HashMap<ServiceName, Arc<Watched>>>,
}

/// A watch with the task that keeps it. Dropped, it stops.
#[derive(Debug)]
struct Watched {
    watch: Arc<ServiceWatch>,
    keeping: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Management {
    /// Begins to look after the services of a directory, on the control
    /// runtime. From now on it follows what others publish there.
    #[must_use]
    pub fn start(
        directory: Arc<Directory>,
        roster: Roster,
        runtime: Handle,
        settings: Settings,
        reigns: Reigns,
        metrics: Metrics,
    ) -> Self {
        let mut published = directory.subscribe();
        let common = Common {
            publisher: Publisher::new(directory),
            timeouts: ArcSwap::from_pointee(settings.timeouts),
            reigns,
            metrics,
            roster,
            quiet_looks: Semaphore::new(pace::QUIET_LOOKS),
            rotations: Rotations::default(),
            instance: Instance::random(),
        };
        let shared = Arc::new(Shared {
            common: Arc::new(common),
            dialer: Dialer::default(),
            runtime,
            roles: Mutex::new(settings.roles),
            stores: Mutex::new(settings.stores),
            followed: Mutex::default(),
            services: ArcSwap::default(),
        });
        shared.follow();
        let following = Arc::clone(&shared);
        let following = shared.runtime.spawn(async move {
            while published.changed().await.is_ok() {
                following.follow();
            }
        });
        let following = following.abort_handle();
        Self { shared, following }
    }

    /// Takes over new settings. Called before the services that they belong to
    /// are published.
    pub fn update(&self, settings: Settings) {
        self.shared.common.timeouts.store(Arc::new(settings.timeouts));
        *lock(&self.shared.roles) = settings.roles;
        *lock(&self.shared.stores) = settings.stores;
        self.shared.follow_anew();
    }

    /// A role's password is about to be changed from here, with a grace time for
    /// the one before or without.
    pub fn begin_rotation(&self, service: &ServiceName, role: &str, rotation: Option<Rotation>) {
        let rotations = &self.shared.common.rotations;
        match rotation {
            Some(rotation) => rotations.begin(service, role, rotation),
            None => rotations.forget(service, role),
        }
    }

    /// A role's password was changed from here, if the node was told.
    pub fn end_rotation(&self, service: &ServiceName, role: &str, told: bool) {
        self.outdate(service, role);
        // Last, so that no answer from before the change has the last word.
        self.shared.common.rotations.settle(service, role, told);
    }

    /// Forgets a role's verifier, because it was changed from here: the next
    /// login asks the node.
    fn outdate(&self, service: &ServiceName, role: &str) {
        if let Some(watch) = self.shared.watch(service) {
            watch.verifiers().outdated(role, Instant::now());
        }
    }

    /// A role was made or dropped from here: whatever was known of one of its
    /// name counts no more.
    pub fn replace_role(&self, service: &ServiceName, role: &str) {
        self.shared.common.rotations.forget(service, role);
        self.outdate(service, role);
    }

    /// Goes on with the grace time of a rotation that an earlier process made.
    pub fn restore_rotation(&self, service: &ServiceName, role: &str, rotation: Rotation) {
        self.shared.common.rotations.restore(service, role, rotation);
    }

    /// Takes over who Postern is on the nodes of one service and who says which
    /// of them leads; nothing: the service is none any more. Called before the
    /// service is published, or after it is gone.
    pub fn update_service(&self, name: &ServiceName, declared: Option<&config::Service>) {
        let store = declared.map(|declared| &declared.store).filter(|store| store.is_there());
        set(&self.shared.stores, name, store.cloned());
        set(&self.shared.roles, name, declared.map(|declared| declared.management.clone()));
    }

    /// A service with what has been seen of its nodes: whoever publishes
    /// services puts them through this, so that a reload does not forget who
    /// is the primary.
    #[must_use]
    pub fn completed(&self, service: Service) -> Service {
        let watch = self.shared.watch(&service.name);
        let completed = watch.and_then(|watch| watch.completed(&service));
        completed.unwrap_or(service)
    }

    /// Who says which node of a service leads, if anybody does.
    #[must_use]
    pub fn store(&self, service: &ServiceName) -> Option<Arc<config::Store>> {
        lock(&self.shared.stores).get(service).cloned()
    }

    /// Waits until whoever is to be promoted has everything: the node of this
    /// address, every standby if a name is given that is no address, or any.
    /// Never ends if that does not come; the caller sets the deadline.
    pub async fn caught_up(&self, service: &ServiceName, to: Option<&str>) {
        match self.shared.watch(service) {
            Some(watch) => watch.caught_up(to).await,
            None => std::future::pending().await,
        }
    }

    /// How every node was last seen, by service and in configured order.
    #[must_use]
    pub fn node_states(&self) -> Vec<NodeState> {
        let services = self.shared.services.load();
        let mut watches: Vec<_> = services.values().map(|watched| &watched.watch).collect();
        watches.sort_by(|a, b| a.name.cmp(&b.name));
        let states = watches.into_iter().flat_map(|watch| {
            let state = |node: &Arc<NodeWatch>| node_state(watch, node);
            watch.nodes.iter().map(state)
        });
        states.collect()
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        self.following.abort();
        self.shared.services.store(Arc::default());
    }
}

fn node_state(watch: &ServiceWatch, node: &NodeWatch) -> NodeState {
    let standing = node.condition().standing();
    let role = match standing {
        Standing::Unseen => NodeRole::Unknown,
        Standing::Down => NodeRole::Down,
        Standing::Up(look) if look.writable() => NodeRole::Primary,
        Standing::Up(_) => NodeRole::Standby,
    };
    let look = match standing {
        Standing::Up(look) => Some(look),
        Standing::Unseen | Standing::Down => None,
    };
    NodeState {
        service: watch.name.clone(),
        node: node.address.clone(),
        role,
        timeline: look.and_then(|look| look.timeline),
        pgvector: look.is_some_and(|look| look.pgvector == Some(true)),
        other_posterns: look.map_or(0, |_| node.others.count()),
        decided: watch.throne().reason,
    }
}

impl Shared {
    fn watch(&self, service: &ServiceName) -> Option<Arc<ServiceWatch>> {
        let services = self.services.load();
        services.get(service).map(|watched| Arc::clone(&watched.watch))
    }

    fn node(&self, node: &Node) -> Option<Arc<NodeWatch>> {
        let watch = self.watch(&node.service)?;
        let mut nodes = watch.nodes.iter();
        nodes.find(|known| known.address == node.address).cloned()
    }

    /// Watches what the Directory says is there, no more and no less: takes in
    /// what has changed there since the last time.
    fn follow(&self) {
        let mut followed = lock(&self.followed);
        let now = self.common.publisher.directory().current();
        let before = std::mem::replace(&mut *followed, Arc::clone(&now));
        let changed: Vec<_> = now.services.changed_since(&before.services).collect();
        let gone: Vec<_> = now.services.gone_since(&before.services).collect();
        self.take_in(&changed, &gone);
    }

    /// The same, with new settings: everything may be otherwise.
    fn follow_anew(&self) {
        let mut followed = lock(&self.followed);
        let now = self.common.publisher.directory().current();
        let before = std::mem::replace(&mut *followed, Arc::clone(&now));
        let all: Vec<_> = now.services.iter().collect();
        let gone: Vec<_> = now.services.gone_since(&before.services).collect();
        self.take_in(&all, &gone);
    }

    fn take_in(&self, changed: &[(&ServiceName, &Arc<Service>)], gone: &[&ServiceName]) {
        let before = self.services.load_full();
        let fresh = changed.iter().filter_map(|(name, service)| {
            Some(((*name).clone(), self.watched(service, before.get(*name))?))
        });
        let fresh: Vec<_> = fresh.collect();
        if !fresh.is_empty() || !gone.is_empty() {
            let mut services = HashMap::clone(&before);
            services.extend(fresh);
            for name in gone {
                services.remove(*name);
            }
            self.services.store(Arc::new(services));
        }
        for name in gone {
            self.common.reigns.forget(name);
        }
        let services = self.services.load();
        let watches = changed.iter().filter_map(|(name, _)| services.get(*name));
        watches.for_each(|watched| watched.watch.published());
    }

    /// A watch of a service if it needs another than it has.
    fn watched(&self, service: &Service, known: Option<&Arc<Watched>>) -> Option<Arc<Watched>> {
        let name = &service.name;
        let Some(role) = lock(&self.roles).get(name).cloned() else {
            tracing::debug!(service = %name, "a service without a management role is not watched");
            return None;
        };
        let store = lock(&self.stores).get(name).cloned();
        let known = known.map(|known| &*known.watch);
        let fits = known.is_some_and(|watch| watch.fits(service, &role, store.as_deref()));
        (!fits).then(|| self.begin(service, &role, store, known))
    }

    /// Begins to watch a service, with what is known of it already.
    fn begin(
        &self,
        service: &Service,
        role: &Arc<config::Management>,
        store: Option<Arc<config::Store>>,
        known: Option<&ServiceWatch>,
    ) -> Arc<Watched> {
        let node = |node: &Arc<Node>| {
            let mut nodes = known.iter().flat_map(|known| &known.nodes);
            let same = nodes.find(|known| known.link.leads_to(node, role));
            same.cloned().unwrap_or_else(|| {
                let link = Link::new(Arc::clone(node), Arc::clone(role), self.dialer.clone());
                Arc::new(NodeWatch::new(node.address.clone(), link))
            })
        };
        let memory = known.map(|known| Arc::clone(&known.memory));
        let memory = memory.unwrap_or_else(|| self.memory(&service.name));
        memory.led_by(store.as_deref());
        let watch = Arc::new(ServiceWatch {
            name: service.name.clone(),
            kind: service.kind,
            promised: service.plan.max_connections.get(),
            nodes: service.nodes.iter().map(node).collect(),
            memory,
            store,
            common: Arc::clone(&self.common),
        });
        let keeping = self.runtime.spawn(Arc::clone(&watch).keep()).abort_handle();
        Arc::new(Watched { watch, keeping })
    }

    /// What is remembered of a service that begins to be watched.
    fn memory(&self, service: &ServiceName) -> Arc<Memory> {
        let reign = self.common.reigns.of(service);
        Arc::new(Memory::new(reign, Instant::now()))
    }

    async fn terminate(&self, node: &Node, process_id: u32, since: Instant) -> ReaperAnswer {
        let Some(watch) = self.node(node) else {
            return ReaperAnswer::Unreachable;
        };
        let timeouts = self.common.timeouts.load_full();
        let answer = watch.link.ask(timeouts.server_connect, |session| async move {
            reaper::terminate(&session, process_id, since.elapsed()).await
        });
        answer.await.unwrap_or_else(|error| {
            tracing::warn!(service = %node.service, node = %node.address, process_id, %error, "a backend could not be ended");
            ReaperAnswer::Unreachable
        })
    }
}

impl VerifierSource for Management {
    fn lookup<'a>(&'a self, service: &'a ServiceName, role: &'a str) -> LookupFuture<'a> {
        let watch = self.shared.watch(service);
        Box::pin(async move {
            let unwatched = || LookupError(NodeError::Unwatched.to_string());
            let lookup = watch.ok_or_else(unwatched)?.lookup(role).await?;
            Ok(self.shared.common.rotations.widen(service, role, lookup))
        })
    }

    fn known(&self, service: &ServiceName, role: &str) -> Option<Lookup> {
        let lookup = self.shared.watch(service)?.known(role)?;
        Some(self.shared.common.rotations.widen(service, role, lookup))
    }

    fn recheck(&self, service: &ServiceName, role: &str) -> Option<Lookup> {
        let lookup = self.shared.watch(service)?.recheck(role)?;
        Some(self.shared.common.rotations.widen(service, role, lookup))
    }

    fn keys(&self, service: &ServiceName, role: &str, proven: &Arc<Keys>) -> Arc<Keys> {
        let rotated = self.shared.common.rotations.keys(service, role, proven);
        rotated.unwrap_or_else(|| Arc::clone(proven))
    }

    fn is_rotating(&self, service: &ServiceName, role: &str) -> bool {
        self.shared.common.rotations.is_under_way(service, role)
    }

    fn doubt(&self, service: &ServiceName, role: &str) {
        if let Some(watch) = self.shared.watch(service) {
            watch.verifiers().doubt(role);
        }
    }

    fn iterations(&self, service: &ServiceName) -> u32 {
        let watch = self.shared.watch(service);
        watch.map_or(asking::DEFAULT_ITERATIONS, |watch| watch.iterations())
    }
}

impl EvidenceSink for Management {
    fn suspect(&self, node: &Node) {
        // Whoever follows a primary in trouble is another of its nodes.
        if let Some(watch) = self.shared.watch(&node.service) {
            watch.wake();
        }
    }
}

impl BackendReaper for Management {
    fn terminate<'a>(
        &'a self,
        node: &'a Node,
        process_id: u32,
        since: Instant,
    ) -> ReaperFuture<'a> {
        let (shared, node) = (Arc::clone(&self.shared), node.clone());
        let runtime = self.shared.runtime.clone();
        let asking = runtime.spawn(async move { shared.terminate(&node, process_id, since).await });
        Box::pin(async move { asking.await.unwrap_or(ReaperAnswer::Unreachable) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

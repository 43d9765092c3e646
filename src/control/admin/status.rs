//! The state of a Postern as `postern status` shows it, and how it is found.
//!
//! It is found by looking, like the metrics, but whole: every service, also
//! those at rest.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::server::Controls;
use crate::control::exposition::{NodeRole, NodeState};
use crate::directory::roster::Activity;
use crate::directory::{Node, Roster, Service};
use crate::domain::{Kind, NodeAddress, PoolMode, Refusal, ServiceName};
use crate::pool::ledger::Counts;
use crate::routing::topology::Reason;
use crate::shutdown::Phase;

/// A Postern at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since its start.
    pub uptime_seconds: u32,
    /// How far the orderly stop has come.
    pub phase: Stage,
    /// Where it listens.
    pub listeners: Vec<Listening>,
    /// Its clients, over all services.
    pub clients: ClientCounts,
    /// Its services, by name.
    pub services: Vec<ServiceStatus>,
}

/// How far the orderly stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Clients come and go.
    Running,
    /// No new clients; those that are busy may finish.
    Draining,
    /// The rest are leaving.
    Stopping,
}

/// A listener of the data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `session` or `transaction`.
    pub endpoint: String,
    /// As in the configuration.
    pub address: String,
}

/// Clients by what they are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCounts {
    /// Authenticated; the server connection is being made.
    pub login: u32,
    /// Nothing under way, outside a transaction.
    pub idle: u32,
    /// A statement is under way.
    pub active: u32,
    /// Nothing under way, inside a transaction.
    pub idle_in_transaction: u32,
    /// A statement waits for a server connection.
    #[serde(default)]
    pub waiting: u32,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// `postgresql` or `vector`.
    pub kind: String,
    /// The name of its plan.
    pub plan: String,
    /// The node that takes the writes.
    pub primary: Option<String>,
    /// Why none does, in the words that clients hear.
    pub unavailable: Option<String>,
    /// The newest primary's, `generation.timeline.sequence`.
    pub epoch: String,
    /// What decided who the primary is, or that nobody is.
    pub decided: String,
    /// Its nodes, in configured order.
    pub nodes: Vec<NodeStatus>,
    /// Its clients.
    pub clients: ClientCounts,
}

/// A node of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Where it is.
    pub address: String,
    /// What it was when it was last looked at.
    pub role: NodeRole,
    /// The timeline that it writes or receives.
    pub timeline: Option<u32>,
    /// How old is what a standby has not replayed, in whole seconds.
    pub lag_seconds: Option<u64>,
    /// Whether it has pgvector, where that matters and is known.
    pub pgvector: Option<bool>,
    /// Other Posterns that serve it.
    #[serde(default)]
    pub other_posterns: u32,
    /// Its slots.
    pub slots: SlotStatus,
}

/// The slots of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// With clients.
    pub used: u32,
    /// There are.
    pub limit: u32,
    /// Whose server connection is being closed.
    pub closing: u32,
    /// Clients in the queue.
    pub waiting: u32,
}

impl ClientCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.login + self.idle + self.active + self.idle_in_transaction + self.waiting
    }

    fn add(&mut self, activity: Activity) {
        *match activity {
            Activity::Login => &mut self.login,
            Activity::Idle => &mut self.idle,
            Activity::Active => &mut self.active,
            Activity::IdleInTransaction => &mut self.idle_in_transaction,
            Activity::Waiting => &mut self.waiting,
        } += 1;
    }
}

impl Listening {
    /// A listener of this endpoint at this address.
    #[must_use]
    pub fn new(endpoint: PoolMode, address: String) -> Self {
        Self { endpoint: endpoint.label().to_owned(), address }
    }
}

impl From<Phase> for Stage {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running => Self::Running,
            Phase::Draining => Self::Draining,
            Phase::Stopping => Self::Stopping,
        }
    }
}

impl Status {
    /// Looks.
    pub(super) fn of(controls: &Controls) -> Self {
        let sight = Sight::of(controls);
        let snapshot = controls.directory.current();
        let mut services: Vec<_> = snapshot.services.values().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: controls.clock.seconds(),
            phase: controls.shutdown.phase().into(),
            listeners: controls.listeners.clone(),
            clients: sight.all_clients,
            services: services.iter().map(|s| sight.service(s)).collect(),
        }
    }
}

/// What is looked up for all services at once.
struct Sight {
    all_clients: ClientCounts,
    clients: HashMap<ServiceName, ClientCounts>,
    slots: HashMap<(ServiceName, NodeAddress), Counts>,
    nodes: HashMap<(ServiceName, NodeAddress), NodeState>,
}

impl Sight {
    fn of(controls: &Controls) -> Self {
        let (all_clients, clients) = count_clients(&controls.roster);
        let slots = controls.slots.counts().into_iter();
        let nodes = (controls.nodes)().into_iter();
        Self {
            all_clients,
            clients,
            slots: slots.map(|s| ((s.service, s.node), s.counts)).collect(),
            nodes: nodes.map(|n| ((n.service.clone(), n.node.clone()), n)).collect(),
        }
    }

    fn service(&self, service: &Service) -> ServiceStatus {
        let primary = service.topology.primary.as_ref();
        let nodes = service.nodes.iter();
        ServiceStatus {
            name: service.name.to_string(),
            kind: service.kind.label().to_owned(),
            plan: service.plan.name.to_string(),
            primary: primary.ok().map(|node| node.address.to_string()),
            unavailable: why_unavailable(service),
            epoch: service.topology.epoch.to_string(),
            decided: self.decided(service),
            nodes: nodes.map(|node| self.node(service, node)).collect(),
            clients: self.clients.get(&service.name).copied().unwrap_or_default(),
        }
    }

    fn decided(&self, service: &Service) -> String {
        let node = service.nodes.first();
        let key = node.map(|node| (node.service.clone(), node.address.clone()));
        let seen = key.and_then(|key| self.nodes.get(&key));
        seen.map_or(Reason::NotLookedAt, |seen| seen.decided).to_string()
    }

    fn node(&self, service: &Service, node: &Node) -> NodeStatus {
        let key = (node.service.clone(), node.address.clone());
        let seen = self.nodes.get(&key);
        let slots = self.slots.get(&key);
        let vector = service.kind == Kind::Vector;
        let answered = seen.filter(|seen| vector && seen.role.answers());
        let mut standbys = service.topology.standbys.iter();
        let standby = standbys.find(|standby| standby.node.address == node.address);
        NodeStatus {
            address: node.address.to_string(),
            role: seen.map_or(NodeRole::Unknown, |seen| seen.role),
            timeline: seen.and_then(|seen| seen.timeline),
            lag_seconds: standby.and_then(|standby| standby.lag).map(|lag| lag.as_secs()),
            pgvector: answered.map(|seen| seen.pgvector),
            other_posterns: seen.map_or(0, |seen| seen.other_posterns),
            slots: slots.map_or_else(|| unused(node), |counts| in_use(*counts)),
        }
    }
}

fn why_unavailable(service: &Service) -> Option<String> {
    let reason = service.primary().err()?;
    let refusal = Refusal::NoPrimary { service: service.name.clone(), reason: reason.clone() };
    refusal.answer().detail
}

/// No session has asked for this node yet.
fn unused(node: &Node) -> SlotStatus {
    in_use(Counts { capacity: node.capacity, ..Counts::default() })
}

fn in_use(counts: Counts) -> SlotStatus {
    SlotStatus {
        used: counts.used() - counts.closing,
        limit: counts.capacity,
        closing: counts.closing,
        waiting: counts.waiting,
    }
}

fn count_clients(roster: &Roster) -> (ClientCounts, HashMap<ServiceName, ClientCounts>) {
    let mut all = ClientCounts::default();
    let mut by_service: HashMap<ServiceName, ClientCounts> = HashMap::new();
    for seat in roster.seats() {
        let activity = seat.activity();
        let service = seat.occupant.endpoint.service.clone();
        all.add(activity);
        by_service.entry(service).or_default().add(activity);
    }
    (all, by_service)
}

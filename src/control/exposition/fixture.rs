//! A small Postern without sockets, for the tests of what looks at it.

use std::sync::Arc;

use super::nodes::{NodeRole, NodeState};
use super::page::Sources;
use crate::admission::strangers::Strangers;
use crate::directory::roster::{Occupant, Seated};
use crate::directory::{
    CoarseClock, Directory, Node, Roster, Routing, Service, Snapshot, Tenures, Topology,
};
use crate::domain::refusal::Unavailable;
use crate::domain::{Access, Allowlist, ClientAddress, Endpoint, Kind, NodeTls, Plan, PoolMode};
use crate::metrics::Metrics;
use crate::pool::Slots;
use crate::routing::topology::Reason;

/// Handles on everything that is looked at.
#[derive(Clone, Default)]
pub(in crate::control) struct World {
    pub(in crate::control) metrics: Metrics,
    pub(in crate::control) roster: Roster,
    pub(in crate::control) slots: Slots,
    pub(in crate::control) strangers: Strangers,
    pub(in crate::control) clock: CoarseClock,
    pub(in crate::control) services: Vec<Arc<Service>>,
}

impl World {
    /// With these services.
    pub(in crate::control) fn of(services: impl IntoIterator<Item = Service>) -> Self {
        Self { services: services.into_iter().map(Arc::new).collect(), ..Self::default() }
    }

    /// A session of this service.
    pub(in crate::control) fn seat(&self, service: &str, mode: PoolMode) -> Seated {
        let occupant = Occupant {
            endpoint: Endpoint {
                service: service.parse().unwrap(),
                access: Access::ReadWrite,
                mode,
            },
            role: "bob".into(),
            database: "bob".into(),
            application: "psql".into(),
            address: ClientAddress::Local,
        };
        self.roster.take(occupant, usize::MAX).unwrap()
    }

    /// The directory of the services.
    pub(in crate::control) fn directory(&self) -> Arc<Directory> {
        let services = self.services.iter();
        let services = services.map(|s| (s.name.clone(), Arc::clone(s))).collect();
        Arc::new(Directory::new(Snapshot { services, routing: Routing::default() }))
    }

    /// What is looked at; nodes are primaries where the service has one, and
    /// down otherwise. None of them has pgvector, and those over sockets are
    /// another Postern's too.
    pub(in crate::control) fn sources(&self) -> Sources {
        let nodes = self.node_states();
        Sources {
            metrics: self.metrics.clone(),
            directory: self.directory(),
            roster: self.roster.clone(),
            slots: self.slots.clone(),
            strangers: self.strangers.clone(),
            clock: self.clock.clone(),
            cancel_keys: Box::new(|| 3),
            nodes: Box::new(move || nodes.clone()),
        }
    }

    /// See [`World::sources`].
    pub(in crate::control) fn node_states(&self) -> Vec<NodeState> {
        let nodes = self.services.iter().flat_map(|service| {
            let role = match service.topology.primary {
                Ok(_) => NodeRole::Primary,
                Err(_) => NodeRole::Down,
            };
            service.nodes.iter().map(move |node| NodeState {
                service: node.service.clone(),
                node: node.address.clone(),
                role,
                timeline: Some(1),
                pgvector: false,
                other_posterns: u32::from(node.address.to_string().starts_with('/')),
                decided: Reason::NobodyAnswers,
            })
        });
        nodes.collect()
    }
}

/// A service on a plan of 25 with this one node, its primary if `up`.
pub(in crate::control) fn service(name: &str, kind: Kind, node: &str, up: bool) -> Service {
    let node = Arc::new(Node {
        service: name.parse().unwrap(),
        address: node.parse().unwrap(),
        tls: NodeTls::Prefer,
        authorities: None,
        capacity: 25,
        pooling: crate::directory::Pooling::default(),
    });
    let primary = if up { Ok(Arc::clone(&node)) } else { Err(Unavailable::Unreachable) };
    Service {
        name: name.parse().unwrap(),
        kind,
        plan: Arc::new(Plan {
            name: "startup-4".into(),
            max_connections: 25.try_into().unwrap(),
            nodes: 1,
            backup_retention_days: 2,
            multi_az: false,
        }),
        allowlist: Allowlist::default(),
        nodes: vec![node],
        topology: Topology { primary, ..Topology::nobody(Unavailable::Unreachable) },
        tenures: Tenures::default(),
        suspended: None,
        paused: false,
    }
}

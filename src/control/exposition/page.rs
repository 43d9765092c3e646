//! The page that a scraper reads.
//!
//! ```text
//! Sources ──look──▶ Sight ──recency──▶ services to show ──▶ families ──▶ text
//! ```
//!
//! Series by service are for services that had a client within the last hour
//! (decision 41); one fault is named always, because it keeps clients away: a
//! vector service's node without pgvector.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::family::{Family, value};
use super::nodes::{NodeRole, NodeState};
use super::process;
use super::recency::Recency;
use super::sight::{MODES, Sight, service_of};
use super::topology;
use crate::admission::strangers::Strangers;
use crate::directory::roster::Activity;
use crate::directory::{CoarseClock, Directory, Roster};
use crate::domain::{Kind, NodeAddress, ServiceName};
use crate::metrics::Metrics;
use crate::pool::Slots;
use crate::pool::ledger::Counts;

/// Where the page looks.
pub struct Sources {
    /// What the program counts itself.
    pub metrics: Metrics,
    /// The services.
    pub directory: Arc<Directory>,
    /// The sessions and their bytes.
    pub roster: Roster,
    /// The slots.
    pub slots: Slots,
    /// The connections that are not authenticated yet.
    pub strangers: Strangers,
    /// Seconds since the start.
    pub clock: CoarseClock,
    /// How many cancel keys are valid.
    pub cancel_keys: Box<dyn Fn() -> usize + Send + Sync>,
    /// What the watchers last saw.
    pub nodes: Box<dyn Fn() -> Vec<NodeState> + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Builds the page.
#[derive(Debug)]
pub struct Exposition {
    sources: Sources,
    recency: Mutex<Recency>,
    started: f64,
}

impl Exposition {
    /// A page about this program, which has just started.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            sources,
            recency: Mutex::default(),
            started: started.map_or(0.0, |since| since.as_secs_f64()),
        }
    }

    /// The page as it is now. One is built at a time; it takes milliseconds
    /// of CPU for each thousand services, so not on a thread that polls.
    ///
    /// # Errors
    /// If the encoder refuses a family, which the tests rule out.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut recency = self.recency.lock().unwrap_or_else(PoisonError::into_inner);
        let sight = Sight::of(&self.sources);
        let recent = recency.look(sight.now, sight.totals());
        let mut families = shown(&sight.counted, &recent);
        families.extend(found(&sight, &recent));
        families.extend(self.about_the_program(&sight));
        // The encoder refuses a family without samples.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    fn about_the_program(&self, sight: &Sight) -> Vec<MetricFamily> {
        let version = env!("CARGO_PKG_VERSION");
        let own = [
            Family::gauge("postern_build_info", "Which Postern this is", &["version"])
                .with(&[version], 1.0),
            Family::gauge("postern_uptime_seconds", "Since the start", &[])
                .with(&[], f64::from(sight.now)),
            Family::gauge(
                "process_start_time_seconds",
                "When it started, in seconds since 1970",
                &[],
            )
            .with(&[], self.started),
        ];
        let mut families: Vec<_> = own.map(Family::finish).into();
        families.extend(process::families());
        families
    }
}

/// The program's own counts, of these services and of none in particular.
fn shown(counted: &[MetricFamily], recent: &HashSet<String>) -> Vec<MetricFamily> {
    let mut families = counted.to_vec();
    for family in &mut families {
        family.mut_metric().retain(|metric| {
            let service = service_of(metric).unwrap_or_default();
            service.is_empty() || recent.contains(service)
        });
    }
    families
}

fn found(sight: &Sight, recent: &HashSet<String>) -> Vec<MetricFamily> {
    let services = Family::gauge("postern_services", "Services in the directory", &[])
        .with(&[], value(sight.snapshot.services.len()));
    let keys = Family::gauge("postern_cancel_keys", "Cancel keys that are valid", &[])
        .with(&[], value(sight.cancel_keys));
    let mut families = vec![services, keys, clients(sight, recent)];
    families.extend(slots(&slots_shown(sight, recent)));
    families.extend(traffic(sight, recent));
    families.extend(nodes(sight, recent));
    families.extend(topology::families(sight, recent));
    families.into_iter().map(Family::finish).collect()
}

fn clients(sight: &Sight, recent: &HashSet<String>) -> Family {
    let mut family = Family::gauge(
        "postern_clients",
        "Sessions, by what they are doing",
        &["service", "endpoint", "state"],
    );
    let mut names: Vec<&ServiceName> = sight.clients.keys().collect();
    let at_rest = sight.snapshot.services.keys();
    names.extend(at_rest.filter(|name| !sight.clients.contains_key(name)));
    names.retain(|name| recent.contains(name.as_str()));
    names.sort();
    for name in names {
        let counts = sight.clients.get(name).copied().unwrap_or_default();
        for (mode, by_activity) in MODES.into_iter().zip(counts) {
            for (activity, count) in Activity::ALL.into_iter().zip(by_activity) {
                let labels = [name.as_str(), mode.label(), activity.label()];
                family.add(&labels, f64::from(count));
            }
        }
    }
    family
}

type SlotsShown<'a> = BTreeMap<(&'a ServiceName, &'a NodeAddress), Counts>;

/// The slots of these services' nodes: those that were ever used as they are,
/// the others at zero.
fn slots_shown<'a>(sight: &'a Sight, recent: &HashSet<String>) -> SlotsShown<'a> {
    let services = sight.snapshot.services.values();
    let configured = services.flat_map(|service| &service.nodes).map(|node| {
        let unused = Counts { capacity: node.capacity, ..Counts::default() };
        ((&node.service, &node.address), unused)
    });
    let used = sight.slots.iter();
    let used = used.map(|((service, node), counts)| ((service, node), *counts));
    configured.chain(used).filter(|((service, _), _)| recent.contains(service.as_str())).collect()
}

fn slots(shown: &SlotsShown<'_>) -> [Family; 5] {
    let labels = &["service", "node"];
    let mut used = Family::gauge("postern_slots_used", "Slots with clients", labels);
    let mut limit = Family::gauge("postern_slots_limit", "Slots there are", labels);
    let mut closing = Family::gauge(
        "postern_slots_closing",
        "Slots whose server connection is being closed",
        labels,
    );
    let mut waiting = Family::gauge("postern_slots_waiting", "Clients in the queue", labels);
    let mut connections = Family::gauge(
        "postern_server_connections",
        "Server connections for clients, by what they are for",
        &["service", "node", "state"],
    );
    for ((service, node), counts) in shown {
        let (service, node) = (service.as_str(), node.to_string());
        used.add(&[service, &node], f64::from(counts.used() - counts.closing));
        limit.add(&[service, &node], f64::from(counts.capacity));
        closing.add(&[service, &node], f64::from(counts.closing));
        waiting.add(&[service, &node], f64::from(counts.waiting));
        let states = [
            ("session", counts.session),
            ("opening", counts.opening),
            ("busy", counts.busy - counts.pinned),
            ("pinned", counts.pinned),
            ("idle", counts.idle),
            ("closing", counts.closing),
        ];
        for (state, count) in states {
            connections.add(&[service, &node, state], f64::from(count));
        }
    }
    [used, limit, closing, waiting, connections]
}

fn traffic(sight: &Sight, recent: &HashSet<String>) -> [Family; 3] {
    let labels = &["service"];
    let mut received = Family::counter(
        "postern_received_bytes_total",
        "Bytes from clients, as PostgreSQL's protocol has them",
        labels,
    );
    let mut sent = Family::counter(
        "postern_sent_bytes_total",
        "Bytes to clients, as PostgreSQL's protocol has them",
        labels,
    );
    let mut transactions = Family::counter(
        "postern_pooled_transactions_total",
        "Transactions on the transaction endpoint, by whether the client kept its connection",
        &["service", "connection"],
    );
    for (service, traffic) in &sight.traffic {
        let service = service.as_str();
        if recent.contains(service) {
            received.add(&[service], value(traffic.received));
            sent.add(&[service], value(traffic.sent));
            transactions.add(&[service, "shared"], value(traffic.shared));
            transactions.add(&[service, "pinned"], value(traffic.pinned));
        }
    }
    [received, sent, transactions]
}

fn nodes(sight: &Sight, recent: &HashSet<String>) -> [Family; 4] {
    let mut by_role = Family::gauge("postern_nodes", "Nodes of all services", &["role"]);
    for role in NodeRole::ALL {
        let count = sight.nodes.iter().filter(|node| node.role == role).count();
        by_role.add(&[role.label()], value(count));
    }
    let mut roles = Family::gauge(
        "postern_node_role",
        "What a node is: 1 for that role, 0 for the others",
        &["service", "node", "role"],
    );
    let mut lacking = Family::gauge(
        "postern_node_without_pgvector",
        "1 for a vector service's node on which pgvector is not installed",
        &["service", "node"],
    );
    let mut others = Family::gauge(
        "postern_node_other_posterns",
        "Other Posterns that serve a node, each with the plan's connections",
        &["service", "node"],
    );
    for state in &sight.nodes {
        let (service, node) = (state.service.as_str(), state.node.to_string());
        let recent = recent.contains(service);
        for role in NodeRole::ALL.into_iter().filter(|_| recent) {
            let is = f64::from(u8::from(state.role == role));
            roles.add(&[service, &node, role.label()], is);
        }
        if recent {
            others.add(&[service, &node], f64::from(state.other_posterns));
        }
        let lacks = lacks_pgvector(sight, state);
        if lacks || (recent && is_vector(sight, state)) {
            lacking.add(&[service, &node], f64::from(u8::from(lacks)));
        }
    }
    [by_role, roles, lacking, others]
}

fn is_vector(sight: &Sight, state: &NodeState) -> bool {
    let service = sight.snapshot.services.get(&state.service);
    service.is_some_and(|service| service.kind == Kind::Vector)
}

fn lacks_pgvector(sight: &Sight, state: &NodeState) -> bool {
    is_vector(sight, state) && state.role.answers() && !state.pgvector
}

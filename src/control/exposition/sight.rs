//! One look at everything that is counted by looking.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::nodes::NodeState;
use super::page::Sources;
use super::recency::Totals;
use crate::directory::Snapshot;
use crate::directory::roster::{Activity, Roster, Traffic};
use crate::domain::{NodeAddress, PoolMode, ServiceName};
use crate::pool::ledger::Counts;

/// The label of a service in every family.
const SERVICE: &str = "service";

/// The endpoints, in the order of [`Clients`].
pub(super) const MODES: [PoolMode; 2] = [PoolMode::Session, PoolMode::Transaction];

/// Sessions of a service by endpoint and by activity.
pub(super) type Clients = [[u32; Activity::ALL.len()]; MODES.len()];

/// What there was to see at one moment.
pub(super) struct Sight {
    pub(super) now: u32,
    pub(super) counted: Vec<MetricFamily>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) clients: HashMap<ServiceName, Clients>,
    pub(super) traffic: BTreeMap<ServiceName, Traffic>,
    pub(super) slots: HashMap<(ServiceName, NodeAddress), Counts>,
    pub(super) nodes: Vec<NodeState>,
    pub(super) cancel_keys: usize,
}

impl Sight {
    /// Looks.
    pub(super) fn of(sources: &Sources) -> Self {
        // What is known only to the doorkeeper becomes a gauge here, so that
        // nobody on the data path writes it.
        let strangers = i64::try_from(sources.strangers.len()).unwrap_or(i64::MAX);
        sources.metrics.unauthenticated.set(strangers);
        let slots = sources.slots.counts().into_iter();
        Self {
            now: sources.clock.seconds(),
            counted: sources.metrics.gather(),
            snapshot: sources.directory.current(),
            clients: clients(&sources.roster),
            traffic: sources.roster.traffic().into_iter().collect(),
            slots: slots.map(|s| ((s.service, s.node), s.counts)).collect(),
            nodes: (sources.nodes)(),
            cancel_keys: (sources.cancel_keys)(),
        }
    }

    /// What each service's clients have left so far.
    pub(super) fn totals(&self) -> HashMap<&str, Totals> {
        let mut totals: HashMap<&str, Totals> = HashMap::new();
        for (service, count) in self.counted.iter().flat_map(by_service) {
            totals.entry(service).or_default().counted += count;
        }
        for (service, traffic) in &self.traffic {
            totals.entry(service.as_str()).or_default().bytes = traffic.received + traffic.sent;
        }
        for service in self.present() {
            totals.entry(service.as_str()).or_default().present = true;
        }
        totals
    }

    /// Services with a session, or with a slot that a session has left behind.
    fn present(&self) -> impl Iterator<Item = &ServiceName> {
        let in_use = |counts: &Counts| counts.used() + counts.waiting > 0;
        let slots = self.slots.iter().filter(move |(_, c)| in_use(c));
        let slots = slots.map(|((service, _), _)| service);
        self.clients.keys().chain(slots)
    }
}

fn clients(roster: &Roster) -> HashMap<ServiceName, Clients> {
    let mut clients: HashMap<ServiceName, Clients> = HashMap::new();
    for seat in roster.seats() {
        let endpoint = &seat.occupant.endpoint;
        let mode = match endpoint.mode {
            PoolMode::Session => 0,
            PoolMode::Transaction => 1,
        };
        let activity = seat.activity() as usize;
        let counts = clients.entry(endpoint.service.clone()).or_default();
        counts[mode][activity] += 1;
    }
    clients
}

/// The counters of services; a family without that label has none.
fn by_service(family: &MetricFamily) -> impl Iterator<Item = (&str, f64)> {
    family.get_metric().iter().filter_map(|metric| {
        let service = service_of(metric)?;
        (!service.is_empty()).then(|| (service, metric.get_counter().get_value()))
    })
}

/// The service that a sample speaks of, or `None` if it speaks of none.
pub(super) fn service_of(metric: &prometheus::proto::Metric) -> Option<&str> {
    let labels = metric.get_label().iter();
    let mut named = labels.filter(|label| label.name() == SERVICE);
    named.next().map(prometheus::proto::LabelPair::value)
}

//! Which services have had a client within the last hour, so that services
//! at rest cost no series (decision 41).
//!
//! A plain value without a clock. It looks only when somebody scrapes: a
//! client that came and went between two scrapes shows by what it left in the
//! counters, and counts from the scrape that first sees that. Totals never go
//! down, so that a service that comes back goes on where its series ended.

use std::collections::{HashMap, HashSet};

/// For how long a service is shown after its last client, in seconds.
const SHOWN_FOR: u32 = 3600;

/// What a service's clients have left in the counters so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    /// Sessions and refusals.
    pub(super) counted: f64,
    /// Bytes, both ways.
    pub(super) bytes: u64,
    /// Whether something of a client is there right now.
    pub(super) present: bool,
}

/// When each service was last seen with a client.
#[derive(Debug, Default)]
pub(super) struct Recency {
    traces: HashMap<String, Trace>,
}

#[derive(Debug, Default)]
struct Trace {
    totals: Totals,
    last_client: u32,
}

impl Recency {
    /// Takes in what is there at this second; returns the services to show.
    pub(super) fn look(&mut self, now: u32, totals: HashMap<&str, Totals>) -> HashSet<String> {
        for (service, totals) in totals {
            self.note(now, service, totals);
        }
        self.traces
            .iter()
            .filter(|(_, trace)| now.saturating_sub(trace.last_client) < SHOWN_FOR)
            .map(|(service, _)| service.clone())
            .collect()
    }

    fn note(&mut self, now: u32, service: &str, totals: Totals) {
        if totals == Totals::default() {
            return;
        }
        if !self.traces.contains_key(service) {
            self.traces.insert(service.to_owned(), Trace::default());
        }
        let Some(trace) = self.traces.get_mut(service) else {
            return;
        };
        if totals.present || totals != trace.totals {
            trace.last_client = now;
        }
        trace.totals = totals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counted: f64) -> Totals {
        Totals { counted, ..Totals::default() }
    }

    fn shown(recency: &mut Recency, now: u32, totals: Totals) -> bool {
        let recent = recency.look(now, HashMap::from([("orders", totals)]));
        recent.contains("orders")
    }

    #[test]
    fn a_service_is_shown_for_an_hour_after_its_last_client() {
        let mut recency = Recency::default();
        assert!(!shown(&mut recency, 0, counted(0.0)));
        assert!(shown(&mut recency, 10, counted(1.0)));
        assert!(shown(&mut recency, 3609, counted(1.0)));
        assert!(!shown(&mut recency, 3610, counted(1.0)));
        // One came and went between two scrapes.
        assert!(shown(&mut recency, 9000, counted(2.0)));
    }

    #[test]
    fn a_client_that_stays_is_a_client_now() {
        let mut recency = Recency::default();
        let present = Totals { present: true, ..counted(1.0) };
        assert!(shown(&mut recency, 0, present));
        assert!(shown(&mut recency, 50_000, present));
        // Leaving is seen, and the hour begins.
        assert!(shown(&mut recency, 60_000, counted(1.0)));
        assert!(!shown(&mut recency, 63_600, counted(1.0)));
    }
}

//! Who is the primary, since which epoch, and how far the others are behind.

use std::collections::HashSet;

use super::family::Family;
use super::sight::Sight;
use crate::directory::Service;
use crate::domain::refusal::Unavailable;

/// A service without a primary is named always: somebody may be waiting.
pub(super) fn families(sight: &Sight, recent: &HashSet<String>) -> [Family; 5] {
    let mut without = Family::gauge(
        "postern_service_without_primary",
        "1 for a service that has no node to write to, by what its nodes show",
        &["service", "reason"],
    );
    let mut timeline = Family::gauge(
        "postern_service_timeline",
        "The timeline of the newest primary: the second number of the epoch",
        &["service"],
    );
    let mut sequence = Family::counter(
        "postern_service_epochs_total",
        "How many primaries there were: the third number of the epoch",
        &["service"],
    );
    let mut lag = Family::gauge(
        "postern_node_lag_seconds",
        "The age of what a standby has not replayed, of standbys that it is known of",
        &["service", "node"],
    );
    for service in in_order(sight) {
        let name = service.name.as_str();
        if let Err(reason) = &service.topology.primary {
            without.add(&[name, label(reason)], 1.0);
        }
        if !recent.contains(name) {
            continue;
        }
        let epoch = service.topology.epoch;
        timeline.add(&[name], f64::from(epoch.timeline));
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 primaries")]
        sequence.add(&[name], epoch.sequence as f64);
        for standby in &service.topology.standbys {
            if let Some(behind) = standby.lag {
                lag.add(&[name, &standby.node.address.to_string()], behind.as_secs_f64());
            }
        }
    }
    [without, timeline, sequence, lag, timelines(sight, recent)]
}

fn timelines(sight: &Sight, recent: &HashSet<String>) -> Family {
    let mut family = Family::gauge(
        "postern_node_timeline",
        "The timeline that a node writes or receives",
        &["service", "node"],
    );
    for state in sight.nodes.iter().filter(|state| recent.contains(state.service.as_str())) {
        if let Some(timeline) = state.timeline {
            family.add(&[state.service.as_str(), &state.node.to_string()], f64::from(timeline));
        }
    }
    family
}

fn in_order(sight: &Sight) -> Vec<&Service> {
    let mut services: Vec<_> = sight.snapshot.services.values().map(|service| &**service).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

fn label(reason: &Unavailable) -> &'static str {
    match reason {
        Unavailable::Unreachable => "unreachable",
        Unavailable::NoPrimary => "no_primary",
        Unavailable::NoPgvector { .. } => "no_pgvector",
        Unavailable::NoStandby => "no_standby",
        Unavailable::PoweredOff => "powered_off",
        Unavailable::Paused => "paused",
    }
}

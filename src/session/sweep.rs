//! Looks a few times a second whether a session has taken longer than its
//! service allows: one task for all, so that no transaction registers a timer
//! or asks a clock.

use std::sync::Arc;
use std::time::Duration;

use crate::directory::{ClientLimits, Directory, Roster, Service};

/// Between two looks.
const TICK: Duration = Duration::from_millis(200);

/// Judges the sessions of all services that have limits, until it is dropped.
pub async fn sweep(directory: Arc<Directory>, roster: Roster) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        for (name, service) in directory.current().services.iter() {
            if let Some(limits) = limits(service) {
                roster.seats_of(name).iter().for_each(|seat| seat.judge(&limits));
            }
        }
    }
}

/// The limits of a service that has any.
fn limits(service: &Service) -> Option<ClientLimits> {
    let limits = service.nodes.first()?.pooling.clients;
    let timed = ClientLimits { max_pooled_clients: None, ..limits };
    (timed != ClientLimits::default()).then_some(limits)
}

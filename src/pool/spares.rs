//! Keeps `min_pool_size` connections open in each pool that has a client.
//!
//! A spare takes a slot that is free and that nobody waits for; so it never
//! keeps anybody out, and what is closed for somebody who waits is not opened
//! again before he has it (trap C-14).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::Instant;

use super::Closer;
use super::pooled::{Greeting, PooledServer};
use super::server::{Credentials, Lead, OpenError, ServerConnection};
use super::slots::{Slots, Spare};
use crate::auth::VerifierSource;
use crate::auth::scram::RAW_NONCE;
use crate::directory::Directory;
use crate::state::reports::Reports;
use crate::upstream::Dialer;

/// What a spare connection may take to be opened.
const WITHIN: Duration = Duration::from_secs(15);

/// What opening a connection needs.
#[derive(Clone)]
pub struct Opener {
    /// Connects.
    pub dialer: Dialer,
    /// Closes what comes to nothing.
    pub closer: Closer,
    /// Knows what logs a role in.
    pub verifiers: Arc<dyn VerifierSource>,
}

/// Opens what the pools lack, on the primaries of services that want it.
pub(super) fn replenish(slots: &Slots, directory: &Directory, opener: &Opener) {
    for service in directory.current().services.values() {
        let Ok(node) = &service.topology.primary else { continue };
        if node.pooling.min_pool_size == 0 {
            continue;
        }
        let lead = Lead { tenure: service.tenures.of(&node.address), node: Arc::clone(node) };
        for spare in slots.of(node).spares(node.pooling.min_pool_size) {
            let (lead, opener) = (lead.clone(), opener.clone());
            tokio::spawn(async move {
                if let Err(error) = open(spare, lead, &opener).await {
                    tracing::debug!(%error, "a spare connection could not be opened");
                }
            });
        }
    }
}

async fn open(spare: Spare, lead: Lead, opener: &Opener) -> Result<(), OpenError> {
    let Spare { pool, key, keys, slot, under_way: _under_way } = spare;
    let slots = Arc::clone(slot.node());
    let turn = slots.trial().await;
    let Opener { dialer, closer, verifiers } = opener;
    let keys = verifiers.keys(&lead.node.service, key.role(), &keys);
    let credentials = Credentials { parameters: key.parameters(), keys: &keys };
    let deadline = Instant::now() + WITHIN;
    let nonce: [u8; RAW_NONCE] = random();
    let opening =
        ServerConnection::open(lead.clone(), slot, credentials, dialer, closer, deadline, &nonce);
    let (server, logged_in) = opening.await.inspect_err(|_| slots.spare_failed(pool))?;
    turn.succeeded();
    let reports = Reports::from_messages(&logged_in.greeting);
    let messages = logged_in.greeting.freeze();
    let greeting = Greeting { messages, reports: reports.clone(), tenure: lead.tenure };
    slots.greeted(pool, greeting);
    let [jitter] = random::<1>();
    PooledServer::new(server, pool, reports, 1.0 - f64::from(jitter) / 2560.0).give_back();
    Ok(())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system provides random bytes");
    bytes
}

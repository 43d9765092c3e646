//! Who leads, as the store of the HA manager says: Patroni's REST API, or the
//! leader key in etcd (decision 30).
//!
//! What comes from here is a claim and no more. The policy believes it only of
//! a node that was seen to take writes (trap E-4), and without a claim it goes
//! by what it knows.

mod client;
mod etcd;
mod patroni;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::config::Store;
use client::Client;
pub(in crate::control) use patroni::switch_over;

/// For any answer of a store: one that takes longer is as good as down.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum Claim {
    /// This member holds the leader key.
    Leader(Member),
    /// Nobody holds it.
    Nobody,
    /// Nobody can be asked.
    Silence,
}

/// A member of the HA manager's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Member {
    /// Its name there.
    pub(in crate::control) name: String,
    /// Where its PostgreSQL is, if the store says so: host and port.
    pub(in crate::control) address: Option<(String, u16)>,
}

/// Where the claims go; only the last one counts.
pub(in crate::control) type Claims = watch::Sender<Claim>;

fn tell(claims: &Claims, claim: Claim) {
    claims.send_if_modified(|last| {
        let is_new = *last != claim;
        *last = claim;
        is_new
    });
}

/// How often a store is asked that cannot be watched.
#[derive(Debug)]
pub(in crate::control) struct Pace<F> {
    /// From one question to the next, at the moment.
    pub(in crate::control) pause: F,
    /// Somebody has reason to ask at once.
    pub(in crate::control) woken: std::sync::Arc<Notify>,
}

/// Follows the leader for ever, and tells each claim that differs from the one
/// before it.
pub(in crate::control) async fn follow<F: Fn() -> Duration>(
    store: &Store,
    pace: Pace<F>,
    claims: &Claims,
) {
    let client = match Client::new(store.ca.as_deref()) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "topology.ca cannot be used: no leader can be asked for");
            return;
        }
    };
    match &store.etcd {
        Some(etcd) => etcd::follow(&client, etcd, claims).await,
        None => patroni::follow(&client, &store.patroni, pace, claims).await,
    }
}

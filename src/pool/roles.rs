//! A role whose password has changed, or that may not log in any more, loses
//! its pools (decision 19): idle connections at once, lent ones when they come
//! back. Until then its open transactions finish.
//!
//! A pool belongs to a credential ([`PoolKey`](super::PoolKey)), so a client
//! that logged in with the new password never shares one with the old.

use std::sync::Arc;
use std::time::Duration;

use super::slots::Slots;
use crate::auth::VerifierSource;

/// Between two looks: a look uses what the one before has asked for, so a
/// change is seen after two of them, well within 5 seconds.
const TICK: Duration = Duration::from_secs(2);

/// Looks whether the roles with pooled connections may still log in, until it
/// is dropped. While no node can be asked, nothing is closed.
pub async fn follow_roles(slots: Slots, verifiers: Arc<dyn VerifierSource>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        for (service, node) in slots.by_service() {
            for (role, credential) in node.credentials() {
                let known = verifiers.recheck(&service, &role);
                if known.is_some_and(|known| !credential.holds(&known)) {
                    tracing::info!(%service, ?role, "the role's password has changed, or it may not log in: closing its pools");
                    node.retire(&role, credential);
                }
            }
        }
    }
}

//! Whether another Postern serves a node too (decision 12, record 0020).
//!
//! Each Postern holds a shared advisory lock on the nodes that it looks at, on
//! the connection that it keeps there, and counts who else does. The server
//! lets go of it however a Postern ends. Nobody is kept out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::error::NodeError;
use super::node::NodeWatch;
use super::pace::Bustle;
use super::service::ServiceWatch;
use super::session::{Session, count};

/// The first number of the lock, by which Posterns know each other: `PSTN`.
const CLASS: i32 = i32::from_be_bytes(*b"PSTN");

/// How often is counted: reading `pg_locks` holds up the server's lock manager
/// for a moment, so this is no part of a look.
const COUNTED_EVERY: Duration = Duration::from_secs(10);

/// Takes the lock if this connection has not done so before, and counts. In
/// whichever database the others hold theirs: the connections of a node are the
/// same ones.
const CENSUS: &str = "\
    WITH posterns AS MATERIALIZED (
        SELECT l.objid, l.pid FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $1::pg_catalog.oid)
    SELECT (SELECT count(DISTINCT p.objid) FROM posterns AS p
            WHERE p.objid <> $2::pg_catalog.oid)::pg_catalog.int4,
           CASE WHEN NOT EXISTS (
               SELECT FROM posterns AS p WHERE p.pid = pg_catalog.pg_backend_pid())
           THEN pg_catalog.pg_try_advisory_lock_shared($1, $2) END";

/// Who this Postern is among those of a node: the second number of the lock. A
/// Postern with several services on a node is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instance(i32);

impl Instance {
    /// Nobody else's; not negative, because locks show it without a sign.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 4];
        rand::fill(&mut bytes).expect("the system provides random bytes");
        Self(i32::from_ne_bytes(bytes) & i32::MAX)
    }
}

/// The other Posterns of a node at the last count.
#[derive(Debug, Default)]
pub(super) struct Others(AtomicU32);

impl Others {
    /// How many there were; none where nobody counts.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn replace(&self, count: u32) -> u32 {
        self.0.swap(count, Ordering::Relaxed)
    }
}

impl NodeWatch {
    /// Counts the other Posterns again and again, behind the looks and beside
    /// them, over a connection that is kept anyway: of a service that nobody
    /// uses none is, and nobody counts. Never ends by itself.
    pub(super) async fn follow_others(&self, service: &ServiceWatch) {
        let mut looked_at = self.looked_at.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = looked_at.changed().await;
            if service.bustle() == Bustle::Quiet {
                self.others.replace(0);
                continue;
            }
            let counting = async {
                self.count_others(service).await;
                sleep(COUNTED_EVERY).await;
            };
            Box::pin(counting).await;
        }
    }

    async fn count_others(&self, service: &ServiceWatch) {
        let Some(session) = self.link.kept() else {
            return;
        };
        match census(&session, service.common.instance).await {
            Ok(now) => self.tell_of_others(self.others.replace(now), now, service),
            // Whoever may not count serves as well.
            Err(error) => {
                let (name, node) = (&service.name, &self.address);
                tracing::debug!(service = %name, %node, %error, "the Posterns of a node could not be counted");
            }
        }
    }

    fn tell_of_others(&self, before: u32, now: u32, service: &ServiceWatch) {
        let (name, node, promised) = (&service.name, &self.address, service.promised);
        if now == 0 && before > 0 {
            tracing::info!(service = %name, %node, "no other Postern serves a node any more");
        } else if now != before {
            tracing::warn!(
                service = %name, %node, others = now, promised,
                "another Postern serves a node: each counts the plan's connections for itself, \
                 so together they may open several times the plan; stop one, or give each a share"
            );
        }
    }
}

async fn census(session: &Session, instance: Instance) -> Result<u32, NodeError> {
    let numbers = [CLASS, instance.0];
    let parameters = numbers.each_ref().map(|number| (number as _, Type::INT4));
    count(&session.one_row(CENSUS, &parameters).await?, 0)
}

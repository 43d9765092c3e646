//! How a client gets a server connection: at once if one is idle, opened if
//! there is a slot, otherwise in its turn.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout;

use super::{Member, Place};
use crate::directory::Node;
use crate::directory::roster::Occupant;
use crate::domain::{Access, Endpoint, Refusal};
use crate::pool::keeper::is_silent;
use crate::pool::ledger::PoolId;
use crate::pool::slots::{Grant, Leased, Waiting};
use crate::pool::{Greeting, Lead, NodeSlots, PooledServer, Slot};
use crate::session::attempt::{Attempt, Failure, Target, plan_full};
use crate::session::door::random;
use crate::session::standing::{Choice, Standing, choose};
use crate::session::{Departure, FrontDoor};
use crate::state::reports::Reports;

/// No version of the directory.
const NO_VERSION: u64 = u64::MAX;
/// As long as nobody waits in practice.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);
/// Between two looks whether a login waits in vain.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Member {
    /// An idle connection of the pool, if there is one at this moment and
    /// nothing was published since the client's last look.
    pub(super) fn lease_now(&mut self, door: &FrontDoor) -> Option<Box<PooledServer>> {
        let place = self.place.as_ref().filter(|p| p.version == door.directory.version())?;
        loop {
            let mut server = place.slots.lease_idle(place.pool)?;
            if is_silent(&mut server) {
                return Some(server);
            }
            // It has closed while nobody looked: the closer sees to it.
        }
    }

    /// A place in the pool's queue, if connections are waited for at this
    /// moment and nothing was published since the client's last look.
    pub(super) fn queue(&mut self, door: &FrontDoor) -> Option<Waiting> {
        let place = self.place.as_ref().filter(|p| p.version == door.directory.version())?;
        // First, so that whoever sees it wait can cancel it.
        self.target.wait();
        place.slots.queue(place.pool, Instant::now())
    }

    /// A connection of the pool, whatever it takes. A place in the queue that
    /// the client has already is kept.
    ///
    /// # Errors
    /// Why there is none; the client may go on with its session.
    pub(super) async fn lease(
        &mut self,
        door: &FrontDoor,
        queued: Option<Waiting>,
    ) -> Result<Box<PooledServer>, Departure> {
        if queued.is_none() {
            self.target.wait();
        }
        let queued = &Mutex::new(queued);
        // Whoever reads goes to the least active standby each time.
        let lasts = self.seat.occupant.endpoint.access == Access::ReadWrite;
        let version = if lasts { door.directory.version() } else { NO_VERSION };
        let (key, keys) = (self.key.clone(), Arc::clone(&self.keys));
        let endpoint = self.seat.occupant.endpoint.clone();
        let attempt = Attempt {
            door,
            endpoint: &endpoint,
            parameters: key.parameters(),
            keys: &keys,
            since: Instant::now(),
        };
        let (attempt, key, keys) = (&attempt, &key, &keys);
        let leased = attempt.until_given_up(&self.seat, |Target { lead, guarded, .. }| {
            Box::pin(async move {
                let slots = door.slots.of(&lead.node);
                let (pool, shared) = slots.pool(&key.guarded(guarded), keys);
                let queued = queued.lock().unwrap_or_else(PoisonError::into_inner).take();
                let queued = queued.filter(|waiting| waiting.is_for(&slots));
                let server = from_pool(attempt, (&lead, guarded), &slots, pool, queued).await?;
                Ok((server, Place { version, slots, pool, _keys: shared }))
            })
        });
        let (server, place) = tokio::select! {
            leased = leased => leased?,
            () = poll_fn(|cx| self.target.poll_cancelled(cx)) => {
                return Err(Refusal::CanceledWhileWaiting.into());
            }
        };
        self.place = Some(place);
        Ok(server)
    }

    /// A connection for the login. Whoever would wait for sessions and pinned
    /// connections to end is told so after `session_wait`, as on the session
    /// endpoint (decision 10); everybody else waits in the queue.
    async fn first_lease(&mut self, door: &FrontDoor) -> Result<Box<PooledServer>, Departure> {
        let endpoint = self.seat.occupant.endpoint.clone();
        let mut wait = door.policy.load().session_wait;
        let mut leased = pin!(self.lease(door, None));
        loop {
            if let Ok(leased) = timeout(wait, &mut leased).await {
                return leased;
            }
            if let Some(refusal) = full_for_life(door, &endpoint) {
                return Err(refusal.into());
            }
            wait = wait.max(LOOK_AGAIN);
        }
    }

    /// After how long the client is told that it waits for a connection.
    pub(super) fn notify_after(&self, door: &FrontDoor) -> Duration {
        let service = door.directory.service(&self.seat.occupant.endpoint.service);
        let notify = service.and_then(|service| service.nodes.first()?.pooling.query_wait_notify);
        notify.unwrap_or(FOR_EVER)
    }

    /// What the servers of the pool say at login, if it is known.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`]: the allowlist may have changed before the
    /// client had its seat.
    pub(super) fn known_greeting(
        &mut self,
        door: &FrontDoor,
    ) -> Result<Option<Arc<Greeting>>, Departure> {
        let version = door.directory.version();
        let Occupant { endpoint, address, .. } = &self.seat.occupant;
        let Some(service) = door.directory.service(&endpoint.service) else { return Ok(None) };
        if !service.allowlist.permits(address) {
            return Err(Refusal::NotPermitted { address: *address }.into());
        }
        let Ok(Choice { lead, guarded }) = choose(door, &service, endpoint.access) else {
            return Ok(None);
        };
        let slots = door.slots.of(&lead.node);
        let (pool, keys) = slots.pool(&self.key.guarded(guarded), &self.keys);
        self.keys = Arc::clone(&keys);
        let Some(greeting) = slots.greeting(pool) else { return Ok(None) };
        if endpoint.access == Access::ReadWrite {
            self.place = Some(Place { version, slots, pool, _keys: keys });
        }
        Ok(Some(greeting))
    }

    /// The same, by leasing a connection: the first login of a pool.
    ///
    /// # Errors
    /// What PostgreSQL does not like about role, database or settings.
    pub(super) async fn first_greeting(
        &mut self,
        door: &FrontDoor,
    ) -> Result<Arc<Greeting>, Departure> {
        let server = self.first_lease(door).await?;
        server.give_back();
        let place = self.place.as_ref();
        let greeting = place.and_then(|place| place.slots.greeting(place.pool));
        greeting.ok_or(Departure::Silent("the pool has said nothing"))
    }

    /// Appends what a client that reads hears when its next node has another
    /// role than its last one (trap D-26).
    pub(super) fn put_standing(&mut self, out: &mut BytesMut) {
        let Some(place) = self.place.as_ref().filter(|place| place.version == NO_VERSION) else {
            return;
        };
        if let Some(greeting) = place.slots.greeting(place.pool) {
            let standing = Standing::of(&greeting.messages);
            standing.put_difference(self.standing, out);
            self.standing = standing;
        }
    }
}

/// Why a login need not wait, if nobody who holds a connection is about to give
/// it back.
fn full_for_life(door: &FrontDoor, endpoint: &Endpoint) -> Option<Refusal> {
    let service = door.directory.service(&endpoint.service)?;
    let node = service.topology.primary.clone().ok()?;
    let counts = door.slots.of(&node).counts();
    let for_life = counts.session + counts.pinned;
    (for_life >= counts.capacity).then(|| plan_full(door, endpoint, &service, counts))
}

async fn from_pool(
    attempt: &Attempt<'_>,
    (lead, guarded): (&Lead, bool),
    slots: &Arc<NodeSlots>,
    pool: PoolId,
    mut queued: Option<Waiting>,
) -> Result<Box<PooledServer>, Failure> {
    let node = &lead.node;
    loop {
        let leased = queued.take().map_or_else(|| slots.lease(pool, attempt.since), Leased::Later);
        let grant = match leased {
            Leased::Now(grant) => grant,
            Leased::Later(waiting) => {
                let most = node.pooling.query_wait_timeout.unwrap_or(FOR_EVER);
                match timeout(most.saturating_sub(waiting.waited()), waiting).await {
                    Ok(grant) => grant,
                    Err(_) => return Err(Failure::Final(waited(node, most))),
                }
            }
        };
        match grant {
            Grant::Connection(mut server) => {
                if is_silent(&mut server) {
                    return Ok(server);
                }
            }
            Grant::Slot(slot) => return open(attempt, (lead, guarded), slots, pool, slot).await,
        }
    }
}

fn waited(node: &Node, most: Duration) -> Departure {
    let pool_size = node.pooling.pool_size.unwrap_or(node.capacity).min(node.capacity);
    Refusal::QueueTimeout { seconds: most.as_secs(), pool_size }.into()
}

async fn open(
    attempt: &Attempt<'_>,
    (lead, guarded): (&Lead, bool),
    slots: &Arc<NodeSlots>,
    pool: PoolId,
    slot: Slot,
) -> Result<Box<PooledServer>, Failure> {
    let (server, logged_in) = attempt.open(lead, guarded, slot).await?;
    let reports = Reports::from_messages(&logged_in.greeting);
    let messages = logged_in.greeting.freeze();
    let tenure = Arc::clone(&lead.tenure);
    slots.greeted(pool, Greeting { messages, reports: reports.clone(), tenure });
    Ok(PooledServer::new(server, pool, reports, jitter()))
}

/// Between 0.9 and 1.
fn jitter() -> f64 {
    let [random] = random::<1>();
    1.0 - f64::from(random) / 2560.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c13_connections_of_one_age_do_not_expire_at_once() {
        let hour = Duration::from_secs(3600);
        let mut ends: Vec<_> = (0..100).map(|_| hour.mul_f64(jitter())).collect();
        ends.sort();
        assert!(ends[0] >= hour.mul_f64(0.9) && ends[99] <= hour, "{ends:?}");
        let in_a_second = |from: &Duration| {
            let second = *from..*from + Duration::from_secs(1);
            ends.iter().copied().filter(|end| second.contains(end)).count()
        };
        let most = ends.iter().map(in_a_second).max().unwrap();
        assert!(most <= 10, "{most} within one second");
    }
}

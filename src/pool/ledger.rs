//! The counts and the queue of one node's slots, as a plain value (decisions
//! 8 to 11). Time is an argument; nothing here opens, closes or waits.
//!
//! ```text
//!            ┌─ session ──────────────────────────────┐
//! free ──────┤                                        ├──▶ closing ──▶ free
//!            └─ opening ──▶ busy ◀──▶ idle (pooled) ──┘
//! ```
//!
//! A session's connection that is used again is its pool's from the session's
//! end to the beginning of the next one.
//!
//! Invariants: the sum of all states exceeds the capacity only while the
//! capacity has just been lowered; nobody waits in a pool that has an idle
//! connection; a ticket is granted once or abandoned.

mod queues;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::net::Worker;
use queues::Queues;

/// Connections that are opened side by side on one node.
pub const MAX_OPENING: u32 = 16;
/// How long the oldest waiter may be overtaken by those of other pools.
pub const SWITCH_AFTER: Duration = Duration::from_millis(25);

/// One pool of a node's pooled connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// What a slot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// A client of the session endpoint holds it.
    Session,
    /// A connection for a pool is being opened.
    Opening,
    /// A pooled connection is lent to a client.
    Busy,
    /// A pooled connection is lent to a client that keeps it (a pin).
    Pinned,
    /// A pooled connection waits for a client.
    Idle,
    /// A connection is being closed.
    Closing,
}

/// How the slots of a node may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Slots there are.
    pub capacity: u32,
    /// Slots that pooled connections may hold at most.
    pub pool_size: u32,
    /// Slots that sessions leave to the pools.
    pub pooled_reserve: u32,
}

/// The counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Slots there are.
    pub capacity: u32,
    /// Slots with clients of the session endpoint.
    pub session: u32,
    /// Slots of connections that are being opened for a pool.
    pub opening: u32,
    /// Slots of pooled connections that are lent.
    pub busy: u32,
    /// Those of `busy` whose clients keep them.
    pub pinned: u32,
    /// Slots of pooled connections that nobody uses.
    pub idle: u32,
    /// Slots whose server connection is being closed.
    pub closing: u32,
    /// Clients in the queue.
    pub waiting: u32,
}

impl Counts {
    /// Slots in any use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.session + self.pooled() + self.closing
    }

    /// Slots of the pools.
    #[must_use]
    pub fn pooled(&self) -> u32 {
        self.opening + self.busy + self.idle
    }
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Session,
    Pool(PoolId, Worker),
}

/// A session that waits, and the pool whose connections would do for it.
type WaitingSession = (Place, Option<PoolId>);

#[derive(Debug, Clone, Copy)]
struct Arrival {
    place: Place,
    who: Who,
    at: Instant,
}

impl Arrival {
    fn is_in(&self, pool: PoolId) -> bool {
        matches!(self.who, Who::Pool(own, _) if own == pool)
    }
}

/// A place in a queue: before those who have waited less long, here or
/// elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    since: Instant,
    ticket: Ticket,
}

#[derive(Debug, Default)]
struct PoolCounts {
    idle: u32,
    queues: Queues,
}

/// The counts of one node.
#[derive(Debug, Default)]
pub struct Ledger {
    limits: Limits,
    counts: Counts,
    pools: FxHashMap<PoolId, PoolCounts>,
    sessions: VecDeque<WaitingSession>,
    /// Everybody who waits, oldest first; those who were served or have gone
    /// are skipped when they come to the front.
    arrivals: VecDeque<Arrival>,
    last_ticket: u64,
}

/// What a client that wants a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// One of the pool's idle connections is his.
    Idle,
    /// A slot is his: to open a connection for the pool, or for a session.
    Granted,
    /// He waits; if a pool is named, one of its idle connections must be
    /// closed to make room.
    Wait(Ticket, Option<PoolId>),
    /// Nobody who holds a slot is about to give it back (decision 10).
    Full,
}

/// What becomes of a pooled connection that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// It goes to this waiter, and is used like this.
    Hand(Ticket, Use),
    /// It waits for the next client.
    Keep,
    /// It is closed: its slot is needed elsewhere, or is one too many.
    Close,
}

impl Ledger {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { capacity: self.limits.capacity, ..self.counts }
    }

    /// How the slots may be used.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The slots may be used like this from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Who of the queue holds a slot now: to be asked after every other call,
    /// as most of them may free one.
    pub fn grants(&mut self) -> Vec<(Ticket, Use)> {
        if self.counts.waiting == 0 {
            return Vec::new();
        }
        std::iter::from_fn(|| self.grant_next()).collect()
    }

    /// A client of the session endpoint asks for a slot, which has waited since
    /// then, perhaps for a primary; or for an idle connection of a pool that
    /// would do.
    pub fn admit_session(
        &mut self,
        pool: Option<PoolId>,
        since: Instant,
        now: Instant,
    ) -> Admission {
        let most = self.limits.capacity.saturating_sub(self.limits.pooled_reserve);
        if self.counts.session >= most {
            return Admission::Full;
        }
        if let Some(pool) = pool
            && self.pools.entry(pool).or_default().idle > 0
        {
            self.lease_idle(pool);
            self.change(Use::Busy, Use::Session);
            return Admission::Idle;
        }
        if self.has_free() && self.counts.waiting == 0 {
            self.counts.session += 1;
            return Admission::Granted;
        }
        // As many may wait as slots are coming back: whoever is behind them
        // would wait for somebody who keeps his.
        let counts = self.counts;
        let coming = counts.closing + counts.idle + counts.opening + counts.busy - counts.pinned;
        if self.sessions.len() >= coming as usize {
            return Admission::Full;
        }
        let place = self.enqueue(Who::Session, since, now);
        insert(&mut self.sessions, (place, pool), |(queued, _)| *queued);
        Admission::Wait(place.ticket, self.evict(None))
    }

    /// A slot to open a connection with that nobody has asked for, if it is
    /// free and nobody waits for one.
    pub fn spare(&mut self) -> bool {
        let granted = self.counts.waiting == 0 && self.may_open();
        self.counts.opening += u32::from(granted);
        granted
    }

    /// An idle connection of a pool, which must have one, is lent.
    ///
    /// # Panics
    /// If the pool has none.
    pub fn lease_idle(&mut self, pool: PoolId) {
        let entry = self.pools.get_mut(&pool).expect("a pool with an idle connection is known");
        entry.idle -= 1;
        self.counts.idle -= 1;
        self.counts.busy += 1;
    }

    /// A client of a worker asks for a connection of a pool, which has waited
    /// since then, perhaps for a primary.
    pub fn lease(
        &mut self,
        pool: PoolId,
        worker: Worker,
        since: Instant,
        now: Instant,
    ) -> Admission {
        if self.pools.entry(pool).or_default().idle > 0 {
            self.lease_idle(pool);
            return Admission::Idle;
        }
        if let Some((ticket, evict)) = self.queue(pool, worker, since, now) {
            return Admission::Wait(ticket, evict);
        }
        self.counts.opening += 1;
        Admission::Granted
    }

    /// Queues a client of a pool that has no idle connection, unless one may
    /// be opened for him; names the pool that must make room.
    pub fn queue(
        &mut self,
        pool: PoolId,
        worker: Worker,
        since: Instant,
        now: Instant,
    ) -> Option<(Ticket, Option<PoolId>)> {
        let entry = self.pools.entry(pool).or_default();
        if entry.idle > 0 || self.counts.waiting == 0 && self.may_open() {
            return None;
        }
        let place = self.enqueue(Who::Pool(pool, worker), since, now);
        self.pools.entry(pool).or_default().queues.insert(worker, place);
        Some((place.ticket, self.evict(Some(pool))))
    }

    /// A lent connection comes back, clean, which this worker watches.
    pub fn give_back(&mut self, pool: PoolId, worker: Worker, now: Instant) -> GivenBack {
        let too_many = self.counts.used() > self.limits.capacity
            || self.counts.pooled() > self.limits.pool_size;
        if !too_many && self.counts.waiting == 0 {
            return self.keep(pool);
        }
        if !too_many {
            let oldest = self.oldest();
            let own = self.first_of(pool, worker);
            match (own, oldest) {
                (None, None) => return self.keep(pool),
                (Some(own), Some(oldest))
                    if oldest.place == own.1
                        || oldest.is_in(pool)
                        || now - oldest.at <= SWITCH_AFTER =>
                {
                    return self.hand(own);
                }
                // Those who wait elsewhere are being made room for already.
                (own, _) if self.counts.closing >= self.counts.waiting => {
                    return match own {
                        None => self.keep(pool),
                        Some(own) => self.hand(own),
                    };
                }
                _ => {}
            }
        }
        self.counts.busy -= 1;
        self.counts.closing += 1;
        GivenBack::Close
    }

    /// An idle connection leaves its pool to be closed.
    ///
    /// # Panics
    /// If the pool has none.
    pub fn close_idle(&mut self, pool: PoolId) {
        let entry = self.pools.get_mut(&pool).expect("a pool with an idle connection is known");
        entry.idle -= 1;
        self.counts.idle -= 1;
        self.counts.closing += 1;
    }

    /// A slot changes its use without changing hands: a connection is open, is
    /// kept, or is being closed.
    pub fn change(&mut self, from: Use, to: Use) {
        self.leave(from);
        self.enter(to);
    }

    /// A slot is free again.
    pub fn release(&mut self, was: Use) {
        self.leave(was);
    }

    /// Somebody waits no longer; whether he was still in the queue.
    pub fn abandon(&mut self, ticket: Ticket) -> bool {
        let left = leave(&mut self.sessions, |(waiting, _)| waiting.ticket == ticket)
            || self.pools.values_mut().any(|pool| pool.queues.remove(ticket));
        self.counts.waiting -= u32::from(left);
        left
    }

    /// Forgets a pool that has nothing and nobody.
    pub fn forget(&mut self, pool: PoolId) {
        if self.pools.get(&pool).is_some_and(|p| p.idle == 0 && p.queues.is_empty()) {
            self.pools.remove(&pool);
        }
    }

    fn has_free(&self) -> bool {
        self.counts.used() < self.limits.capacity
    }

    fn may_open(&self) -> bool {
        self.has_free()
            && self.counts.pooled() < self.limits.pool_size
            && self.counts.opening < MAX_OPENING
    }

    fn enqueue(&mut self, who: Who, since: Instant, at: Instant) -> Place {
        self.last_ticket += 1;
        self.counts.waiting += 1;
        let place = Place { since, ticket: Ticket(self.last_ticket) };
        insert(&mut self.arrivals, Arrival { place, who, at }, |arrival| arrival.place);
        place
    }

    fn keep(&mut self, pool: PoolId) -> GivenBack {
        self.pools.entry(pool).or_default().idle += 1;
        self.counts.busy -= 1;
        self.counts.idle += 1;
        GivenBack::Keep
    }

    /// Who gets a connection of this pool, watched by this worker.
    fn first_of(&self, pool: PoolId, worker: Worker) -> Option<(Who, Place)> {
        let queued = self.pools.get(&pool).and_then(|pool| pool.queues.next(worker));
        if let Some((worker, place)) = queued {
            return Some((Who::Pool(pool, worker), place));
        }
        let session = self.sessions.iter().find(|(_, wanted)| *wanted == Some(pool));
        session.map(|(place, _)| (Who::Session, *place))
    }

    fn hand(&mut self, (who, to): (Who, Place)) -> GivenBack {
        self.counts.waiting -= 1;
        // Nearly always it is he who has waited longest.
        if self.arrivals.front().is_some_and(|arrival| arrival.place == to) {
            self.arrivals.pop_front();
        }
        match who {
            Who::Pool(pool, worker) => {
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.queues.pop(worker);
                }
                GivenBack::Hand(to.ticket, Use::Busy)
            }
            Who::Session => {
                leave(&mut self.sessions, |(waiting, _)| *waiting == to);
                self.change(Use::Busy, Use::Session);
                GivenBack::Hand(to.ticket, Use::Session)
            }
        }
    }

    /// The pool whose idle connection should be closed for the newest waiter,
    /// if room is not being made for everybody already.
    fn evict(&mut self, not: Option<PoolId>) -> Option<PoolId> {
        if self.counts.closing >= self.counts.waiting || self.counts.opening >= MAX_OPENING {
            return None;
        }
        let others = self.pools.iter().filter(|(id, pool)| Some(**id) != not && pool.idle > 0);
        let victim = others.max_by_key(|(id, pool)| (pool.idle, **id)).map(|(id, _)| *id)?;
        self.close_idle(victim);
        Some(victim)
    }

    /// Whoever has waited longest.
    fn oldest(&mut self) -> Option<Arrival> {
        loop {
            let arrival = *self.arrivals.front()?;
            let first = match arrival.who {
                Who::Session => self.sessions.front().map(|(place, _)| *place),
                Who::Pool(pool, worker) => {
                    self.pools.get(&pool).and_then(|pool| pool.queues.front(worker))
                }
            };
            // The oldest of all is the oldest of its own queue, or was served.
            if first == Some(arrival.place) {
                return Some(arrival);
            }
            self.arrivals.pop_front();
        }
    }

    /// Gives a free slot to the oldest who can use it: a session may pass
    /// pools that may not open any more.
    fn grant_next(&mut self) -> Option<(Ticket, Use)> {
        if !self.has_free() {
            return None;
        }
        let oldest = self.oldest()?;
        match oldest.who {
            Who::Pool(pool, worker) if self.may_open() => {
                self.pools.get_mut(&pool)?.queues.pop(worker);
                self.counts.opening += 1;
                self.counts.waiting -= 1;
                Some((oldest.place.ticket, Use::Opening))
            }
            _ => {
                let (place, _) = self.sessions.pop_front()?;
                self.counts.session += 1;
                self.counts.waiting -= 1;
                Some((place.ticket, Use::Session))
            }
        }
    }

    fn leave(&mut self, from: Use) {
        let count = self.count(from);
        assert!(*count > 0, "a slot leaves {from:?} once");
        *count -= 1;
        if from == Use::Pinned {
            self.counts.busy -= 1;
        }
    }

    fn enter(&mut self, to: Use) {
        *self.count(to) += 1;
        if to == Use::Pinned {
            self.counts.busy += 1;
        }
    }

    fn count(&mut self, of: Use) -> &mut u32 {
        let counts = &mut self.counts;
        match of {
            Use::Session => &mut counts.session,
            Use::Opening => &mut counts.opening,
            Use::Busy => &mut counts.busy,
            Use::Pinned => &mut counts.pinned,
            Use::Idle => &mut counts.idle,
            Use::Closing => &mut counts.closing,
        }
    }
}

/// Takes somebody out of a queue; whether he was in it.
fn leave<T>(queue: &mut VecDeque<T>, is_he: impl Fn(&T) -> bool) -> bool {
    let before = queue.len();
    queue.retain(|waiting| !is_he(waiting));
    queue.len() < before
}

/// Puts something into a queue whose order is that of the places: nearly always
/// at its end.
fn insert<T>(queue: &mut VecDeque<T>, new: T, place: impl Fn(&T) -> Place) {
    if queue.back().is_none_or(|last| place(last) < place(&new)) {
        return queue.push_back(new);
    }
    let at = queue.partition_point(|queued| place(queued) < place(&new));
    queue.insert(at, new);
}

#[cfg(test)]
mod tests;

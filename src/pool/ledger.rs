//! The counts and the queue of one node's slots, as a plain value (decisions
//! 8 to 11). Time is an argument; nothing here opens, closes or waits.
//!
//! ```text
//!            ┌─ session ──────────────────────────────┐
//! free ──────┤                                        ├──▶ closing ──▶ free
//!            └─ opening ──▶ busy ◀──▶ idle (pooled) ──┘
//! ```
//!
//! Invariants: the sum of all states exceeds the capacity only while the
//! capacity has just been lowered; nobody waits in a pool that has an idle
//! connection; a ticket is granted once or abandoned.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Connections that are opened side by side on one node.
pub const MAX_OPENING: u32 = 16;
/// How long the oldest waiter may be overtaken by those of other pools.
pub const SWITCH_AFTER: Duration = Duration::from_millis(25);

/// One pool of a node's pooled connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

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
    Pool(PoolId),
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    ticket: Ticket,
    who: Who,
    at: Instant,
}

#[derive(Debug, Default)]
struct PoolCounts {
    idle: u32,
    queue: VecDeque<Ticket>,
}

/// The counts of one node.
#[derive(Debug, Default)]
pub struct Ledger {
    limits: Limits,
    counts: Counts,
    pools: HashMap<PoolId, PoolCounts>,
    sessions: VecDeque<Ticket>,
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
    /// It goes to this waiter.
    Hand(Ticket),
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

    /// A client of the session endpoint asks for a slot.
    pub fn admit_session(&mut self, now: Instant) -> Admission {
        let most = self.limits.capacity.saturating_sub(self.limits.pooled_reserve);
        if self.counts.session >= most {
            return Admission::Full;
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
        let ticket = self.enqueue(Who::Session, now);
        self.sessions.push_back(ticket);
        Admission::Wait(ticket, self.evict(None))
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

    /// A client asks for a connection of a pool.
    pub fn lease(&mut self, pool: PoolId, now: Instant) -> Admission {
        if self.pools.entry(pool).or_default().idle > 0 {
            self.lease_idle(pool);
            return Admission::Idle;
        }
        if self.counts.waiting == 0 && self.may_open() {
            self.counts.opening += 1;
            return Admission::Granted;
        }
        let ticket = self.enqueue(Who::Pool(pool), now);
        self.pools.entry(pool).or_default().queue.push_back(ticket);
        Admission::Wait(ticket, self.evict(Some(pool)))
    }

    /// A lent connection comes back, clean.
    pub fn give_back(&mut self, pool: PoolId, now: Instant) -> GivenBack {
        let too_many = self.counts.used() > self.limits.capacity
            || self.counts.pooled() > self.limits.pool_size;
        if !too_many {
            let oldest = self.oldest();
            let own = self.pools.get(&pool).and_then(|pool| pool.queue.front().copied());
            match (own, oldest) {
                (None, None) => return self.keep(pool),
                (Some(own), Some(oldest))
                    if oldest.ticket == own || now - oldest.at <= SWITCH_AFTER =>
                {
                    return self.hand(pool, own);
                }
                // Those who wait elsewhere are being made room for already.
                (own, _) if self.counts.closing >= self.counts.waiting => {
                    return match own {
                        None => self.keep(pool),
                        Some(own) => self.hand(pool, own),
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
        let leave = |queue: &mut VecDeque<Ticket>| {
            let before = queue.len();
            queue.retain(|waiting| *waiting != ticket);
            queue.len() < before
        };
        let left =
            leave(&mut self.sessions) || self.pools.values_mut().any(|pool| leave(&mut pool.queue));
        self.counts.waiting -= u32::from(left);
        left
    }

    /// Forgets a pool that has nothing and nobody.
    pub fn forget(&mut self, pool: PoolId) {
        if self.pools.get(&pool).is_some_and(|p| p.idle == 0 && p.queue.is_empty()) {
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

    fn enqueue(&mut self, who: Who, at: Instant) -> Ticket {
        self.last_ticket += 1;
        self.counts.waiting += 1;
        let ticket = Ticket(self.last_ticket);
        self.arrivals.push_back(Arrival { ticket, who, at });
        ticket
    }

    fn keep(&mut self, pool: PoolId) -> GivenBack {
        self.pools.entry(pool).or_default().idle += 1;
        self.counts.busy -= 1;
        self.counts.idle += 1;
        GivenBack::Keep
    }

    fn hand(&mut self, pool: PoolId, ticket: Ticket) -> GivenBack {
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.queue.pop_front();
        }
        self.counts.waiting -= 1;
        GivenBack::Hand(ticket)
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
            let queue = match arrival.who {
                Who::Session => Some(&self.sessions),
                Who::Pool(pool) => self.pools.get(&pool).map(|pool| &pool.queue),
            };
            // The oldest of all is the oldest of its own queue, or was served.
            if queue.is_some_and(|queue| queue.front() == Some(&arrival.ticket)) {
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
            Who::Pool(pool) if self.may_open() => {
                self.pools.get_mut(&pool)?.queue.pop_front();
                self.counts.opening += 1;
                self.counts.waiting -= 1;
                Some((oldest.ticket, Use::Opening))
            }
            _ => {
                let ticket = self.sessions.pop_front()?;
                self.counts.session += 1;
                self.counts.waiting -= 1;
                Some((ticket, Use::Session))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const A: PoolId = PoolId(1);
    const B: PoolId = PoolId(2);

    fn ledger(capacity: u32) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set_limits(Limits { capacity, pool_size: capacity, pooled_reserve: 0 });
        ledger
    }

    fn ticket(admission: Admission) -> Ticket {
        match admission {
            Admission::Wait(ticket, _) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn c02_exactly_as_many_sessions_as_the_plan_says() {
        let (mut ledger, now) = (ledger(25), Instant::now());
        for _ in 0..25 {
            assert_eq!(ledger.admit_session(now), Admission::Granted);
        }
        assert_eq!(ledger.admit_session(now), Admission::Full);
        ledger.release(Use::Session);
        assert_eq!(ledger.grants(), []);
        assert_eq!(ledger.admit_session(now), Admission::Granted);
        assert_eq!(ledger.admit_session(now), Admission::Full);
    }

    #[test]
    fn c03_a_closing_slot_is_waited_for_and_not_given_twice() {
        let (mut ledger, now) = (ledger(1), Instant::now());
        assert_eq!(ledger.admit_session(now), Admission::Granted);
        ledger.change(Use::Session, Use::Closing);
        let first = ticket(ledger.admit_session(now));
        assert_eq!(ledger.admit_session(now), Admission::Full);
        ledger.release(Use::Closing);
        assert_eq!(ledger.grants(), [(first, Use::Session)]);
        assert_eq!(ledger.admit_session(now), Admission::Full);
    }

    #[test]
    fn a_connection_goes_to_the_oldest_of_its_pool() {
        let (mut ledger, now) = (ledger(1), Instant::now());
        assert_eq!(ledger.lease(A, now), Admission::Granted);
        ledger.change(Use::Opening, Use::Busy);
        let first = ticket(ledger.lease(A, now));
        let second = ticket(ledger.lease(A, now));
        assert_eq!(ledger.give_back(A, now), GivenBack::Hand(first));
        assert_eq!(ledger.give_back(A, now), GivenBack::Hand(second));
        assert_eq!(ledger.give_back(A, now), GivenBack::Keep);
        assert_eq!(ledger.lease(A, now), Admission::Idle);
    }

    #[test]
    fn c07_whoever_waits_longest_is_overtaken_for_25_ms_only() {
        let (mut ledger, start) = (ledger(1), Instant::now());
        ledger.lease(A, start);
        ledger.change(Use::Opening, Use::Busy);
        let other = ticket(ledger.lease(B, start));
        let own = ticket(ledger.lease(A, start));
        let again = ticket(ledger.lease(A, start));
        assert_eq!(ledger.give_back(A, start + SWITCH_AFTER), GivenBack::Hand(own));
        let late = start + SWITCH_AFTER + Duration::from_millis(1);
        assert_eq!(ledger.give_back(A, late), GivenBack::Close);
        ledger.release(Use::Closing);
        assert_eq!(ledger.grants(), [(other, Use::Opening)]);
        ledger.change(Use::Opening, Use::Busy);
        assert_eq!(ledger.give_back(B, late), GivenBack::Close);
        ledger.release(Use::Closing);
        assert_eq!(ledger.grants(), [(again, Use::Opening)]);
    }

    #[test]
    fn an_idle_connection_of_another_pool_makes_room() {
        let (mut ledger, now) = (ledger(1), Instant::now());
        ledger.lease(A, now);
        ledger.change(Use::Opening, Use::Busy);
        assert_eq!(ledger.give_back(A, now), GivenBack::Keep);
        let Admission::Wait(waiting, Some(A)) = ledger.lease(B, now) else { panic!("evicts") };
        ledger.release(Use::Closing);
        assert_eq!(ledger.grants(), [(waiting, Use::Opening)]);
        ledger.change(Use::Opening, Use::Busy);
        ledger.give_back(B, now);
        let Admission::Wait(session, Some(B)) = ledger.admit_session(now) else { panic!("evicts") };
        ledger.release(Use::Closing);
        assert_eq!(ledger.grants(), [(session, Use::Session)]);
    }

    #[test]
    fn pins_and_sessions_are_not_waited_for_by_sessions() {
        let (mut ledger, now) = (ledger(2), Instant::now());
        ledger.admit_session(now);
        ledger.lease(A, now);
        ledger.change(Use::Opening, Use::Busy);
        ledger.change(Use::Busy, Use::Pinned);
        assert_eq!(ledger.admit_session(now), Admission::Full);
        ledger.change(Use::Pinned, Use::Busy);
        assert!(matches!(ledger.admit_session(now), Admission::Wait(..)));
    }

    #[test]
    fn the_pools_keep_to_their_size_and_sessions_leave_the_reserve() {
        let mut ledger = Ledger::default();
        ledger.set_limits(Limits { capacity: 4, pool_size: 1, pooled_reserve: 1 });
        let now = Instant::now();
        assert_eq!(ledger.lease(A, now), Admission::Granted);
        let waiting = ticket(ledger.lease(A, now));
        // Somebody waits already, so sessions queue behind him: one, as one
        // connection is coming back.
        let session = ticket(ledger.admit_session(now));
        assert_eq!(ledger.admit_session(now), Admission::Full);
        // A free slot is no use to the pool, so it is to the session.
        assert_eq!(ledger.grants(), [(session, Use::Session)]);
        ledger.change(Use::Opening, Use::Busy);
        assert_eq!(ledger.give_back(A, now), GivenBack::Hand(waiting));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Session,
        Lease(u32),
        Open,
        OpenFails,
        GiveBack(u32, u64),
        Lose,
        SessionEnds,
        Closed,
        Abandon,
        Limits(u32, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Session),
            4 => (0u32..3).prop_map(Step::Lease),
            3 => Just(Step::Open),
            1 => Just(Step::OpenFails),
            4 => ((0u32..3), (0u64..60)).prop_map(|(pool, ms)| Step::GiveBack(pool, ms)),
            1 => Just(Step::Lose),
            2 => Just(Step::SessionEnds),
            3 => Just(Step::Closed),
            1 => Just(Step::Abandon),
            1 => ((0u32..5), (0u32..5)).prop_map(|(c, p)| Step::Limits(c, p)),
        ];
        prop::collection::vec(step, 0..120)
    }

    /// What the world looks like beside the ledger.
    #[derive(Default)]
    struct World {
        opening: Vec<u32>,
        busy: BTreeMap<u32, u32>,
        idle: BTreeMap<u32, u32>,
        sessions: u32,
        closing: u32,
        waiting: Vec<(Ticket, Option<u32>)>,
    }

    impl World {
        fn grant(&mut self, tickets: Vec<(Ticket, Use)>) {
            for (ticket, _) in tickets {
                let at = self.waiting.iter().position(|(t, _)| *t == ticket).expect("it waits");
                match self.waiting.remove(at).1 {
                    Some(pool) => self.opening.push(pool),
                    None => self.sessions += 1,
                }
            }
        }

        fn evict(&mut self, pool: Option<PoolId>) {
            if let Some(PoolId(pool)) = pool {
                *self.idle.get_mut(&pool).unwrap() -= 1;
                self.closing += 1;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn c05_slots_are_conserved_and_nobody_waits_beside_a_usable_one(steps in steps()) {
            let mut ledger = ledger(3);
            let mut limits = (3, 3);
            let mut world = World::default();
            let mut now = Instant::now();
            for step in steps {
                let before = ledger.counts().used();
                match step {
                    Step::Session => match ledger.admit_session(now) {
                        Admission::Granted => world.sessions += 1,
                        Admission::Wait(ticket, evicted) => {
                            world.waiting.push((ticket, None));
                            world.evict(evicted);
                        }
                        _ => {}
                    },
                    Step::Lease(pool) => match ledger.lease(PoolId(pool), now) {
                        Admission::Idle => {
                            *world.idle.get_mut(&pool).unwrap() -= 1;
                            *world.busy.entry(pool).or_default() += 1;
                        }
                        Admission::Granted => world.opening.push(pool),
                        Admission::Wait(ticket, evicted) => {
                            world.waiting.push((ticket, Some(pool)));
                            world.evict(evicted);
                        }
                        Admission::Full => prop_assert!(false, "pools always wait"),
                    },
                    Step::Open if !world.opening.is_empty() => {
                        let pool = world.opening.remove(0);
                        *world.busy.entry(pool).or_default() += 1;
                        ledger.change(Use::Opening, Use::Busy);
                    }
                    Step::OpenFails if !world.opening.is_empty() => {
                        world.opening.remove(0);
                        ledger.release(Use::Opening);
                    }
                    Step::GiveBack(pool, ms) if world.busy.get(&pool).is_some_and(|n| *n > 0) => {
                        now += Duration::from_millis(ms);
                        match ledger.give_back(PoolId(pool), now) {
                            GivenBack::Hand(ticket) => {
                                let at = world.waiting.iter().position(|(t, _)| *t == ticket).unwrap();
                                prop_assert_eq!(world.waiting.remove(at).1, Some(pool));
                            }
                            GivenBack::Keep => {
                                *world.busy.get_mut(&pool).unwrap() -= 1;
                                *world.idle.entry(pool).or_default() += 1;
                            }
                            GivenBack::Close => {
                                *world.busy.get_mut(&pool).unwrap() -= 1;
                                world.closing += 1;
                            }
                        }
                    }
                    Step::Lose => {
                        if let Some((_, busy)) = world.busy.iter_mut().find(|(_, n)| **n > 0) {
                            *busy -= 1;
                            world.closing += 1;
                            ledger.change(Use::Busy, Use::Closing);
                        }
                    }
                    Step::SessionEnds if world.sessions > 0 => {
                        world.sessions -= 1;
                        world.closing += 1;
                        ledger.change(Use::Session, Use::Closing);
                    }
                    Step::Closed if world.closing > 0 => {
                        world.closing -= 1;
                        ledger.release(Use::Closing);
                    }
                    Step::Abandon if !world.waiting.is_empty() => {
                        let (ticket, _) = world.waiting.remove(0);
                        prop_assert!(ledger.abandon(ticket));
                        prop_assert!(!ledger.abandon(ticket));
                    }
                    Step::Limits(capacity, pool_size) => {
                        limits = (capacity, pool_size);
                        let limits = Limits { capacity, pool_size, pooled_reserve: 0 };
                        ledger.set_limits(limits);
                    }
                    _ => {}
                }
                world.grant(ledger.grants());
                let counts = ledger.counts();
                prop_assert_eq!(counts.session, world.sessions);
                prop_assert_eq!(counts.opening as usize, world.opening.len());
                prop_assert_eq!(counts.busy, world.busy.values().sum::<u32>());
                prop_assert_eq!(counts.idle, world.idle.values().sum::<u32>());
                prop_assert_eq!(counts.closing, world.closing);
                prop_assert_eq!(counts.waiting as usize, world.waiting.len());
                prop_assert!(counts.used() <= limits.0.max(before), "more than the plan has");
                let free = counts.used() < limits.0;
                let may_open = free && counts.pooled() < limits.1 && counts.opening < MAX_OPENING;
                let oldest_is_pool = world.waiting.first().is_some_and(|(_, who)| who.is_some());
                prop_assert!(!(may_open && oldest_is_pool), "a pool waits beside a free slot");
                for (_, pool) in &world.waiting {
                    let idle = pool.and_then(|pool| world.idle.get(&pool)).copied().unwrap_or(0);
                    prop_assert_eq!(idle, 0, "waits beside an idle connection");
                }
            }
        }
    }
}

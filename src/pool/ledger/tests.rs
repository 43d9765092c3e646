//! Single decisions by example, and all of them against a model of the world.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const HERE: Worker = Worker(0);
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

/// A connection goes to who waits where it is watched; but nobody elsewhere
/// waits much longer for it.
#[test]
fn c07_another_worker_is_passed_by_for_a_moment_only() {
    let start = Instant::now();
    let (here, there) = (Worker(0), Worker(1));
    let after = |millis| start + Duration::from_millis(millis);
    let mut ledger = ledger(1);
    assert_eq!(ledger.lease(A, here, start, start), Admission::Granted);
    ledger.change(Use::Opening, Use::Busy);
    let elsewhere = ticket(ledger.lease(A, there, after(0), after(0)));
    let own = ticket(ledger.lease(A, here, after(4), after(4)));
    let late = ticket(ledger.lease(A, here, after(6), after(6)));
    let own_again = ticket(ledger.lease(A, here, after(7), after(7)));
    assert_eq!(ledger.give_back(A, here, after(50)), GivenBack::Hand(own, Use::Busy));
    assert_eq!(ledger.give_back(A, here, after(60)), GivenBack::Hand(elsewhere, Use::Busy));
    assert_eq!(ledger.give_back(A, there, after(70)), GivenBack::Hand(late, Use::Busy));
    assert!(ledger.abandon(own_again));
    assert_eq!(ledger.give_back(A, there, after(80)), GivenBack::Keep);
}

#[test]
fn c02_exactly_as_many_sessions_as_the_plan_says() {
    let (mut ledger, now) = (ledger(25), Instant::now());
    for _ in 0..25 {
        assert_eq!(ledger.admit_session(None, now, now), Admission::Granted);
    }
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
    ledger.release(Use::Session);
    assert_eq!(ledger.grants(), []);
    assert_eq!(ledger.admit_session(None, now, now), Admission::Granted);
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
}

#[test]
fn c03_a_closing_slot_is_waited_for_and_not_given_twice() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    assert_eq!(ledger.admit_session(None, now, now), Admission::Granted);
    ledger.change(Use::Session, Use::Closing);
    let first = ticket(ledger.admit_session(None, now, now));
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(first, Use::Session)]);
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
}

#[test]
fn a_sessions_connection_goes_to_the_oldest_session_that_it_does_for() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    assert_eq!(ledger.admit_session(Some(A), now, now), Admission::Granted);
    ledger.change(Use::Session, Use::Closing);
    let first = ticket(ledger.admit_session(Some(A), now, now));
    ledger.change(Use::Closing, Use::Busy);
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Hand(first, Use::Session));
    assert_eq!(ledger.admit_session(Some(A), now, now), Admission::Full);
    ledger.change(Use::Session, Use::Busy);
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Keep);
    let other = ticket(ledger.admit_session(Some(B), now, now));
    assert_eq!((ledger.counts().idle, ledger.counts().closing), (0, 1));
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(other, Use::Session)]);
    ledger.change(Use::Session, Use::Busy);
    assert_eq!(ledger.give_back(B, HERE, now), GivenBack::Keep);
    assert_eq!(ledger.admit_session(Some(B), now, now), Admission::Idle);
    assert_eq!((ledger.counts().session, ledger.counts().used()), (1, 1));
}

#[test]
fn a_connection_goes_to_the_oldest_of_its_pool() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    assert_eq!(ledger.lease(A, HERE, now, now), Admission::Granted);
    ledger.change(Use::Opening, Use::Busy);
    let first = ticket(ledger.lease(A, HERE, now, now));
    let second = ticket(ledger.lease(A, HERE, now, now));
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Hand(first, Use::Busy));
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Hand(second, Use::Busy));
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Keep);
    assert_eq!(ledger.lease(A, HERE, now, now), Admission::Idle);
}

/// Decision 32: who was held longest is served first, whoever asked first.
#[test]
fn who_has_waited_longest_elsewhere_is_served_first() {
    let (mut ledger, start) = (ledger(1), Instant::now());
    let held = |seconds| start.checked_sub(Duration::from_secs(seconds)).unwrap();
    ledger.lease(A, HERE, start, start);
    ledger.change(Use::Opening, Use::Busy);
    let young = ticket(ledger.lease(A, HERE, held(1), start));
    let session = ticket(ledger.admit_session(None, held(2), start));
    let old = ticket(ledger.lease(B, HERE, held(3), start));
    let younger = ticket(ledger.lease(A, HERE, held(0), start));
    ledger.release(Use::Busy);
    assert_eq!(ledger.grants(), [(old, Use::Opening)]);
    ledger.release(Use::Opening);
    assert_eq!(ledger.grants(), [(session, Use::Session)]);
    ledger.release(Use::Session);
    assert_eq!(ledger.grants(), [(young, Use::Opening)]);
    ledger.release(Use::Opening);
    assert_eq!(ledger.grants(), [(younger, Use::Opening)]);
}

#[test]
fn c07_whoever_waits_longest_is_overtaken_for_25_ms_only() {
    let (mut ledger, start) = (ledger(1), Instant::now());
    ledger.lease(A, HERE, start, start);
    ledger.change(Use::Opening, Use::Busy);
    let other = ticket(ledger.lease(B, HERE, start, start));
    let own = ticket(ledger.lease(A, HERE, start, start));
    let again = ticket(ledger.lease(A, HERE, start, start));
    assert_eq!(ledger.give_back(A, HERE, start + SWITCH_AFTER), GivenBack::Hand(own, Use::Busy));
    let late = start + SWITCH_AFTER + Duration::from_millis(1);
    assert_eq!(ledger.give_back(A, HERE, late), GivenBack::Close);
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(other, Use::Opening)]);
    ledger.change(Use::Opening, Use::Busy);
    assert_eq!(ledger.give_back(B, HERE, late), GivenBack::Close);
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(again, Use::Opening)]);
}

#[test]
fn an_idle_connection_of_another_pool_makes_room() {
    let (mut ledger, now) = (ledger(1), Instant::now());
    ledger.lease(A, HERE, now, now);
    ledger.change(Use::Opening, Use::Busy);
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Keep);
    let Admission::Wait(waiting, Some(A)) = ledger.lease(B, HERE, now, now) else {
        panic!("evicts")
    };
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(waiting, Use::Opening)]);
    ledger.change(Use::Opening, Use::Busy);
    ledger.give_back(B, HERE, now);
    let Admission::Wait(session, Some(B)) = ledger.admit_session(None, now, now) else {
        panic!("evicts")
    };
    ledger.release(Use::Closing);
    assert_eq!(ledger.grants(), [(session, Use::Session)]);
}

#[test]
fn pins_and_sessions_are_not_waited_for_by_sessions() {
    let (mut ledger, now) = (ledger(2), Instant::now());
    ledger.admit_session(None, now, now);
    ledger.lease(A, HERE, now, now);
    ledger.change(Use::Opening, Use::Busy);
    ledger.change(Use::Busy, Use::Pinned);
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
    ledger.change(Use::Pinned, Use::Busy);
    assert!(matches!(ledger.admit_session(None, now, now), Admission::Wait(..)));
}

#[test]
fn the_pools_keep_to_their_size_and_sessions_leave_the_reserve() {
    let mut ledger = Ledger::default();
    ledger.set_limits(Limits { capacity: 4, pool_size: 1, pooled_reserve: 1 });
    let now = Instant::now();
    assert_eq!(ledger.lease(A, HERE, now, now), Admission::Granted);
    let waiting = ticket(ledger.lease(A, HERE, now, now));
    // Somebody waits already, so sessions queue behind him: one, as one
    // connection is coming back.
    let session = ticket(ledger.admit_session(None, now, now));
    assert_eq!(ledger.admit_session(None, now, now), Admission::Full);
    // A free slot is no use to the pool, so it is to the session.
    assert_eq!(ledger.grants(), [(session, Use::Session)]);
    ledger.change(Use::Opening, Use::Busy);
    assert_eq!(ledger.give_back(A, HERE, now), GivenBack::Hand(waiting, Use::Busy));
}

#[derive(Debug, Clone)]
enum Step {
    Session(Option<u32>),
    Lease(u32, Worker),
    Open,
    OpenFails,
    GiveBack(u32, Worker, u64),
    Lose,
    SessionEnds,
    Closed,
    Restored(u32),
    Abandon,
    Limits(u32, u32),
}

fn worker() -> impl Strategy<Value = Worker> {
    (0u16..2).prop_map(Worker)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => prop::option::of(3u32..5).prop_map(Step::Session),
        4 => ((0u32..3), worker()).prop_map(|(pool, worker)| Step::Lease(pool, worker)),
        3 => Just(Step::Open),
        1 => Just(Step::OpenFails),
        4 => ((0u32..5), worker(), (0u64..60))
            .prop_map(|(pool, worker, ms)| Step::GiveBack(pool, worker, ms)),
        1 => Just(Step::Lose),
        2 => Just(Step::SessionEnds),
        3 => Just(Step::Closed),
        2 => (3u32..5).prop_map(Step::Restored),
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
    waiting: Vec<(Ticket, Waiter)>,
}

/// Who waits, and for connections of which pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Pool(u32),
    Session(Option<u32>),
}

impl Waiter {
    fn pool(self) -> Option<u32> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::Session(pool) => pool,
        }
    }
}

impl World {
    fn grant(&mut self, tickets: Vec<(Ticket, Use)>) {
        for (ticket, _) in tickets {
            let at = self.waiting.iter().position(|(t, _)| *t == ticket).expect("it waits");
            match self.waiting.remove(at).1 {
                Waiter::Pool(pool) => self.opening.push(pool),
                Waiter::Session(_) => self.sessions += 1,
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
                Step::Session(pool) => match ledger.admit_session(pool.map(PoolId), now, now) {
                    Admission::Granted => world.sessions += 1,
                    Admission::Idle => {
                        *world.idle.get_mut(&pool.unwrap()).unwrap() -= 1;
                        world.sessions += 1;
                    }
                    Admission::Wait(ticket, evicted) => {
                        world.waiting.push((ticket, Waiter::Session(pool)));
                        world.evict(evicted);
                    }
                    Admission::Full => {}
                },
                Step::Lease(pool, worker) => match ledger.lease(PoolId(pool), worker, now, now) {
                    Admission::Idle => {
                        *world.idle.get_mut(&pool).unwrap() -= 1;
                        *world.busy.entry(pool).or_default() += 1;
                    }
                    Admission::Granted => world.opening.push(pool),
                    Admission::Wait(ticket, evicted) => {
                        world.waiting.push((ticket, Waiter::Pool(pool)));
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
                Step::GiveBack(pool, worker, ms) if world.busy.get(&pool).is_some_and(|n| *n > 0) => {
                    now += Duration::from_millis(ms);
                    match ledger.give_back(PoolId(pool), worker, now) {
                        GivenBack::Hand(ticket, used_as) => {
                            let at = world.waiting.iter().position(|(t, _)| *t == ticket).unwrap();
                            let (_, waiter) = world.waiting.remove(at);
                            prop_assert_eq!(waiter.pool(), Some(pool));
                            let is_session = matches!(waiter, Waiter::Session(_));
                            prop_assert_eq!(used_as == Use::Session, is_session);
                            *world.busy.get_mut(&pool).unwrap() -= u32::from(is_session);
                            world.sessions += u32::from(is_session);
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
                Step::Restored(pool) if world.closing > 0 => {
                    world.closing -= 1;
                    *world.busy.entry(pool).or_default() += 1;
                    ledger.change(Use::Closing, Use::Busy);
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
            let oldest_is_pool =
                matches!(world.waiting.first(), Some((_, Waiter::Pool(_))));
            prop_assert!(!(may_open && oldest_is_pool), "a pool waits beside a free slot");
            for (_, waiter) in &world.waiting {
                let idle = waiter.pool().and_then(|pool| world.idle.get(&pool)).copied().unwrap_or(0);
                prop_assert_eq!(idle, 0, "waits beside an idle connection");
            }
        }
    }
}

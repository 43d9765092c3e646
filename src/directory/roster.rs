//! The live client sessions. An entry is a session's [`Seat`]: who sits there,
//! what it is doing, and how to tell it to leave.
//!
//! The session writes its own seat, with plain stores; whoever looks (metrics,
//! refusals, the admin socket) reads. A seat is given back by dropping its
//! [`Seated`].

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

use super::clock::CoarseClock;
use super::pace::Pace;
use super::snapshot::ClientLimits;
use crate::domain::refusal::{Overdue, PlanUse};
use crate::domain::{ClientAddress, Endpoint, Pins, PoolMode, Refusal, ServiceName};

/// Sessions idle for longer than this are worth naming to someone who finds
/// no place, in seconds.
const IDLE_LONG: u32 = 300;
/// The users of connections that a refusal names.
const LARGEST_USERS: usize = 5;

/// Who a session belongs to.
#[derive(Debug, Clone)]
pub struct Occupant {
    /// The service and the way into it.
    pub endpoint: Endpoint,
    /// The role logged in.
    pub role: String,
    /// The database asked for.
    pub database: String,
    /// `application_name` at login, or nothing.
    pub application: String,
    /// Where from.
    pub address: ClientAddress,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Activity {
    /// Authenticated; its server connection is being made.
    Login,
    /// Nothing under way, outside a transaction.
    Idle,
    /// A statement is under way.
    Active,
    /// Nothing under way, inside a transaction.
    IdleInTransaction,
    /// A statement waits for a server connection.
    Waiting,
}

impl Activity {
    /// All of them, for metrics that show zeros.
    pub const ALL: [Self; 5] =
        [Self::Login, Self::Idle, Self::Active, Self::IdleInTransaction, Self::Waiting];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Active => "active",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::Waiting => "waiting",
        }
    }

    /// Whether a transaction is open, be it for one statement.
    #[must_use]
    pub fn is_in_transaction(self) -> bool {
        match self {
            Self::Active | Self::IdleInTransaction => true,
            Self::Login | Self::Idle | Self::Waiting => false,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        Self::ALL[usize::from(byte)]
    }
}

/// What a session has been told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    None,
    /// Leave as soon as nothing is under way: Postern shuts down.
    Drain,
    /// Leave now: an operator or the end of a drain says so.
    Leave,
    /// Leave now: the allowlist no longer permits the address.
    NotPermitted,
}

impl Order {
    fn from_byte(byte: u8) -> Self {
        [Self::None, Self::Drain, Self::Leave, Self::NotPermitted][usize::from(byte)]
    }

    /// What the client hears.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::None => None,
            Self::Drain | Self::Leave => Some(Refusal::AdminShutdown),
            Self::NotPermitted => Some(Refusal::NoLongerPermitted),
        }
    }
}

/// One session's entry.
#[derive(Debug)]
pub struct Seat {
    /// A number of its own, never used again.
    pub id: u64,
    /// Who sits there.
    pub occupant: Occupant,
    /// When it was taken, in the coarse clock's seconds.
    pub since: u32,
    clock: CoarseClock,
    pace: Pace,
    /// Replication is a stream for life: no limit is about it.
    unlimited: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    pins: AtomicU16,
    order: AtomicU8,
    waker: AtomicWaker,
}

impl Seat {
    /// What the session is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.pace.activity()
    }

    fn is_pooled(&self) -> bool {
        self.occupant.endpoint.mode == PoolMode::Transaction
    }

    /// Whether the session has a server connection, as far as its seat tells:
    /// not yet during its login, and not between two pooled transactions.
    #[must_use]
    pub fn holds_a_connection(&self) -> bool {
        match (self.activity(), self.occupant.endpoint.mode) {
            (Activity::Login | Activity::Waiting, _) | (Activity::Idle, PoolMode::Transaction) => {
                false
            }
            (_, PoolMode::Session | PoolMode::Transaction) => true,
        }
    }

    /// For how many seconds it has been doing it.
    #[must_use]
    pub fn activity_seconds(&self) -> u32 {
        self.clock.tenths().saturating_sub(self.pace.activity_since()) / 10
    }

    /// Why it keeps its server connection beyond the transaction.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::from_bits(self.pins.load(Ordering::Relaxed))
    }

    /// It keeps its server connection for these reasons now. Only the session
    /// calls this.
    pub fn set_pins(&self, pins: Pins) {
        self.pins.store(pins.bits(), Ordering::Relaxed);
    }

    /// Bytes from and to the client so far.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }

    /// The session does something else now. Only the session calls this.
    pub fn set_activity(&self, activity: Activity) {
        self.pace.set_activity(activity, &self.clock);
    }

    /// A statement was answered, and perhaps its transaction has ended. Only
    /// the session calls this.
    pub fn answered(&self, transaction_ended: bool) {
        self.pace.answered(transaction_ended, &self.clock);
    }

    /// The client does not take what was sent to it. Only the session calls
    /// this.
    pub fn stalled(&self) {
        self.pace.stalled(&self.clock);
    }

    /// The client has taken everything. Only the session calls this.
    pub fn unstalled(&self) {
        self.pace.unstalled();
    }

    /// No [`ClientLimits`] are for this session.
    pub fn set_unlimited(&self) {
        self.unlimited.store(true, Ordering::Relaxed);
    }

    /// The limit that the session has passed, as of the last sweep, unless it
    /// has gone on since.
    #[must_use]
    pub fn overdue(&self) -> Option<Overdue> {
        self.pace.overdue()
    }

    /// Wakes the session if it has passed one of its service's limits.
    pub fn judge(&self, limits: &ClientLimits) {
        if !self.unlimited.load(Ordering::Relaxed) && self.pace.judge(limits, self.clock.tenths()) {
            self.waker.wake();
        }
    }

    /// Bytes came from the client. Only the session calls this, so that a
    /// load and a store are enough.
    pub fn add_received(&self, bytes: usize) {
        let sum = self.received.load(Ordering::Relaxed) + bytes as u64;
        self.received.store(sum, Ordering::Relaxed);
    }

    /// Bytes went to the client. Only the session calls this.
    pub fn add_sent(&self, bytes: usize) {
        let sum = self.sent.load(Ordering::Relaxed) + bytes as u64;
        self.sent.store(sum, Ordering::Relaxed);
    }

    /// What the session has been told.
    #[must_use]
    pub fn order(&self) -> Order {
        Order::from_byte(self.order.load(Ordering::Relaxed))
    }

    /// The session wants to be woken by the next order.
    pub fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits until the session has been told something. Only the session calls
    /// this, instead of [`listen`](Self::listen).
    pub async fn ordered(&self) {
        std::future::poll_fn(|cx| {
            self.listen(cx.waker());
            if self.order() == Order::None { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Makes the session look at what it waits for once more.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Tells the session something; a stronger order is not weakened.
    pub fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
        self.wake();
    }
}

/// The live sessions, by service.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seats: Mutex<Seats>,
    clock: CoarseClock,
}

#[derive(Debug, Default)]
struct Seats {
    last_id: u64,
    total: usize,
    by_service: HashMap<ServiceName, HashMap<u64, Arc<Seat>>>,
    /// Sessions of the transaction endpoint.
    pooled: HashMap<ServiceName, usize>,
    /// Bytes of sessions that are gone, in and out.
    past: HashMap<ServiceName, (u64, u64)>,
}

/// A session's hold on its seat.
#[derive(Debug)]
#[must_use]
pub struct Seated {
    seat: Arc<Seat>,
    roster: Roster,
}

/// There are as many sessions as `max_clients` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Roster {
    /// A roster that reads this clock.
    #[must_use]
    pub fn new(clock: CoarseClock) -> Self {
        Self { inner: Arc::new(Inner { seats: Mutex::default(), clock }) }
    }

    /// The clock that seats read.
    #[must_use]
    pub fn clock(&self) -> &CoarseClock {
        &self.inner.clock
    }

    /// Takes a seat, if fewer than `max_clients` are taken.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, occupant: Occupant, max_clients: usize) -> Result<Seated, Full> {
        let mut seats = self.lock();
        if seats.total >= max_clients {
            return Err(Full);
        }
        seats.total += 1;
        seats.last_id += 1;
        let seat = Arc::new(self.new_seat(seats.last_id, occupant));
        let service = seat.occupant.endpoint.service.clone();
        if seat.is_pooled() {
            *seats.pooled.entry(service.clone()).or_default() += 1;
        }
        seats.by_service.entry(service).or_default().insert(seat.id, Arc::clone(&seat));
        drop(seats);
        Ok(Seated { seat, roster: self.clone() })
    }

    fn new_seat(&self, id: u64, occupant: Occupant) -> Seat {
        let now = self.inner.clock.seconds();
        Seat {
            id,
            occupant,
            since: now,
            clock: self.inner.clock.clone(),
            pace: Pace::new(self.inner.clock.tenths()),
            unlimited: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            pins: AtomicU16::new(0),
            order: AtomicU8::new(Order::None as u8),
            waker: AtomicWaker::new(),
        }
    }

    /// Sessions now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().total
    }

    /// Whether there is no session now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions of a service's transaction endpoint now.
    #[must_use]
    pub fn pooled(&self, service: &ServiceName) -> usize {
        self.lock().pooled.get(service).copied().unwrap_or_default()
    }

    /// All sessions now.
    #[must_use]
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.lock().by_service.values().flat_map(HashMap::values).cloned().collect()
    }

    /// The sessions of one service now.
    #[must_use]
    pub fn seats_of(&self, service: &ServiceName) -> Vec<Arc<Seat>> {
        self.lock().by_service.get(service).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// Bytes received from and sent to clients, since the start, by service.
    #[must_use]
    pub fn traffic(&self) -> HashMap<ServiceName, (u64, u64)> {
        let seats = self.lock();
        let mut traffic = seats.past.clone();
        for (service, live) in &seats.by_service {
            let sums = traffic.entry(service.clone()).or_default();
            for seat in live.values() {
                let (received, sent) = seat.bytes();
                *sums = (sums.0 + received, sums.1 + sent);
            }
        }
        traffic
    }

    /// Fills in who uses a service's connections (decision 43).
    pub fn explain(&self, service: &ServiceName, plan_use: &mut PlanUse) {
        let mut users: HashMap<(String, String), u32> = HashMap::new();
        for seat in self.seats_of(service) {
            if !seat.holds_a_connection() {
                continue;
            }
            if seat.activity() == Activity::Idle && seat.activity_seconds() > IDLE_LONG {
                plan_use.idle_long += 1;
            }
            let Occupant { application, address, .. } = &seat.occupant;
            *users.entry((application.clone(), address.to_string())).or_default() += 1;
        }
        let mut users: Vec<_> = users.into_iter().map(|((a, b), count)| (a, b, count)).collect();
        users.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        users.truncate(LARGEST_USERS);
        plan_use.largest = users;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seats> {
        self.inner.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn leave_pool(&mut self, seat: &Seat) {
        let service = &seat.occupant.endpoint.service;
        if let Some(pooled) = self.pooled.get_mut(service).filter(|_| seat.is_pooled()) {
            *pooled -= 1;
            if *pooled == 0 {
                self.pooled.remove(service);
            }
        }
    }
}

impl Deref for Seated {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let service = &self.seat.occupant.endpoint.service;
        let mut seats = self.roster.lock();
        seats.total -= 1;
        if let Some(live) = seats.by_service.get_mut(service) {
            live.remove(&self.seat.id);
            if live.is_empty() {
                seats.by_service.remove(service);
            }
        }
        seats.leave_pool(&self.seat);
        let (received, sent) = self.seat.bytes();
        let past = seats.past.entry(service.clone()).or_default();
        *past = (past.0 + received, past.1 + sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Access, PoolMode};

    fn occupant(application: &str) -> Occupant {
        Occupant {
            endpoint: Endpoint {
                service: "orders".parse().unwrap(),
                access: Access::ReadWrite,
                mode: PoolMode::Session,
            },
            role: "bob".into(),
            database: "bob".into(),
            application: application.into(),
            address: ClientAddress::Local,
        }
    }

    #[test]
    fn c01_seats_are_given_back_and_bytes_are_kept() {
        let roster = Roster::default();
        let first = roster.take(occupant("a"), 2).unwrap();
        let second = roster.take(occupant("b"), 2).unwrap();
        assert_eq!(roster.take(occupant("c"), 2).unwrap_err(), Full);
        first.add_received(10);
        second.add_sent(5);
        drop(first);
        assert_eq!(roster.len(), 1);
        drop(second);
        assert!(roster.is_empty() && roster.seats().is_empty());
        assert_eq!(roster.traffic()[&"orders".parse().unwrap()], (10, 5));
    }

    #[test]
    fn a_stronger_order_stays() {
        let roster = Roster::default();
        let seat = roster.take(occupant("a"), 1).unwrap();
        assert_eq!(seat.order(), Order::None);
        seat.tell(Order::Leave);
        seat.tell(Order::Drain);
        assert_eq!(seat.order(), Order::Leave);
    }

    #[test]
    fn the_largest_users_and_the_long_idle_are_named() {
        let clock = CoarseClock::default();
        let roster = Roster::new(clock.clone());
        let seats: Vec<_> = ["app", "psql", "app"]
            .into_iter()
            .map(|name| roster.take(occupant(name), 9).unwrap())
            .collect();
        for seat in &seats {
            seat.set_activity(Activity::Active);
        }
        seats[0].set_activity(Activity::Idle);
        clock.set(301);
        seats[1].set_activity(Activity::Idle);
        let late = roster.take(occupant("late"), 9).unwrap();
        let mut plan_use = PlanUse::default();
        roster.explain(&"orders".parse().unwrap(), &mut plan_use);
        let expected = [("app", 2), ("psql", 1)].map(|(a, n)| (a.into(), "local".into(), n));
        assert_eq!(plan_use.largest, expected);
        assert_eq!(plan_use.idle_long, 1);
        drop(late);
    }
}

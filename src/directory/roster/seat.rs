//! One session's entry: who sits there, what it is doing, and what it was told.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

use crate::directory::ClientLimits;
use crate::directory::clock::CoarseClock;
use crate::directory::pace::Pace;
use crate::domain::refusal::Overdue;
use crate::domain::{ClientAddress, Endpoint, Pins, PoolMode, Refusal};

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

    pub(in crate::directory) fn from_byte(byte: u8) -> Self {
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

/// What has passed between a session and its client, or those of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Transactions on the transaction endpoint behind which the server
    /// connection went back to its pool.
    pub shared: u64,
    /// Those behind which the client kept it.
    pub pinned: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.received += more.received;
        self.sent += more.sent;
        self.shared += more.shared;
        self.pinned += more.pinned;
    }
}

/// Only one thread writes it, so that a load and a store are enough.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
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
    shared: AtomicU64,
    pinned: AtomicU64,
    pins: AtomicU16,
    order: AtomicU8,
    waker: AtomicWaker,
}

impl Seat {
    pub(super) fn new(id: u64, occupant: Occupant, clock: &CoarseClock) -> Self {
        Self {
            id,
            occupant,
            since: clock.seconds(),
            clock: clock.clone(),
            pace: Pace::new(clock.tenths()),
            unlimited: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            pins: AtomicU16::new(0),
            order: AtomicU8::new(Order::None as u8),
            waker: AtomicWaker::new(),
        }
    }

    /// What the session is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.pace.activity()
    }

    pub(super) fn is_pooled(&self) -> bool {
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

    /// What has passed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let [received, sent, shared, pinned] =
            [&self.received, &self.sent, &self.shared, &self.pinned]
                .map(|count| count.load(Ordering::Relaxed));
        Traffic { received, sent, shared, pinned }
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

    /// Bytes came from the client. Only the session calls this.
    pub fn add_received(&self, bytes: usize) {
        add(&self.received, bytes as u64);
    }

    /// Bytes went to the client. Only the session calls this.
    pub fn add_sent(&self, bytes: usize) {
        add(&self.sent, bytes as u64);
    }

    /// Transactions on a pooled connection are over, which the client keeps if
    /// it is pinned. Only the session calls this.
    pub fn add_transactions(&self, count: u32, is_pinned: bool) {
        add(if is_pinned { &self.pinned } else { &self.shared }, count.into());
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

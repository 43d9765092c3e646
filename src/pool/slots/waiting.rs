//! Places in a node's queue, and what those who wait in it are given.
//!
//! What is granted to somebody is put into his [`WaitCell`] while the ledger is
//! locked; whoever stops waiting finds either his place in the queue or what he
//! was given, and passes that on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::{NodeSlots, Slot};
use crate::pool::ledger::Ticket;
use crate::pool::pooled::PooledServer;

/// What somebody who waits is given.
#[derive(Debug)]
pub enum Grant {
    /// A slot: to open a connection with.
    Slot(Slot),
    /// A connection of his pool.
    Connection(Box<PooledServer>),
}

/// Where somebody who waits finds what he is given.
#[derive(Debug, Default)]
struct WaitCell {
    grant: Mutex<Option<Grant>>,
    waker: AtomicWaker,
    /// He has waited so long that his deadlines should be watched.
    overdue: AtomicBool,
}

impl WaitCell {
    fn take(&self) -> Option<Grant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_connection(&self) -> Option<Box<PooledServer>> {
        let mut grant = self.grant.lock().unwrap_or_else(PoisonError::into_inner);
        match grant.take() {
            Some(Grant::Connection(server)) => Some(server),
            other => {
                *grant = other;
                None
            }
        }
    }

    /// Makes it as a new one, unless somebody still looks into it.
    fn renew(self: &mut Arc<Self>) -> bool {
        Arc::get_mut(self).map(|cell| *cell = Self::default()).is_some()
    }

    fn holds_a_slot(&self) -> bool {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// The cells of all who wait on a node. Tickets are numbered as they are
/// given, so that a ticket says where its cell is.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// The ticket of the first cell.
    first: u64,
    queued: VecDeque<Option<(Instant, Arc<WaitCell>)>>,
    /// Cells of those who were served, to be used again once they have looked
    /// into them.
    used: VecDeque<Arc<WaitCell>>,
}

/// So many cells are kept to be used again.
const MOST_USED: usize = 64;

impl Cells {
    fn insert(&mut self, ticket: Ticket, at: Instant) -> Arc<WaitCell> {
        let used = self.used.pop_front();
        let renewed = used.and_then(|mut cell| cell.renew().then_some(cell));
        let cell = renewed.unwrap_or_default();
        if self.queued.is_empty() {
            self.first = ticket.0;
        }
        debug_assert_eq!(self.index(ticket), self.queued.len(), "tickets come in order");
        self.queued.push_back(Some((at, Arc::clone(&cell))));
        cell
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Arc<WaitCell>> {
        let index = self.index(ticket);
        let cell = self.queued.get_mut(index)?.take();
        while self.queued.front().is_some_and(Option::is_none) {
            self.queued.pop_front();
            self.first += 1;
        }
        cell.map(|(_, cell)| cell)
    }

    fn index(&self, ticket: Ticket) -> usize {
        usize::try_from(ticket.0.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// Gives somebody what the ledger granted him.
    pub(super) fn deliver(&mut self, ticket: Ticket, grant: Grant) {
        let cell = self.remove(ticket).expect("everybody in the queue has a cell");
        *cell.grant.lock().unwrap_or_else(PoisonError::into_inner) = Some(grant);
        cell.waker.wake();
        if self.used.len() < MOST_USED {
            self.used.push_back(cell);
        }
    }

    /// Tells those who came before `since` that it takes long.
    pub(super) fn remind(&self, since: Instant) {
        let overdue = self.queued.iter().flatten().take_while(|(at, _)| *at <= since);
        for (_, cell) in overdue {
            if !cell.overdue.swap(true, Ordering::Relaxed) {
                cell.waker.wake();
            }
        }
    }
}

/// A place in the queue, left by dropping it.
#[derive(Debug)]
#[must_use]
pub struct Waiting {
    node: Arc<NodeSlots>,
    ticket: Ticket,
    cell: Arc<WaitCell>,
    since: Instant,
    served: bool,
}

impl Waiting {
    pub(super) fn new(
        node: &Arc<NodeSlots>,
        cells: &mut Cells,
        ticket: Ticket,
        since: Instant,
    ) -> Self {
        let cell = cells.insert(ticket, since);
        Self { node: Arc::clone(node), ticket, cell, since, served: false }
    }

    /// Whether this is a place in that node's queue.
    #[must_use]
    pub fn is_for(&self, node: &Arc<NodeSlots>) -> bool {
        Arc::ptr_eq(&self.node, node)
    }

    /// How long it has taken.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// A connection, as soon as one is handed over; nothing if it is time to
    /// wait as a future instead: a slot was granted, which has to be made a
    /// connection, or it takes so long that deadlines should be watched.
    pub fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<PooledServer>>> {
        if let Some(server) = self.granted(cx, WaitCell::take_connection) {
            return Poll::Ready(Some(server));
        }
        let slow = self.cell.holds_a_slot() || self.cell.overdue.load(Ordering::Relaxed);
        if slow { Poll::Ready(None) } else { Poll::Pending }
    }

    /// What was granted, or a word as soon as something is. Who has been served
    /// leaves no waker in a cell that is used again.
    fn granted<T>(&mut self, cx: &Context<'_>, take: fn(&WaitCell) -> Option<T>) -> Option<T> {
        let granted = take(&self.cell).or_else(|| {
            self.cell.waker.register(cx.waker());
            take(&self.cell)
        });
        self.served |= granted.is_some();
        granted
    }
}

impl Future for Waiting {
    type Output = Grant;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Grant> {
        self.granted(cx, WaitCell::take).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let mut state = self.node.lock();
        if state.ledger.abandon(self.ticket) {
            state.waiters.remove(self.ticket);
            return;
        }
        drop(state);
        match self.cell.take() {
            Some(Grant::Connection(server)) => self.node.give_back(server, Instant::now()),
            Some(Grant::Slot(slot)) => drop(slot),
            None => {}
        }
    }
}

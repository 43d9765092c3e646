//! Lending: who gets a connection or a slot at once, who waits, and what
//! happens to what comes back.

use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::waiting::{Grant, Waiting};
use super::{Idle, NodeSlots, Refused, Slot, State};
use crate::net::Worker;
use crate::pool::ledger::{Admission, GivenBack, Ledger, Limits, PoolId, Ticket, Use};
use crate::pool::pooled::PooledServer;

/// What a client that wants a pooled connection gets at once.
#[derive(Debug)]
pub enum Leased {
    /// An idle connection, a slot to open one with.
    Now(Grant),
    /// A place in the queue.
    Later(Waiting),
}

impl NodeSlots {
    /// A connection of a pool, a slot to open one with, or a place in the
    /// queue, behind those who have waited `since` longer ago.
    ///
    /// # Panics
    /// If the ledger and the connections disagreed.
    #[must_use]
    pub fn lease(self: &Arc<Self>, pool: PoolId, since: Instant) -> Leased {
        let here = Worker::here();
        let mut state = self.lock();
        match state.ledger.lease(pool, here, since, Instant::now()) {
            Admission::Idle => {
                let server = state.idle.get_mut(&pool).and_then(|idle| idle.take(here));
                drop(state);
                let mut server = server.expect("the ledger counts the idle connections");
                server.slot().counted_as(Use::Busy);
                Leased::Now(Grant::Connection(server))
            }
            Admission::Granted => {
                drop(state);
                Leased::Now(Grant::Slot(Slot::new(self, Use::Opening)))
            }
            Admission::Wait(ticket, evict) => Leased::Later(self.wait(state, ticket, evict)),
            Admission::Full => unreachable!("pools always wait"),
        }
    }

    /// A place in the queue, if that is what a client of this pool gets now.
    #[must_use]
    pub fn queue(self: &Arc<Self>, pool: PoolId, now: Instant) -> Option<Waiting> {
        let mut state = self.lock();
        let (ticket, evict) = state.ledger.queue(pool, Worker::here(), now, now)?;
        Some(self.wait(state, ticket, evict))
    }

    /// An idle connection of a pool, if there is one.
    #[must_use]
    pub fn lease_idle(&self, pool: PoolId) -> Option<Box<PooledServer>> {
        let mut state = self.lock();
        let mut server = state.idle.get_mut(&pool)?.take(Worker::here())?;
        state.ledger.lease_idle(pool);
        server.slot().counted_as(Use::Busy);
        Some(server)
    }

    /// Takes back a lent connection on which nothing is left, and hands it to
    /// whoever waits for it.
    pub fn give_back(self: &Arc<Self>, mut server: Box<PooledServer>, now: Instant) {
        let pool = server.pool();
        let mut state = self.lock();
        if !state.retired.is_empty() && state.retired.contains(&pool) {
            drop(state);
            // The closer sees to it.
            return drop(server);
        }
        match state.ledger.give_back(pool, server.worker(), now) {
            GivenBack::Hand(ticket, used_as) => {
                server.slot().counted_as(used_as);
                state.waiters.deliver(ticket, Grant::Connection(server));
            }
            GivenBack::Keep => {
                server.slot().counted_as(Use::Idle);
                server.idle_since = now;
                state.idle.entry(pool).or_default().put(server);
            }
            GivenBack::Close => {
                server.slot().counted_as(Use::Closing);
                self.hand_out(&mut state);
                drop(state);
                drop(server);
            }
        }
    }

    /// Tells those who have waited since then that it takes long: from now on
    /// they watch their deadlines.
    pub fn remind_waiting(&self, since: Instant) {
        self.lock().waiters.remind(since);
    }

    /// Closes the idle connections of which `unwanted` says so.
    pub fn close_idle(self: &Arc<Self>, mut unwanted: impl FnMut(&mut PooledServer) -> bool) {
        let mut closed = Vec::new();
        let mut state = self.lock();
        let State { ledger, idle, .. } = &mut *state;
        for (pool, servers) in idle.iter_mut() {
            for mut server in servers.extract(&mut unwanted) {
                ledger.close_idle(*pool);
                server.slot().counted_as(Use::Closing);
                server.uncount();
                closed.push(server);
            }
        }
        self.hand_out(&mut state);
        drop(state);
        drop(closed);
    }

    pub(super) fn admit_session(
        self: &Arc<Self>,
        pool: Option<PoolId>,
        since: Instant,
    ) -> Result<Leased, Refused> {
        let mut state = self.lock();
        match state.ledger.admit_session(pool, since, Instant::now()) {
            Admission::Granted => {
                drop(state);
                Ok(Leased::Now(Grant::Slot(Slot::new(self, Use::Session))))
            }
            Admission::Wait(ticket, evict) => Ok(Leased::Later(self.wait(state, ticket, evict))),
            Admission::Full => Err(Refused { counts: state.ledger.counts() }),
            Admission::Idle => {
                let idle = pool.and_then(|pool| state.idle.get_mut(&pool)?.take(Worker::here()));
                drop(state);
                let mut server = idle.expect("the ledger counts the idle connections");
                server.slot().counted_as(Use::Session);
                Ok(Leased::Now(Grant::Connection(server)))
            }
        }
    }

    /// Queues somebody, and closes the connection that the ledger chose to make
    /// room for him: the one of its pool that was unused longest.
    fn wait(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        ticket: Ticket,
        evict: Option<PoolId>,
    ) -> Waiting {
        let waiting = Waiting::new(self, &mut state.waiters, ticket, Instant::now());
        let idle = evict.and_then(|pool| state.idle.get_mut(&pool));
        let victim = idle.and_then(Idle::take_oldest);
        self.hand_out(&mut state);
        drop(state);
        if let Some(mut victim) = victim {
            victim.slot().counted_as(Use::Closing);
        }
        waiting
    }

    /// What a plan or a look at the node has changed counts from now on.
    pub(super) fn keep_to(self: &Arc<Self>, limits: Limits) {
        if self.lock().ledger.limits() != limits {
            self.change_ledger(|ledger| ledger.set_limits(limits));
        }
    }

    pub(super) fn change_ledger(self: &Arc<Self>, change: impl FnOnce(&mut Ledger)) {
        let mut state = self.lock();
        change(&mut state.ledger);
        self.hand_out(&mut state);
    }

    /// Gives free slots to those who wait for them. The lock is held, so that
    /// somebody who stops waiting finds either his place in the queue or what
    /// he was given.
    fn hand_out(self: &Arc<Self>, state: &mut State) {
        for (ticket, used_as) in state.ledger.grants() {
            state.waiters.deliver(ticket, Grant::Slot(Slot::new(self, used_as)));
        }
    }
}

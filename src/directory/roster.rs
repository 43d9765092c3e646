//! The live client sessions. An entry is a session's [`Seat`]: who sits there,
//! what it is doing, and how to tell it to leave.
//!
//! The session writes its own seat, with plain stores; whoever looks (metrics,
//! refusals, the admin socket) reads. A seat is given back by dropping its
//! [`Seated`].

mod seat;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::clock::CoarseClock;
use crate::domain::ServiceName;
use crate::domain::refusal::PlanUse;
pub use seat::{Activity, Occupant, Order, Seat, Traffic};

/// Sessions idle for longer than this are worth naming to someone who finds
/// no place, in seconds.
const IDLE_LONG: u32 = 300;
/// The users of connections that a refusal names.
const LARGEST_USERS: usize = 5;

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
    /// Every service that ever had a session. No client chooses a key: it is in
    /// here once its service is known and its role is its own.
    services: FxHashMap<ServiceName, OfService>,
}

#[derive(Debug, Default)]
struct OfService {
    live: FxHashMap<u64, Arc<Seat>>,
    /// Sessions of the transaction endpoint.
    pooled: usize,
    /// Bytes of sessions that are gone, in and out.
    past: Traffic,
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
        let seat = Arc::new(Seat::new(seats.last_id, occupant, &self.inner.clock));
        let service = seats.services.entry(seat.occupant.endpoint.service.clone()).or_default();
        service.pooled += usize::from(seat.is_pooled());
        service.live.insert(seat.id, Arc::clone(&seat));
        drop(seats);
        Ok(Seated { seat, roster: self.clone() })
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
        self.lock().services.get(service).map_or(0, |service| service.pooled)
    }

    /// All sessions now.
    #[must_use]
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        let seats = self.lock();
        seats.services.values().flat_map(|service| service.live.values()).cloned().collect()
    }

    /// The sessions of one service now.
    #[must_use]
    pub fn seats_of(&self, service: &ServiceName) -> Vec<Arc<Seat>> {
        let seats = self.lock();
        seats.services.get(service).into_iter().flat_map(|s| s.live.values()).cloned().collect()
    }

    /// Whether a service has a session now.
    #[must_use]
    pub fn has_seats(&self, service: &ServiceName) -> bool {
        self.lock().services.get(service).is_some_and(|service| !service.live.is_empty())
    }

    /// What has passed since the start, by service.
    #[must_use]
    pub fn traffic(&self) -> HashMap<ServiceName, Traffic> {
        let seats = self.lock();
        let so_far = |service: &OfService| {
            let mut sums = service.past;
            for seat in service.live.values() {
                sums += seat.traffic();
            }
            sums
        };
        seats.services.iter().map(|(name, service)| (name.clone(), so_far(service))).collect()
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
        if let Some(service) = seats.services.get_mut(service) {
            service.live.remove(&self.seat.id);
            service.pooled -= usize::from(self.seat.is_pooled());
            service.past += self.seat.traffic();
        }
    }
}

#[cfg(test)]
mod tests;

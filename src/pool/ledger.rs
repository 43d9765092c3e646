//! The counts and the queue of one node's slots, as a plain value.
//!
//! ```text
//! free ──admit──▶ held ──close──▶ closing ──release──▶ free
//!   ▲                └────────release────────────────────┘
//! ```
//!
//! Invariant: `held + closing` exceeds the capacity only while the capacity
//! has just been lowered; then nobody is admitted until it no longer does.

use std::collections::VecDeque;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// The counts of one node.
#[derive(Debug, Default)]
pub struct Ledger {
    capacity: u32,
    held: u32,
    closing: u32,
    next_ticket: u64,
    queue: VecDeque<Ticket>,
}

/// What a newcomer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// A slot is his.
    Granted,
    /// Somebody is about to give one back: he may wait.
    Wait(Ticket),
    /// All slots are held by those who keep them (decision 10).
    Full,
}

/// The counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Slots there are.
    pub capacity: u32,
    /// Slots with clients.
    pub held: u32,
    /// Slots whose server connection is being closed.
    pub closing: u32,
    /// Clients in the queue.
    pub waiting: u32,
}

impl Ledger {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        Counts { capacity: self.capacity, held: self.held, closing: self.closing, waiting }
    }

    /// The node has this many slots from now on. Returns who of the queue now
    /// holds one.
    pub fn set_capacity(&mut self, capacity: u32) -> Vec<Ticket> {
        self.capacity = capacity;
        std::iter::from_fn(|| self.grant_next()).collect()
    }

    /// A session asks for a slot.
    pub fn admit(&mut self) -> Admission {
        if self.has_free() && self.queue.is_empty() {
            self.held += 1;
            return Admission::Granted;
        }
        // As many may wait as slots are coming back: whoever is behind them
        // would wait for somebody who keeps his.
        if self.queue.len() < self.closing as usize {
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            self.queue.push_back(ticket);
            return Admission::Wait(ticket);
        }
        Admission::Full
    }

    /// Somebody waits no longer. A ticket that was granted meanwhile is not in
    /// the queue any more, and its slot is given back like any other.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.queue.retain(|waiting| *waiting != ticket);
    }

    /// A held slot's connection is being closed.
    ///
    /// # Panics
    /// If no slot is held: the counts are wrong, and would stay so unseen.
    pub fn close(&mut self) {
        assert!(self.held > 0, "only a held slot can begin to close");
        self.held -= 1;
        self.closing += 1;
    }

    /// A slot is free again. Returns who of the queue holds it now.
    ///
    /// # Panics
    /// If no slot is what this one was: it is given back twice.
    pub fn release(&mut self, was: Was) -> Option<Ticket> {
        let count = match was {
            Was::Held => &mut self.held,
            Was::Closing => &mut self.closing,
        };
        assert!(*count > 0, "a slot is given back once");
        *count -= 1;
        self.grant_next()
    }

    fn has_free(&self) -> bool {
        self.held + self.closing < self.capacity
    }

    fn grant_next(&mut self) -> Option<Ticket> {
        if !self.has_free() {
            return None;
        }
        let ticket = self.queue.pop_front()?;
        self.held += 1;
        Some(ticket)
    }
}

/// What a slot was when it was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// With a client.
    Held,
    /// With the closer.
    Closing,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ledger(capacity: u32) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set_capacity(capacity);
        ledger
    }

    #[test]
    fn c02_exactly_as_many_as_the_plan_says() {
        let mut ledger = ledger(25);
        for _ in 0..25 {
            assert_eq!(ledger.admit(), Admission::Granted);
        }
        assert_eq!(ledger.admit(), Admission::Full);
        assert_eq!(ledger.release(Was::Held), None);
        assert_eq!(ledger.admit(), Admission::Granted);
        assert_eq!(ledger.admit(), Admission::Full);
    }

    #[test]
    fn c03_a_closing_slot_is_waited_for_and_not_given_twice() {
        let mut ledger = ledger(1);
        assert_eq!(ledger.admit(), Admission::Granted);
        ledger.close();
        let Admission::Wait(first) = ledger.admit() else { panic!("one may wait") };
        assert_eq!(ledger.admit(), Admission::Full);
        assert_eq!(ledger.release(Was::Closing), Some(first));
        assert_eq!(ledger.admit(), Admission::Full);
    }

    #[test]
    fn a_smaller_plan_admits_nobody_until_the_count_is_below_it() {
        let mut ledger = ledger(3);
        (0..3).for_each(|_| assert_eq!(ledger.admit(), Admission::Granted));
        ledger.set_capacity(1);
        for _ in 0..2 {
            assert_eq!(ledger.release(Was::Held), None);
            assert_eq!(ledger.admit(), Admission::Full);
        }
        ledger.release(Was::Held);
        assert_eq!(ledger.admit(), Admission::Granted);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        Close,
        ReleaseHeld,
        ReleaseClosing,
        Abandon,
        Capacity(u32),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn c05_slots_are_conserved_and_nobody_waits_beside_a_free_one(
            steps in prop::collection::vec(prop_oneof![
                4 => Just(Step::Admit), 2 => Just(Step::Close), 2 => Just(Step::ReleaseHeld),
                2 => Just(Step::ReleaseClosing), 1 => Just(Step::Abandon),
                1 => (0u32..6).prop_map(Step::Capacity)], 0..60),
        ) {
            let mut ledger = ledger(3);
            let (mut held, mut closing, mut waiting) = (0u32, 0u32, Vec::new());
            for step in steps {
                let granted = match step {
                    Step::Admit => {
                        match ledger.admit() {
                            Admission::Granted => held += 1,
                            Admission::Wait(ticket) => waiting.push(ticket),
                            Admission::Full => {}
                        }
                        Vec::new()
                    }
                    Step::Close if held > 0 => { ledger.close(); held -= 1; closing += 1; Vec::new() }
                    Step::ReleaseHeld if held > 0 => {
                        held -= 1;
                        ledger.release(Was::Held).into_iter().collect()
                    }
                    Step::ReleaseClosing if closing > 0 => {
                        closing -= 1;
                        ledger.release(Was::Closing).into_iter().collect()
                    }
                    Step::Abandon if !waiting.is_empty() => {
                        ledger.abandon(waiting.remove(0));
                        Vec::new()
                    }
                    Step::Capacity(capacity) => ledger.set_capacity(capacity),
                    _ => Vec::new(),
                };
                for ticket in granted {
                    prop_assert_eq!(ticket, waiting.remove(0));
                    held += 1;
                }
                let counts = ledger.counts();
                prop_assert_eq!((counts.held, counts.closing), (held, closing));
                prop_assert_eq!(counts.waiting as usize, waiting.len());
                prop_assert!(waiting.is_empty() || held + closing >= counts.capacity);
            }
        }
    }
}

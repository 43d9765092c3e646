//! What is known of the routines of one database, shared by all connections to
//! it, and when it is asked for again.
//!
//! ```text
//! nothing known, or a routine was defined ──▶ whoever comes asks first
//! the schema may have changed otherwise   ──▶ one asks, a second later
//! nothing was seen                        ──▶ one asks, a minute later
//! ```
//!
//! The last is for what does not pass through Postern. The clock is the
//! keeper's: a transaction only compares two numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::catalog::{Inquiry, Known};
use crate::state::schema::SchemaAge;

/// After a change of the schema that may be one of routines.
const SOON: Duration = Duration::from_secs(1);
/// After this nothing is believed to be as it was.
const AT_LAST: Duration = Duration::from_secs(60);
/// No age.
const NEVER: u64 = u64::MAX;

/// The routines of a database that leave something on the connection.
#[derive(Debug)]
pub struct KnownRoutines {
    age: SchemaAge,
    /// How many definitions of routines the last answer has seen.
    as_of: AtomicU64,
    /// The next who comes asks.
    is_due: AtomicBool,
    /// There are such routines.
    has_any: AtomicBool,
    /// What was said last, if there are.
    current: ArcSwapOption<Known>,
    last: Mutex<Last>,
    was_troubled: AtomicBool,
}

/// The last answer.
#[derive(Debug, Default)]
struct Last {
    known: Arc<Known>,
    /// How many changes of the schema it has seen.
    schema: u64,
    at: Option<Instant>,
}

/// Questions under way, and how much their answer has seen.
#[derive(Debug)]
pub struct Asking {
    /// The questions.
    pub inquiry: Box<Inquiry>,
    routines: u64,
    schema: u64,
}

impl KnownRoutines {
    /// Nothing is known of a database on a node whose schema is as old as this
    /// says.
    #[must_use]
    pub fn new(age: SchemaAge) -> Self {
        Self {
            age,
            as_of: AtomicU64::new(NEVER),
            is_due: AtomicBool::default(),
            has_any: AtomicBool::default(),
            current: ArcSwapOption::default(),
            last: Mutex::default(),
            was_troubled: AtomicBool::default(),
        }
    }

    /// The routines, if there are any.
    #[must_use]
    #[inline]
    pub fn current(&self) -> Option<Arc<Known>> {
        if self.has_any.load(Ordering::Relaxed) { self.current.load_full() } else { None }
    }

    /// What must be asked before a transaction.
    #[must_use]
    #[inline]
    pub fn ask(&self) -> Option<Asking> {
        // Whoever sees the age sees the routines, too.
        let is_of_now = self.as_of.load(Ordering::Acquire) == self.age.of_routines();
        if is_of_now && !self.is_due.load(Ordering::Relaxed) {
            return None;
        }
        self.ask_now(is_of_now)
    }

    #[cold]
    fn ask_now(&self, is_of_now: bool) -> Option<Asking> {
        // Only one asks where what is known may do.
        if !self.is_due.swap(false, Ordering::Relaxed) && is_of_now {
            return None;
        }
        let (routines, schema) = (self.age.of_routines(), self.age.now());
        Some(Asking { inquiry: Inquiry::new(&self.last().known), routines, schema })
    }

    /// What was asked for is known now, or is as it was; also if it could not be
    /// had: then it is asked for in a minute.
    pub fn answered(&self, (routines, schema): (u64, u64), known: Option<Known>, now: Instant) {
        let mut last = self.last();
        let as_of = self.as_of.load(Ordering::Relaxed);
        if as_of != NEVER && as_of > routines {
            // Somebody who asked later was faster.
            return;
        }
        if let Some(known) = known {
            let known = Arc::new(known);
            let any = (!known.routines.is_empty()).then(|| Arc::clone(&known));
            self.has_any.store(any.is_some(), Ordering::Relaxed);
            self.current.store(any);
            last.known = known;
        }
        last.schema = schema;
        last.at = Some(now);
        self.as_of.store(routines, Ordering::Release);
    }

    /// Time has passed: what is known may be too old.
    pub fn grow_old(&self, now: Instant) {
        let last = self.last();
        let Some(at) = last.at else { return };
        let age = now.saturating_duration_since(at);
        if age >= AT_LAST || age >= SOON && last.schema != self.age.now() {
            self.is_due.store(true, Ordering::Relaxed);
        }
    }

    /// True once: what goes wrong here need not be said again and again.
    #[must_use]
    pub fn is_first_trouble(&self) -> bool {
        !self.was_troubled.swap(true, Ordering::Relaxed)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// The questions that follow an answer.
    #[must_use]
    pub fn again(inquiry: Box<Inquiry>, (routines, schema): (u64, u64)) -> Self {
        Self { inquiry, routines, schema }
    }

    /// How much the answer has seen, for [`KnownRoutines::answered`].
    #[must_use]
    pub fn ages(&self) -> (u64, u64) {
        (self.routines, self.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::schema::Change;

    fn known() -> (KnownRoutines, SchemaAge, Instant) {
        let age = SchemaAge::default();
        let (known, now) = (KnownRoutines::new(age.clone()), Instant::now());
        let asking = known.ask().unwrap();
        assert!(known.ask().is_some(), "nothing is known yet, so nobody goes on");
        known.answered(asking.ages(), Some(Known::default()), now);
        assert!(known.ask().is_none());
        (known, age, now)
    }

    #[test]
    fn a_definition_has_everybody_ask_until_the_answer_is_there() {
        let (known, age, now) = known();
        age.changed(Change::OfRoutines);
        let early = known.ask().unwrap();
        age.changed(Change::OfRoutines);
        let late = known.ask().unwrap();
        known.answered(early.ages(), None, now);
        assert!(known.ask().is_some(), "it has not seen the second one");
        known.answered(late.ages(), None, now);
        assert!(known.ask().is_none());
        age.changed(Change::OfRoutines);
        let newest = known.ask().unwrap();
        known.answered(newest.ages(), None, now);
        known.answered(early.ages(), Some(Known::default()), now);
        assert!(known.ask().is_none(), "who was slow takes nothing back");
    }

    #[test]
    fn anything_else_has_one_ask_in_a_while() {
        let (known, age, now) = known();
        known.grow_old(now + SOON);
        assert!(known.ask().is_none());
        age.changed(Change::Any);
        assert!(known.ask().is_none());
        known.grow_old(now + SOON / 2);
        assert!(known.ask().is_none());
        known.grow_old(now + SOON);
        let asking = known.ask().unwrap();
        assert!(known.ask().is_none(), "one is enough");
        known.answered(asking.ages(), None, now + SOON);
        known.grow_old(now + AT_LAST);
        assert!(known.ask().is_none());
        known.grow_old(now + SOON + AT_LAST);
        assert!(known.ask().is_some());
    }
}

//! What a session is doing and since when: written by the session with plain
//! stores and the coarse clock, judged by a sweep from outside.
//!
//! A session registers no timer and asks no clock. The sweep leaves a note:
//! which limit was passed, and by what that began when. The session believes
//! it only while that is still what it is doing, so a note that comes late
//! ends nothing (trap C-9).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::CoarseClock;
use super::pooling::ClientLimits;
use super::roster::Activity;
use crate::domain::refusal::Overdue;

/// One session's pace. Times are the coarse clock's tenths of seconds.
#[derive(Debug)]
pub(super) struct Pace {
    activity: AtomicU8,
    activity_since: AtomicU32,
    transaction_since: AtomicU32,
    /// When the client began not to take what was sent to it, plus one; zero
    /// if it takes everything.
    stalled_since: AtomicU32,
    /// The sweep's note: a limit, and when what passed it began.
    note: AtomicU64,
}

/// No limit was passed.
const NO_NOTE: u64 = u64::MAX;

impl Pace {
    pub(super) fn new(now: u32) -> Self {
        Self {
            activity: AtomicU8::new(Activity::Login as u8),
            activity_since: AtomicU32::new(now),
            transaction_since: AtomicU32::new(now),
            stalled_since: AtomicU32::new(0),
            note: AtomicU64::new(NO_NOTE),
        }
    }

    pub(super) fn activity(&self) -> Activity {
        Activity::from_byte(self.activity.load(Ordering::Relaxed))
    }

    pub(super) fn activity_since(&self) -> u32 {
        self.activity_since.load(Ordering::Relaxed)
    }

    pub(super) fn set_activity(&self, activity: Activity, clock: &CoarseClock) {
        let before = self.activity();
        if before != activity {
            let now = clock.tenths();
            if !before.is_in_transaction() {
                self.transaction_since.store(now, Ordering::Relaxed);
            }
            self.activity_since.store(now, Ordering::Relaxed);
            self.activity.store(activity as u8, Ordering::Relaxed);
        }
    }

    /// A statement was answered, and perhaps its transaction has ended: what
    /// the session does from now on begins now.
    pub(super) fn answered(&self, transaction_ended: bool, clock: &CoarseClock) {
        let now = clock.tenths();
        self.activity_since.store(now, Ordering::Relaxed);
        if transaction_ended {
            self.transaction_since.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn stalled(&self, clock: &CoarseClock) {
        if self.stalled_since.load(Ordering::Relaxed) == 0 {
            self.stalled_since.store(clock.tenths().saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(super) fn unstalled(&self) {
        self.stalled_since.store(0, Ordering::Relaxed);
    }

    /// The limit that the session has passed, if it is still at it.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let note = self.note.load(Ordering::Relaxed);
        if note == NO_NOTE {
            return None;
        }
        let overdue = Overdue::ALL[(note >> 32) as usize];
        (Some(note & u64::from(u32::MAX)) == self.began(overdue).map(u64::from)).then_some(overdue)
    }

    /// Leaves a note if a limit has been passed; whether it did.
    pub(super) fn judge(&self, limits: &ClientLimits, now: u32) -> bool {
        for overdue in Overdue::ALL {
            let Some(most) = limit(limits, overdue) else { continue };
            let Some(began) = self.began(overdue) else { continue };
            if Duration::from_millis(100) * now.saturating_sub(began) >= most {
                let note = (overdue as u64) << 32 | u64::from(began);
                self.note.store(note, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// When that began which such a limit is about; nothing if the session is
    /// not at it.
    fn began(&self, overdue: Overdue) -> Option<u32> {
        let activity = self.activity();
        match overdue {
            Overdue::Idle => (activity == Activity::Idle).then(|| self.activity_since()),
            Overdue::IdleInTransaction => {
                (activity == Activity::IdleInTransaction).then(|| self.activity_since())
            }
            Overdue::Query => (activity == Activity::Active).then(|| self.activity_since()),
            Overdue::Transaction => {
                let since = || self.transaction_since.load(Ordering::Relaxed);
                activity.is_in_transaction().then(since)
            }
            Overdue::Write => self.stalled_since.load(Ordering::Relaxed).checked_sub(1),
        }
    }
}

fn limit(limits: &ClientLimits, overdue: Overdue) -> Option<Duration> {
    match overdue {
        Overdue::Write => limits.client_write_timeout,
        Overdue::Query => limits.query_timeout,
        Overdue::Transaction => limits.transaction_timeout,
        Overdue::IdleInTransaction => limits.idle_transaction_timeout,
        Overdue::Idle => limits.client_idle_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(of: Overdue, most: Duration) -> ClientLimits {
        let mut limits = ClientLimits::default();
        *match of {
            Overdue::Write => &mut limits.client_write_timeout,
            Overdue::Query => &mut limits.query_timeout,
            Overdue::Transaction => &mut limits.transaction_timeout,
            Overdue::IdleInTransaction => &mut limits.idle_transaction_timeout,
            Overdue::Idle => &mut limits.client_idle_timeout,
        } = Some(most);
        limits
    }

    fn at(clock: &CoarseClock, tenths: u64) -> u32 {
        clock.advance(Duration::from_millis(100 * tenths));
        clock.tenths()
    }

    #[test]
    fn c09_a_statement_is_timed_from_its_own_beginning() {
        let (clock, pace) = (CoarseClock::default(), Pace::new(0));
        let limits = limits(Overdue::Query, SECOND);
        pace.set_activity(Activity::Idle, &clock);
        assert!(!pace.judge(&limits, at(&clock, 100)), "nobody waits for an idle client");
        pace.set_activity(Activity::Active, &clock);
        assert!(!pace.judge(&limits, at(&clock, 109)));
        pace.answered(true, &clock);
        assert!(!pace.judge(&limits, at(&clock, 118)), "the next one has only begun");
        assert!(pace.judge(&limits, at(&clock, 119)));
        assert_eq!(pace.overdue(), Some(Overdue::Query));
    }

    #[test]
    fn c10_a_note_that_comes_late_ends_nothing() {
        let (clock, pace) = (CoarseClock::default(), Pace::new(0));
        let limits = limits(Overdue::IdleInTransaction, SECOND);
        pace.set_activity(Activity::Active, &clock);
        pace.set_activity(Activity::IdleInTransaction, &clock);
        assert!(pace.judge(&limits, at(&clock, 10)));
        assert_eq!(pace.overdue(), Some(Overdue::IdleInTransaction));
        pace.set_activity(Activity::Active, &clock);
        assert_eq!(pace.overdue(), None);
        pace.set_activity(Activity::IdleInTransaction, &clock);
        assert_eq!(pace.overdue(), None, "it is idle anew");
    }

    #[test]
    fn c10_a_transaction_is_timed_over_its_statements() {
        let (clock, pace) = (CoarseClock::default(), Pace::new(0));
        let limits = limits(Overdue::Transaction, SECOND);
        pace.set_activity(Activity::Active, &clock);
        for tenth in 1..10 {
            assert!(!pace.judge(&limits, at(&clock, tenth)));
            pace.answered(false, &clock);
            pace.set_activity(Activity::IdleInTransaction, &clock);
            pace.set_activity(Activity::Active, &clock);
        }
        assert!(pace.judge(&limits, at(&clock, 10)));
        pace.answered(true, &clock);
        assert_eq!(pace.overdue(), None);
        assert!(!pace.judge(&limits, at(&clock, 19)));
    }

    #[test]
    fn c20_only_what_is_not_taken_for_long_is_a_stall() {
        let (clock, pace) = (CoarseClock::default(), Pace::new(0));
        let limits = limits(Overdue::Write, SECOND);
        pace.stalled(&clock);
        pace.unstalled();
        assert!(!pace.judge(&limits, at(&clock, 50)));
        pace.stalled(&clock);
        at(&clock, 59);
        pace.stalled(&clock);
        assert!(pace.judge(&limits, at(&clock, 60)));
        pace.unstalled();
        assert_eq!(pace.overdue(), None);
    }

    #[test]
    fn c12_no_limit_is_ever_passed_that_is_off() {
        let pace = Pace::new(0);
        for activity in Activity::ALL {
            pace.set_activity(activity, &CoarseClock::default());
            assert!(!pace.judge(&ClientLimits::default(), u32::MAX));
        }
    }
}

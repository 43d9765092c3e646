//! How far a standby is behind: the age of the oldest position of the primary
//! that it has not replayed (decision 36).
//!
//! Time since the last replayed transaction, as `pg_last_xact_replay_timestamp`
//! has it, grows while nobody writes; bytes say nothing about time. Positions
//! are seen when the primary is looked at, so that the age is short by at most
//! the time between two looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many positions are kept: ten minutes at one look a second.
const POSITIONS: usize = 600;
/// Positions that come faster than this are taken for one.
const GRAIN: Duration = Duration::from_millis(100);

/// A place in the WAL, in bytes.
pub type Position = u64;

/// Where the primary was lately: positions and times both grow.
#[derive(Debug, Clone, Default)]
pub struct History {
    positions: VecDeque<(Instant, Position)>,
    /// The timeline that they are of.
    timeline: u32,
    /// Older positions were seen and are forgotten.
    is_full: bool,
}

impl History {
    /// The primary was at this position at this time. Another timeline begins
    /// another history.
    pub fn wrote(&mut self, at: Instant, timeline: u32, position: Position) {
        if self.timeline != timeline {
            *self = Self { timeline, ..Self::default() };
        }
        match self.positions.back() {
            Some((_, last)) if position <= *last => return,
            Some((last, _)) if at.saturating_duration_since(*last) < GRAIN => return,
            _ => {}
        }
        if self.positions.len() == POSITIONS {
            self.positions.pop_front();
            self.is_full = true;
        }
        self.positions.push_back((at, position));
    }

    /// How far a standby is behind that has replayed up to here; none while
    /// that is not known.
    #[must_use]
    pub fn lag(&self, now: Instant, replayed: Position) -> Option<Duration> {
        let first = self.positions.partition_point(|(_, position)| *position <= replayed);
        match self.positions.get(first) {
            // What it lacks may be older than everything remembered.
            Some(_) if first == 0 && !self.is_full => None,
            Some((at, _)) => Some(now.saturating_duration_since(*at)),
            None if self.positions.is_empty() => None,
            None => Some(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_position_not_replayed_decides() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut history = History::default();
        assert_eq!(history.lag(start, 0), None, "nothing is known");
        for (at, position) in [(0, 100), (1, 200), (2, 200), (3, 300), (4, 400)] {
            history.wrote(second(at), 1, position);
        }
        let lag = |replayed| history.lag(second(10), replayed).map(|lag| lag.as_secs());
        assert_eq!(lag(400), Some(0));
        assert_eq!(lag(1_000), Some(0), "ahead of our look");
        assert_eq!(lag(399), Some(6));
        assert_eq!(lag(250), Some(7));
        assert_eq!(lag(199), Some(9), "200 was first seen at 1");
        assert_eq!(lag(99), None, "it may lack what is older");
        // An idle primary: nothing is lacking, however long ago it was.
        assert_eq!(history.lag(second(1_000), 400), Some(Duration::ZERO));
        history.wrote(second(11), 2, 50);
        assert_eq!(history.lag(second(12), 50), Some(Duration::ZERO), "another timeline");
    }

    #[test]
    fn a_long_history_is_a_lower_bound() {
        let start = Instant::now();
        let mut history = History::default();
        for n in 0..2_000_u32 {
            history.wrote(start + n * Duration::from_secs(1), 1, u64::from(n));
        }
        let now = start + Duration::from_secs(2_000);
        assert_eq!(history.positions.len(), POSITIONS);
        assert_eq!(history.lag(now, 3), Some(Duration::from_secs(POSITIONS as u64)));
    }

    proptest! {
        #[test]
        fn who_has_replayed_more_is_never_further_behind(
            steps in prop::collection::vec((0_u64..5_000, 0_u64..1_000), 1..50),
            replayed in 0_u64..50_000, more in 0_u64..1_000,
        ) {
            let (mut at, mut position) = (Instant::now(), 0);
            let mut history = History::default();
            for (milliseconds, bytes) in steps {
                (at, position) = (at + Duration::from_millis(milliseconds), position + bytes);
                history.wrote(at, 1, position);
            }
            if let (Some(less), Some(more)) =
                (history.lag(at, replayed), history.lag(at, replayed + more))
            {
                prop_assert!(more <= less);
            }
            prop_assert_eq!(history.lag(at, position), Some(Duration::ZERO));
        }
    }
}

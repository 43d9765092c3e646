//! How long a looked-up verifier may be used (decision 19).
//!
//! Up to `verifier_max_age` an answer counts; from [`REFRESH_AFTER`] on a
//! login that uses it also has it looked up anew, so that a role in use never
//! waits; a role is asked for at most once a second, so that a wrong password
//! tried for ever costs the server one query a second.

use std::time::{Duration, Instant};

/// The shortest time between two lookups of a role.
pub const REFRESH_AFTER: Duration = Duration::from_secs(1);

/// When an answer was asked for, and whether it has been doubted since.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    /// The instant before the question was sent: what it says was true then.
    pub asked_at: Instant,
    /// A proof did not match it.
    pub doubted: bool,
}

/// What to do with an answer at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It counts.
    Fresh,
    /// It counts, and should be looked up anew behind the client's back.
    Ageing,
    /// It must be looked up anew, now.
    Stale,
    /// It must be looked up anew after this time.
    StaleUntil(Duration),
}

impl Age {
    /// What may be done with an answer of this age.
    #[must_use]
    pub fn judge(self, now: Instant, max_age: Duration) -> Use {
        let age = now.saturating_duration_since(self.asked_at);
        match REFRESH_AFTER.checked_sub(age) {
            Some(left) if self.doubted && !left.is_zero() => Use::StaleUntil(left),
            Some(_) if !self.doubted => Use::Fresh,
            _ if self.doubted || age >= max_age => Use::Stale,
            _ => Use::Ageing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ages() {
        let asked_at = Instant::now();
        let max = Duration::from_secs(5);
        let at = |doubted, ms| {
            let now = asked_at + Duration::from_millis(ms);
            Age { asked_at, doubted }.judge(now, max)
        };
        assert_eq!(at(false, 0), Use::Fresh);
        assert_eq!(at(false, 999), Use::Fresh);
        assert_eq!(at(false, 1_001), Use::Ageing);
        assert_eq!(at(false, 4_999), Use::Ageing);
        assert_eq!(at(false, 5_000), Use::Stale);
        assert_eq!(at(true, 400), Use::StaleUntil(Duration::from_millis(600)));
        assert_eq!(at(true, 1_000), Use::Stale);
    }
}

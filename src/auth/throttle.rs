//! Failed logins slow down the address and role they come from, and nobody
//! else (decision 7).
//!
//! A token bucket for each (network, service, role): a failure takes a token,
//! time brings them back, and whoever has none left waits for the next one
//! before he is heard. Full buckets are forgotten, so the table holds only
//! those who failed lately; when it is full the oldest goes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::address::ClientNetwork;

/// Failures that cost nothing.
const BURST: u32 = 5;
/// The time in which a token comes back.
const REFILL: Duration = Duration::from_secs(1);
/// The longest wait, however many logins failed: as many guesses side by side
/// as one address may have connections that are not authenticated.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Buckets kept at most.
const MAX_BUCKETS: usize = 100_000;

/// Who is slowed down: where from, and the service and role asked for, as one
/// text of at most a few hundred bytes.
pub type Suspect = (ClientNetwork, Box<str>);

/// The buckets of those who failed lately.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When each bucket will be full again.
    full_at: HashMap<Suspect, Instant>,
}

impl Throttle {
    /// How long this one must wait before he is heard.
    #[must_use]
    pub fn wait(&self, suspect: &Suspect, now: Instant) -> Duration {
        let Some(full_at) = self.full_at.get(suspect) else {
            return Duration::ZERO;
        };
        let missing = full_at.saturating_duration_since(now);
        missing.saturating_sub(REFILL * (BURST - 1)).min(MAX_WAIT)
    }

    /// How long this one must wait before he is heard, which he has to pay for
    /// now if it is not nothing: so those who come side by side wait for each
    /// other. Who did not fail in the end gets it [back](Self::give_back).
    pub fn charge(&mut self, suspect: &Suspect, now: Instant) -> Duration {
        let wait = self.wait(suspect, now);
        if !wait.is_zero() {
            self.failed(suspect.clone(), now);
        }
        wait
    }

    /// He paid and did not fail.
    pub fn give_back(&mut self, suspect: &Suspect) {
        if let Some(full_at) = self.full_at.get_mut(suspect) {
            *full_at = full_at.checked_sub(REFILL).unwrap_or(*full_at);
        }
    }

    /// A login failed.
    pub fn failed(&mut self, suspect: Suspect, now: Instant) {
        if self.full_at.len() >= MAX_BUCKETS {
            self.forget(now);
        }
        let latest = now + REFILL * BURST + MAX_WAIT;
        let full_at = self.full_at.entry(suspect).or_insert(now);
        *full_at = ((*full_at).max(now) + REFILL).min(latest);
    }

    /// Drops full buckets or, if there are none, the one nearest to it.
    fn forget(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= MAX_BUCKETS {
            let oldest = self.full_at.iter().min_by_key(|(_, at)| **at).map(|(who, _)| who.clone());
            if let Some(oldest) = oldest {
                self.full_at.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(address: u8, role: &str) -> Suspect {
        (ClientNetwork::V4([10, 0, 0, address]), role.into())
    }

    #[test]
    fn a_burst_is_free_then_each_failure_costs_a_second() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..BURST - 1 {
            throttle.failed(suspect(1, "bob"), now);
            assert_eq!(throttle.wait(&suspect(1, "bob"), now), Duration::ZERO);
        }
        for seconds in 1..=3 {
            throttle.failed(suspect(1, "bob"), now);
            let wait = throttle.wait(&suspect(1, "bob"), now);
            assert_eq!(wait, Duration::from_secs(seconds));
        }
        assert_eq!(throttle.wait(&suspect(1, "bob"), now + Duration::from_secs(3)), Duration::ZERO);
    }

    #[test]
    fn guesses_side_by_side_are_as_slow_as_one_after_the_other() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        (0..BURST).for_each(|_| throttle.failed(suspect(1, "bob"), now));
        let waits: Vec<_> = (0..30).map(|_| throttle.charge(&suspect(1, "bob"), now)).collect();
        assert!(waits.windows(2).all(|pair| pair[1] == pair[0] + REFILL), "{waits:?}");
        (0..30).for_each(|_| throttle.give_back(&suspect(1, "bob")));
        assert_eq!(throttle.wait(&suspect(1, "bob"), now), waits[0], "nothing is left of them");
        assert_eq!(throttle.charge(&suspect(2, "bob"), now), Duration::ZERO);
        assert_eq!(throttle.charge(&suspect(2, "bob"), now), Duration::ZERO);
    }

    #[test]
    fn neither_another_address_nor_another_role_is_slowed() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        (0..100).for_each(|_| throttle.failed(suspect(1, "bob"), now));
        assert_eq!(throttle.wait(&suspect(1, "bob"), now), MAX_WAIT);
        assert_eq!(throttle.wait(&suspect(2, "bob"), now), Duration::ZERO);
        assert_eq!(throttle.wait(&suspect(1, "eve"), now), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..MAX_BUCKETS + 10 {
            throttle.failed((ClientNetwork::Local, n.to_string().into()), now);
        }
        assert!(throttle.full_at.len() <= MAX_BUCKETS);
    }
}

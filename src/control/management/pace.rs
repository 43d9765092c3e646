//! How often a node is looked at (decision 31).
//!
//! | the service | looked at every |
//! |---|---|
//! | had a client in the last minute and has lost its primary | 25 ms, after five minutes 250 ms |
//! | had a client in the last minute | second |
//! | has no primary, client in the last 5 minutes | second |
//! | has no primary, no client | 10 seconds, over a connection of its own |
//! | had a client in the last 5 minutes | 10 seconds |
//! | had none, or never had one | not at all: the next client causes a look and waits for it |
//!
//! Whoever pauses a service is about to change its nodes, and counts as a
//! client. Whatever happens, two looks at a node begin at least a tenth of a
//! second apart, or as far as this table says if that is less. Services that
//! nobody uses take turns: at most [`QUIET_LOOKS`] of their nodes are looked at
//! at a time, so that thousands that begin together, or have lost their nodes
//! together, are no storm.

use std::time::Duration;

/// The longest that a client waits for a look after a quiet time.
pub(super) const ROUND_WITHIN: Duration = Duration::from_secs(2);

/// Nodes of quiet services that are looked at at a time, each over a connection
/// of its own. When all of 10,000 time out, a round takes five minutes; the
/// next client's look waits for nobody.
pub(super) const QUIET_LOOKS: usize = 64;

/// The shortest time from one look at a node to the next, however much
/// evidence there is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// While clients wait for a primary: what a promotion may take longer for them
/// than for somebody who asks the node itself.
const URGENT: Duration = Duration::from_millis(25);
/// After this long it is no failover any more.
const URGENT_FOR: Duration = Duration::from_secs(300);
const PATIENT: Duration = Duration::from_millis(250);
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);

const LATELY: Duration = Duration::from_secs(60);
const QUIET_AFTER: Duration = Duration::from_secs(300);

/// From the beginning of one look to that of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// However much there is to see.
    pub(super) at_least: Duration,
    /// If nobody asks; none: until somebody does.
    pub(super) at_most: Option<Duration>,
}

/// How busy a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bustle {
    /// A client was there lately.
    Busy,
    /// Not lately, but a connection is kept.
    Calm,
    /// No client for so long, or ever, that no connection is kept.
    Quiet,
}

impl Bustle {
    /// From the time since the last client; none: there never was one.
    pub(super) fn after(idle: Option<Duration>) -> Self {
        match idle {
            Some(idle) if idle < LATELY => Self::Busy,
            Some(idle) if idle < QUIET_AFTER => Self::Calm,
            _ => Self::Quiet,
        }
    }

    /// How fast nodes are looked at, of a service that has had no primary for
    /// this long, or has one.
    pub(super) fn pace(self, vacant_for: Option<Duration>) -> Pace {
        let at_most = match (self, vacant_for) {
            (Self::Busy, Some(vacant)) if vacant < URGENT_FOR => Some(URGENT),
            (Self::Busy, Some(_)) => Some(PATIENT),
            (Self::Busy, None) | (Self::Calm, Some(_)) => Some(OFTEN),
            (Self::Calm, None) | (Self::Quiet, Some(_)) => Some(SELDOM),
            (Self::Quiet, None) => None,
        };
        let at_least = at_most.map_or(BETWEEN_LOOKS, |at_most| at_most.min(BETWEEN_LOOKS));
        Pace { at_least, at_most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_services_cost_nothing_and_broken_ones_are_found_healed() {
        let pace = |idle: Option<u64>, vacant_for: Option<u64>| {
            let bustle = Bustle::after(idle.map(Duration::from_secs));
            let pace = bustle.pace(vacant_for.map(Duration::from_secs));
            (pace.at_least.as_millis(), pace.at_most.map(|at_most| at_most.as_millis()))
        };
        assert_eq!(pace(Some(0), None), (100, Some(1_000)));
        assert_eq!(pace(Some(0), Some(0)), (25, Some(25)));
        assert_eq!(pace(Some(0), Some(300)), (100, Some(250)));
        assert_eq!(pace(Some(60), None), (100, Some(10_000)));
        assert_eq!(pace(Some(60), Some(0)), (100, Some(1_000)));
        assert_eq!(pace(Some(300), None), (100, None));
        assert_eq!(pace(Some(300), Some(0)), (100, Some(10_000)));
        assert_eq!(pace(None, None), (100, None));
        assert_eq!(pace(None, Some(0)), (100, Some(10_000)));
    }
}

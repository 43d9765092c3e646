//! How often a node is looked at (decision 31).
//!
//! | the service | looked at every |
//! |---|---|
//! | had a client in the last minute | second |
//! | has no primary, client in the last 5 minutes | second |
//! | has no primary, no client | 10 seconds, over a connection of its own |
//! | had a client in the last 5 minutes | 10 seconds |
//! | had none | not at all: the next client causes a look and waits for it |
//!
//! Whatever happens, two looks begin at least [`BETWEEN_LOOKS`] apart.

use std::time::Duration;

/// The shortest time from one look at a node to the next.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// The longest that a client waits for a look after a quiet time.
pub(super) const ROUND_WITHIN: Duration = Duration::from_secs(2);

const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);

const LATELY: Duration = Duration::from_secs(60);
const QUIET_AFTER: Duration = Duration::from_secs(300);

/// How busy a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bustle {
    /// A client was there lately.
    Busy,
    /// Not lately, but a connection is kept.
    Calm,
    /// No client for so long that no connection is kept.
    Quiet,
}

impl Bustle {
    /// From the time since the last client.
    pub(super) fn after(idle: Duration) -> Self {
        match idle {
            idle if idle < LATELY => Self::Busy,
            idle if idle < QUIET_AFTER => Self::Calm,
            _ => Self::Quiet,
        }
    }

    /// The pause after a look; none: until somebody needs the service.
    pub(super) fn pause(self, has_primary: bool) -> Option<Duration> {
        match (self, has_primary) {
            (Self::Busy, _) | (Self::Calm, false) => Some(OFTEN),
            (Self::Calm, true) | (Self::Quiet, false) => Some(SELDOM),
            (Self::Quiet, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_services_cost_nothing_and_broken_ones_are_found_healed() {
        let pause = |seconds, has_primary| {
            let bustle = Bustle::after(Duration::from_secs(seconds));
            bustle.pause(has_primary).map(|pause| pause.as_secs())
        };
        assert_eq!([pause(0, true), pause(0, false)], [Some(1); 2]);
        assert_eq!([pause(60, true), pause(60, false)], [Some(10), Some(1)]);
        assert_eq!([pause(300, true), pause(300, false)], [None, Some(10)]);
    }
}

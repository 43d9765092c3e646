//! How many, and how long (promise 7): every limit with its unit.
//!
//! A duration of 0 means off where waiting is a service to the client, and is
//! refused where a deadline protects the server or a promise.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::section::Section;

/// How many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of all services.
    pub max_clients: usize,
    /// Connections that have not logged in yet.
    pub max_unauthenticated: usize,
    /// The same, of one IPv4 address or one IPv6 /64; `None`: no such cap.
    pub max_unauthenticated_per_address: Option<NonZeroUsize>,
    /// Clients of one service that are held while it has no primary.
    pub failover_max_held: usize,
}

/// How long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From a client's connect to the end of its login.
    pub client_login: Duration,
    /// What busy sessions get to finish in when Postern stops.
    pub drain: Duration,
    /// From the connect to a node to the end of the login there.
    pub server_connect: Duration,
    /// From the farewell to a server until it is terminated from another
    /// connection (decision 8).
    pub server_close: Duration,
    /// How long a session waits for a slot that may become free (decision
    /// 10); zero: not at all.
    pub session_wait: Duration,
    /// How long clients are held while there is no primary (decision 32);
    /// zero: not at all.
    pub failover_wait: Duration,
    /// How long running transactions may take to finish when a service is
    /// paused.
    pub pause: Duration,
    /// How long a verifier is used before it is looked up again (decision
    /// 19).
    pub verifier_max_age: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

/// The longest duration that is accepted; anything above is a slip.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A deadline: it cannot be switched off.
const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;

/// A wait: 0 switches it off.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=DAY;

/// Verifiers are refreshed once a second at most, and a changed password
/// counts within 5 seconds: that is a promise, not a preference.
const VERIFIER_AGE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(5);

/// More connections than one host has ports or descriptors for.
const MANY: usize = 10_000_000;

/// Reads `[limits]`.
pub(super) fn read(section: &mut Section) -> Limits {
    let per_address = section.number("max_unauthenticated_per_address", 64, 0..=MANY);
    Limits {
        max_clients: section.number("max_clients", 10_000, 1..=MANY),
        max_unauthenticated: section.number("max_unauthenticated", 1_000, 1..=MANY),
        max_unauthenticated_per_address: NonZeroUsize::new(per_address),
        failover_max_held: section.number("failover_max_held", 10_000, 0..=MANY),
    }
}

/// Reads `[timeouts]`.
pub(super) fn read_timeouts(section: &mut Section) -> Timeouts {
    Timeouts {
        client_login: section.duration("client_login_timeout", 60 * SECOND, DEADLINE),
        drain: section.duration("drain_timeout", 30 * SECOND, DEADLINE),
        server_connect: section.duration("server_connect_timeout", 15 * SECOND, DEADLINE),
        server_close: section.duration("server_close_timeout", 5 * SECOND, DEADLINE),
        session_wait: section.duration("session_wait", SECOND, WAIT),
        failover_wait: section.duration("failover_wait", 60 * SECOND, WAIT),
        pause: section.duration("pause_timeout", 10 * SECOND, DEADLINE),
        verifier_max_age: section.duration("verifier_max_age", 5 * SECOND, VERIFIER_AGE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::fixture::{accepted, refused};
    use std::time::Duration;

    #[test]
    fn numbers_have_limits() {
        for (value, found) in [("-1", "-1"), ("1025", "1025"), ("1.5", "1.5"), ("\"4\"", "\"4\"")] {
            refused(
                &format!("[runtime]\nworkers = {value}"),
                &[&format!("runtime.workers: expected a number from 0 to 1024, found {found}")],
            );
        }
        let cap = |n: u32| accepted(&format!("[limits]\nmax_unauthenticated_per_address = {n}"));
        assert_eq!(cap(0).limits.max_unauthenticated_per_address, None);
        assert!(cap(1).limits.max_unauthenticated_per_address.is_some());
    }

    /// Each key of `[timeouts]` with its limits, as a problem shows them.
    const DURATIONS: [(&str, &str); 8] = [
        ("client_login_timeout", "1ms to 1day"),
        ("drain_timeout", "1ms to 1day"),
        ("server_connect_timeout", "1ms to 1day"),
        ("server_close_timeout", "1ms to 1day"),
        ("session_wait", "0s to 1day"),
        ("failover_wait", "0s to 1day"),
        ("pause_timeout", "1ms to 1day"),
        ("verifier_max_age", "1s to 5s"),
    ];

    fn duration_of(settings: &Settings, key: &str) -> Duration {
        let timeouts = &settings.timeouts;
        match key {
            "client_login_timeout" => timeouts.client_login,
            "drain_timeout" => timeouts.drain,
            "server_connect_timeout" => timeouts.server_connect,
            "server_close_timeout" => timeouts.server_close,
            "session_wait" => timeouts.session_wait,
            "failover_wait" => timeouts.failover_wait,
            "pause_timeout" => timeouts.pause,
            "verifier_max_age" => timeouts.verifier_max_age,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn c11_every_duration_has_a_unit() {
        for (key, limits) in DURATIONS {
            let text = |value: &str| format!("[timeouts]\n{key} = {value}");
            let read = |value: &str| duration_of(&accepted(&text(value)), key);
            assert_eq!(read("\"1500ms\""), Duration::from_millis(1500), "{key}");
            if limits.ends_with("1day") {
                assert_eq!(read("\"5m\""), Duration::from_secs(300), "{key}");
            }
            for bare in ["30", "1.5", "\"30\""] {
                refused(
                    &text(bare),
                    &[&format!(
                        "timeouts.{key}: expected a duration with its unit, such as \"30s\", \"1500ms\" or \"5m\", found {bare}"
                    )],
                );
            }
            for wrong in ["\"\"", "\"-1s\"", "\"1 fortnight\"", "true", "\"2days\""] {
                refused(
                    &text(wrong),
                    &[&format!("timeouts.{key}: expected a duration from {limits}, found {wrong}")],
                );
            }
        }
    }

    #[test]
    fn c12_zero_is_off_where_waiting_is_a_choice_and_refused_elsewhere() {
        for (key, limits) in DURATIONS {
            for zero in ["0", "\"0\"", "\"0s\""] {
                let text = format!("[timeouts]\n{key} = {zero}");
                if limits.starts_with("0s") {
                    assert_eq!(duration_of(&accepted(&text), key), Duration::ZERO);
                } else {
                    refused(
                        &text,
                        &[&format!(
                            "timeouts.{key}: expected a duration from {limits}, found {zero}"
                        )],
                    );
                }
            }
        }
    }
}

//! How a service's connections are pooled, as the API and the catalogue write
//! it: the keys of `[[services]]` in the file (decision 38), times in whole
//! seconds, 0 where the file has 0.
//!
//! The limits stand here for both, the defaults in [`Pooling`]; a test in
//! `config/service.rs` holds the keys together.

mod change;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::directory::{ClientLimits, Pooling, Reading};
use crate::domain::PinReason;
pub use change::PoolChange;

/// Server connections.
pub const CONNECTIONS: RangeInclusive<u32> = 0..=100_000;
/// Prepared statements of a server connection.
pub const STATEMENTS: RangeInclusive<u32> = 1..=10_000;
/// Clients of the transaction endpoint.
pub const CLIENTS: RangeInclusive<u32> = 0..=10_000_000;
/// Hand-overs of which one is audited.
pub const HAND_OVERS: RangeInclusive<u32> = 0..=1_000_000;
/// Spans of time, in seconds: up to ten days.
pub const SECONDS: RangeInclusive<u32> = 0..=864_000;

/// How connections are pooled, as in `[[services]]` of the file; times in
/// seconds, 0 as there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// Server connections that pools may hold on a node; 0: the plan's.
    #[schema(maximum = 100_000)]
    pub pool_size: u32,
    /// Connections of the plan that sessions leave to the pools.
    #[schema(maximum = 100_000)]
    pub pooled_reserve: u32,
    /// Connections that each pool with a client keeps at least.
    #[schema(maximum = 100_000)]
    pub min_pool_size: u32,
    /// Prepared statements that a server connection keeps.
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_prepared_statements: u32,
    /// How long a connection that nobody uses is kept, in seconds; 0: for ever.
    #[schema(maximum = 864_000)]
    pub server_idle_timeout: u32,
    /// How old a connection may become, in seconds; 0: as old as it likes.
    #[schema(maximum = 864_000)]
    pub server_lifetime: u32,
    /// How long a statement waits for a connection, in seconds; 0: for ever.
    #[schema(maximum = 864_000)]
    pub query_wait_timeout: u32,
    /// After how many seconds a waiting client is told that it waits; 0: never.
    #[schema(maximum = 864_000)]
    pub query_wait_notify: u32,
    /// Whether the connection of a session that has ended well is reset and used
    /// for the next one.
    pub session_reuse: bool,
    /// Of so many hand-overs of a server connection one is audited; 0: none is.
    #[schema(maximum = 1_000_000)]
    pub audit_every: u32,
    /// Kinds of session state that are refused instead of keeping a connection
    /// for them.
    #[schema(max_items = 11)]
    pub refuse_state: Vec<PinReason>,
    /// How far a standby may be behind to be read from, in seconds; 0: as far
    /// as it likes.
    #[schema(maximum = 864_000)]
    pub max_replica_lag: u32,
    /// Whether the primary serves the read-only endpoint while no standby can.
    pub read_only_fallback: bool,
    /// Clients of the transaction endpoint; 0: as many as there are places.
    #[schema(maximum = 10_000_000)]
    pub max_pooled_clients: u32,
    /// How long a client may do nothing outside a transaction, in seconds; 0:
    /// for ever.
    #[schema(maximum = 864_000)]
    pub client_idle_timeout: u32,
    /// How long a client may do nothing inside a transaction, in seconds; 0:
    /// for ever.
    #[schema(maximum = 864_000)]
    pub idle_transaction_timeout: u32,
    /// How long a transaction may take, in seconds; 0: for ever.
    #[schema(maximum = 864_000)]
    pub transaction_timeout: u32,
    /// How long a statement may take, in seconds; 0: for ever.
    #[schema(maximum = 864_000)]
    pub query_timeout: u32,
    /// How long a client may leave what was sent to it, in seconds; 0: for
    /// ever.
    #[schema(maximum = 864_000)]
    pub client_write_timeout: u32,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Pooling::default().into()
    }
}

impl PoolSettings {
    /// The keys whose values are not within limits, and what is expected.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let kinds = u32::try_from(self.refuse_state.len()).unwrap_or(u32::MAX);
        let values = [
            ("pool_size", self.pool_size, CONNECTIONS),
            ("pooled_reserve", self.pooled_reserve, CONNECTIONS),
            ("min_pool_size", self.min_pool_size, CONNECTIONS),
            ("max_prepared_statements", self.max_prepared_statements, STATEMENTS),
            ("server_idle_timeout", self.server_idle_timeout, SECONDS),
            ("server_lifetime", self.server_lifetime, SECONDS),
            ("query_wait_timeout", self.query_wait_timeout, SECONDS),
            ("query_wait_notify", self.query_wait_notify, SECONDS),
            ("audit_every", self.audit_every, HAND_OVERS),
            ("refuse_state", kinds, 0..=11),
            ("max_replica_lag", self.max_replica_lag, SECONDS),
            ("max_pooled_clients", self.max_pooled_clients, CLIENTS),
            ("client_idle_timeout", self.client_idle_timeout, SECONDS),
            ("idle_transaction_timeout", self.idle_transaction_timeout, SECONDS),
            ("transaction_timeout", self.transaction_timeout, SECONDS),
            ("query_timeout", self.query_timeout, SECONDS),
            ("client_write_timeout", self.client_write_timeout, SECONDS),
        ];
        let wrong = values.into_iter().filter(|(_, value, limits)| !limits.contains(value));
        let expected = |(key, _, limits): (_, _, RangeInclusive<u32>)| {
            (key, format!("expected {} to {}", limits.start(), limits.end()))
        };
        wrong.map(expected).collect()
    }
}

impl From<PoolSettings> for Pooling {
    fn from(settings: PoolSettings) -> Self {
        let unless_off = |number: u32| (number > 0).then_some(number);
        let time = |seconds: u32| unless_off(seconds).map(|s| Duration::from_secs(s.into()));
        let PoolSettings { refuse_state, .. } = settings;
        Self {
            pool_size: unless_off(settings.pool_size),
            pooled_reserve: settings.pooled_reserve,
            min_pool_size: settings.min_pool_size,
            max_prepared_statements: settings.max_prepared_statements as usize,
            server_idle_timeout: time(settings.server_idle_timeout),
            server_lifetime: time(settings.server_lifetime),
            query_wait_timeout: time(settings.query_wait_timeout),
            query_wait_notify: time(settings.query_wait_notify),
            session_reuse: settings.session_reuse,
            audit_every: unless_off(settings.audit_every),
            refused_pins: refuse_state.into_iter().collect(),
            reading: Reading {
                max_replica_lag: time(settings.max_replica_lag),
                fallback: settings.read_only_fallback,
            },
            clients: ClientLimits {
                max_pooled_clients: unless_off(settings.max_pooled_clients).map(|n| n as usize),
                client_idle_timeout: time(settings.client_idle_timeout),
                idle_transaction_timeout: time(settings.idle_transaction_timeout),
                transaction_timeout: time(settings.transaction_timeout),
                query_timeout: time(settings.query_timeout),
                client_write_timeout: time(settings.client_write_timeout),
            },
        }
    }
}

/// What the file alone can say, a time that is no whole number of seconds, is
/// rounded up: 0 would mean another thing.
impl From<Pooling> for PoolSettings {
    fn from(pooling: Pooling) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let time = |time: Option<Duration>| time.map_or(0, whole_seconds);
        let Reading { max_replica_lag, fallback } = pooling.reading;
        let clients = pooling.clients;
        Self {
            pool_size: pooling.pool_size.unwrap_or(0),
            pooled_reserve: pooling.pooled_reserve,
            min_pool_size: pooling.min_pool_size,
            max_prepared_statements: number(pooling.max_prepared_statements),
            server_idle_timeout: time(pooling.server_idle_timeout),
            server_lifetime: time(pooling.server_lifetime),
            query_wait_timeout: time(pooling.query_wait_timeout),
            query_wait_notify: time(pooling.query_wait_notify),
            session_reuse: pooling.session_reuse,
            audit_every: pooling.audit_every.unwrap_or(0),
            refuse_state: pooling.refused_pins.iter().collect(),
            max_replica_lag: time(max_replica_lag),
            read_only_fallback: fallback,
            max_pooled_clients: clients.max_pooled_clients.map_or(0, number),
            client_idle_timeout: time(clients.client_idle_timeout),
            idle_transaction_timeout: time(clients.idle_transaction_timeout),
            transaction_timeout: time(clients.transaction_timeout),
            query_timeout: time(clients.query_timeout),
            client_write_timeout: time(clients.client_write_timeout),
        }
    }
}

fn whole_seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

impl PartialSchema for PinReason {
    fn schema() -> RefOr<Schema> {
        let labels = Self::ALL.map(Self::label);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(labels)).into()
    }
}

impl ToSchema for PinReason {
    fn name() -> Cow<'static, str> {
        "SessionState".into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn all_different() -> PoolSettings {
        let mut settings = serde_json::to_value(PoolSettings::default()).unwrap();
        for (index, value) in settings.as_object_mut().unwrap().values_mut().enumerate() {
            *value = match value {
                Value::Number(_) => json!(index + 1),
                Value::Bool(_) => json!(true),
                _ => json!(["listen", "temporary_object"]),
            };
        }
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn every_setting_survives_the_way_to_the_data_path_and_back() {
        for settings in [PoolSettings::default(), all_different()] {
            assert_eq!(PoolSettings::from(Pooling::from(settings.clone())), settings);
        }
        assert_eq!(Pooling::from(PoolSettings::default()), Pooling::default());
    }

    #[test]
    fn a_time_of_the_file_never_becomes_none() {
        let clients = ClientLimits {
            query_timeout: Some(Duration::from_millis(1_500)),
            transaction_timeout: Some(Duration::from_millis(1)),
            ..ClientLimits::default()
        };
        let settings = PoolSettings::from(Pooling { clients, ..Pooling::default() });
        assert_eq!((settings.query_timeout, settings.transaction_timeout), (2, 1));
    }

    #[test]
    fn what_the_schema_allows_is_what_is_taken() {
        let schema = serde_json::to_value(PoolSettings::schema()).unwrap();
        for (key, schema) in schema["properties"].as_object().unwrap() {
            let with = |value: &Value| {
                let settings = serde_json::from_value(json!({ key: value }));
                settings.is_ok_and(|settings: PoolSettings| settings.problems().is_empty())
            };
            if let Some(most) = schema["maximum"].as_u64() {
                let least = schema["minimum"].as_u64().unwrap();
                assert!(with(&json!(least)) && with(&json!(most)), "{key}");
                assert!(!with(&json!(most + 1)), "{key}");
                assert!(least == 0 || !with(&json!(least - 1)), "{key}");
            } else if let Some(most) = schema["maxItems"].as_u64() {
                let list = |length: u64| json!(vec!["listen"; usize::try_from(length).unwrap()]);
                assert!(with(&list(most)) && !with(&list(most + 1)), "{key}");
                assert_eq!(most, PinReason::ALL.len() as u64);
                assert!(!with(&json!(["nothing"])));
            } else {
                assert!(with(&json!(true)) && !with(&json!(1)), "{key}");
            }
        }
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let written = json!({
            "pool_size": 5, "pooled_reserve": 1, "max_prepared_statements": 100,
            "server_idle_timeout": 60, "server_lifetime": 0, "query_wait_timeout": 10,
        });
        let settings: PoolSettings = serde_json::from_value(written).unwrap();
        assert_eq!((settings.pool_size, settings.server_lifetime), (5, 0));
        assert_eq!(settings.max_replica_lag, PoolSettings::default().max_replica_lag);
    }
}

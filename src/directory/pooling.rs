//! What a service says about its pools and its clients, as the data path reads
//! it. How it is written is `control/pooling.rs`.

use std::time::Duration;

use crate::domain::Pins;

/// How connections to a node are pooled: the service's settings, with the
/// names and defaults of PgBouncer where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Server connections that pooled clients may hold; none: the plan's.
    pub pool_size: Option<u32>,
    /// Slots that sessions leave to the pools.
    pub pooled_reserve: u32,
    /// Connections that each pool with a client keeps at least.
    pub min_pool_size: u32,
    /// Prepared statements kept on a server connection.
    pub max_prepared_statements: usize,
    /// How long an idle connection is kept; none: for ever.
    pub server_idle_timeout: Option<Duration>,
    /// How old a connection may become; none: as old as it likes.
    pub server_lifetime: Option<Duration>,
    /// How long a client waits for a connection; none: for ever.
    pub query_wait_timeout: Option<Duration>,
    /// Whether connections of the session endpoint are used again.
    pub session_reuse: bool,
    /// Who serves the read-only endpoint.
    pub reading: Reading,
    /// After how long a waiting client is told that it waits; none: never.
    pub query_wait_notify: Option<Duration>,
    /// Of so many hand-overs of a server connection one is audited; none: none
    /// is.
    pub audit_every: Option<u32>,
    /// State that is refused instead of keeping a connection for it.
    pub refused_pins: Pins,
    /// What holds for each client, on either endpoint.
    pub clients: ClientLimits,
}

/// How many clients of the transaction endpoint a service has, and how long
/// each client of either endpoint may do what it does; none: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientLimits {
    /// Clients of the transaction endpoint.
    pub max_pooled_clients: Option<usize>,
    /// Nothing, outside a transaction.
    pub client_idle_timeout: Option<Duration>,
    /// Nothing, inside a transaction.
    pub idle_transaction_timeout: Option<Duration>,
    /// A transaction.
    pub transaction_timeout: Option<Duration>,
    /// A statement.
    pub query_timeout: Option<Duration>,
    /// Not taking what was sent to it.
    pub client_write_timeout: Option<Duration>,
}

/// Who serves the read-only endpoint (decision 36).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// How far a standby may be behind; none: as far as it likes.
    pub max_replica_lag: Option<Duration>,
    /// Whether the primary serves it while no standby can.
    pub fallback: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { max_replica_lag: Some(Duration::from_secs(30)), fallback: false }
    }
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            pool_size: None,
            pooled_reserve: 0,
            min_pool_size: 0,
            max_prepared_statements: 200,
            audit_every: None,
            refused_pins: Pins::NONE,
            server_idle_timeout: Some(Duration::from_secs(600)),
            server_lifetime: Some(Duration::from_secs(3600)),
            query_wait_timeout: Some(Duration::from_secs(120)),
            session_reuse: false,
            reading: Reading::default(),
            query_wait_notify: Some(Duration::from_secs(5)),
            clients: ClientLimits::default(),
        }
    }
}

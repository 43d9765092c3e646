//! The SQLSTATEs that Postern itself sends (PostgreSQL documentation,
//! appendix A).

/// A five-character SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

impl SqlState {
    /// `connection_failure`
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `transaction_resolution_unknown`
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self("08007");
    /// `protocol_violation`
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `feature_not_supported`
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `invalid_authorization_specification`
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `invalid_password`
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `idle_in_transaction_session_timeout`
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self("25P03");
    /// `transaction_timeout`
    pub const TRANSACTION_TIMEOUT: Self = Self("25P04");
    /// `serialization_failure`: what drivers and frameworks know to retry.
    pub const SERIALIZATION_FAILURE: Self = Self("40001");
    /// `duplicate_prepared_statement`
    pub const DUPLICATE_STATEMENT: Self = Self("42P05");
    /// `configuration_limit_exceeded`
    pub const CONFIGURATION_LIMIT: Self = Self("53400");
    /// `too_many_connections`
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `query_canceled`
    pub const QUERY_CANCELED: Self = Self("57014");
    /// `admin_shutdown`
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `idle_session_timeout`
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `cannot_connect_now`
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");

    /// The five characters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

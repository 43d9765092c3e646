//! What a client asks for: a service, how it wants to be served, and by whom.

use std::fmt;

use super::name::ServiceName;

/// Which nodes may serve the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Access {
    /// The current primary.
    #[default]
    ReadWrite,
    /// A standby (decision 36).
    ReadOnly,
}

/// How long a server connection stays with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// From login to the end of the session.
    Session,
    /// For one transaction at a time.
    Transaction,
}

impl PoolMode {
    /// The name used in metrics, logs and `SHOW POOLS`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A service and the way into it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The service named by the client.
    pub service: ServiceName,
    /// Read-write or read-only.
    pub access: Access,
    /// Session or transaction pooling.
    pub mode: PoolMode,
}

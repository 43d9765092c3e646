//! What kind of database a service is, and how its nodes are reached.

use std::fmt;

/// The kind of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A PostgreSQL database.
    PostgreSql,
    /// PostgreSQL with the pgvector extension on every node.
    Vector,
}

impl Kind {
    /// The name used in the configuration and the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::Vector => "vector",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Whether and how Postern encrypts its connections to a node: libpq's
/// `sslmode` of the same name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum NodeTls {
    /// Never.
    Disable,
    /// If the node offers it; its certificate is not looked at.
    #[default]
    Prefer,
    /// Always; its certificate is not looked at.
    Require,
    /// Always, with a certificate signed by a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the node's host.
    VerifyFull,
}

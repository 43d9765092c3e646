//! The operator's inventory.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::catalog::record::Found;
use crate::domain::NodeTls;

/// A node to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeCreate {
    /// Its id; made of its address unless given.
    #[schema(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$", example = "db1")]
    pub id: Option<String>,
    /// `host:port`, `[IPv6]:port`, or a socket directory and port.
    #[schema(min_length = 3, max_length = 300, example = "db1.internal:5432")]
    pub address: String,
    /// Whose machine it is.
    #[schema(min_length = 1, max_length = 63, example = "aws")]
    pub cloud: String,
    /// Where that is.
    #[schema(min_length = 1, max_length = 63, example = "eu-west-1")]
    pub region: String,
    /// Its availability zone.
    #[schema(min_length = 1, max_length = 63, example = "eu-west-1a")]
    pub zone: Option<String>,
    /// Connections of a plan that may be placed there at most.
    #[schema(minimum = 1, maximum = 100_000)]
    pub capacity: Option<u32>,
    /// How connections to it are encrypted, as libpq's `sslmode`.
    #[serde(default)]
    #[schema(value_type = NodeTlsWord)]
    pub node_tls: NodeTls,
    /// The authorities of its certificate, PEM.
    #[schema(max_length = 65_536)]
    pub node_ca: Option<String>,
    /// A superuser with which services are made on it.
    #[schema(min_length = 1, max_length = 63, example = "postgres")]
    pub user: String,
    /// The superuser's password.
    #[schema(min_length = 1, max_length = 1_000)]
    pub password: String,
}

/// libpq's `sslmode` of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "libpq's words")]
pub enum NodeTlsWord {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What a node is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Nothing.
    Free,
    /// A service.
    Used,
    /// It holds what somebody left there.
    Dirty,
    /// It does not answer.
    Unreachable,
}

/// A node of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// Whose machine it is.
    pub cloud: String,
    /// Where that is.
    pub region: String,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Connections of a plan that may be placed there at most.
    pub capacity: Option<u32>,
    /// What it is used for.
    pub state: NodeState,
    /// The service that uses it.
    pub service: Option<String>,
    /// Why it does not answer.
    pub reason: Option<String>,
    /// What was found by looking.
    pub found: Option<Found>,
    /// When it was last looked at, RFC 3339.
    pub looked_at: Option<String>,
}

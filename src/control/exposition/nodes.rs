//! What the watchers know about a node, in the words of metrics and status.

use serde::{Deserialize, Serialize};

use crate::domain::{NodeAddress, ServiceName};
use crate::routing::topology::Reason;

/// A node as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The service it belongs to.
    pub service: ServiceName,
    /// The node.
    pub node: NodeAddress,
    /// What it is now.
    pub role: NodeRole,
    /// The timeline that it writes or receives, if that was to be seen.
    pub timeline: Option<u32>,
    /// Whether the pgvector extension can be created there. Says something
    /// only about a node that answered.
    pub pgvector: bool,
    /// Other Posterns that serve it; none where nobody counts.
    pub other_posterns: u32,
    /// What decided who the primary of its service is, or that nobody is.
    pub decided: Reason,
}

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It takes the writes.
    Primary,
    /// It answers, and takes no writes.
    Standby,
    /// It does not answer.
    Down,
    /// Nobody has looked yet.
    Unknown,
}

impl NodeRole {
    /// All of them, for metrics that show zeros.
    pub const ALL: [Self; 4] = [Self::Primary, Self::Standby, Self::Down, Self::Unknown];

    /// The name in metrics and status.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the node answered when it was last looked at.
    #[must_use]
    pub fn answers(self) -> bool {
        matches!(self, Self::Primary | Self::Standby)
    }
}

//! Service plans.

use std::num::NonZeroU32;

/// A row of the plan catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// `startup-4` and the like.
    pub name: Box<str>,
    /// Server connections that clients may hold on each node.
    pub max_connections: NonZeroU32,
    /// Nodes of a service: one, or a primary and its standbys.
    pub nodes: u32,
    /// Days for which backups are kept; 0: none.
    pub backup_retention_days: u32,
    /// Whether the nodes are spread over availability zones.
    pub multi_az: bool,
}

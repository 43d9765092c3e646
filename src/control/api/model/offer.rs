//! What can be had: plans, clouds and their regions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A plan of the catalogue of plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Its name.
    pub name: String,
    /// Server connections that clients may hold on each node.
    pub max_connections: u32,
    /// Nodes of a service.
    pub nodes: u32,
    /// Of which standbys.
    pub standbys: u32,
    /// Days for which backups are kept; 0: none.
    pub backup_retention_days: u32,
    /// Whether the nodes are spread over availability zones.
    pub multi_az: bool,
    /// What to expect when a node fails.
    pub availability: String,
}

/// A cloud and its regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloudView {
    /// Its name.
    pub name: String,
    /// Its regions.
    pub regions: Vec<RegionView>,
}

/// A region of a cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionView {
    /// Its name, as the cloud spells it.
    pub name: String,
    /// Nodes there that no service uses.
    pub free_nodes: u32,
}

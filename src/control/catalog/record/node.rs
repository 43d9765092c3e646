//! The inventory of nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Record;
use crate::control::catalog::store::Collection;
use crate::domain;

/// A node of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
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
    /// Connections of a plan that may be placed here at most; none: as many
    /// as `max_connections` allows.
    pub capacity: Option<u32>,
    /// How connections to it are encrypted.
    pub node_tls: domain::NodeTls,
    /// The authorities of its certificate, PEM.
    pub node_ca: Option<String>,
    /// The superuser with which services are made on it.
    pub user: String,
    /// What it is used for.
    pub usage: Usage,
    /// What was found by looking, the last time that it answered.
    pub found: Option<Found>,
    /// Why it did not answer when it was last asked.
    pub unreachable: Option<String>,
    /// When it was last looked at, RFC 3339.
    pub looked_at: Option<String>,
}

/// What a node is used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "usage", content = "service")]
pub enum Usage {
    /// Nothing.
    Free,
    /// This service.
    Used(String),
    /// It holds what a service, or somebody else, left there.
    Dirty,
}

/// What a node turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// PostgreSQL's version: `16.4`.
    pub version: String,
    /// `max_connections`.
    pub max_connections: u32,
    /// Connections that are kept for superusers and other privileged roles.
    pub reserved: u32,
    /// Whether it takes no writes.
    pub standby: bool,
    /// The same on a primary and its standbys.
    pub system_identifier: String,
    /// The extensions that could be created, of those that services need.
    pub extensions: Vec<String>,
    /// Databases that are not PostgreSQL's own.
    pub databases: Vec<String>,
}

impl Record for NodeRecord {
    const COLLECTION: Collection = Collection::Nodes;

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl NodeRecord {
    /// The path of the superuser's password.
    #[must_use]
    pub fn secret(&self) -> String {
        format!("nodes/{}/login", self.id)
    }
}

//! What the entries of the catalogue say.
//!
//! Texts that were checked on their way in are kept as texts; passwords are
//! never here but sealed, in a collection of their own.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::Collection;
use crate::control::pooling::PoolSettings;
use crate::domain;

/// What an entry can be read as.
pub trait Record: Serialize + DeserializeOwned {
    /// Where such entries are.
    const COLLECTION: Collection;

    /// The entry's name there.
    fn name(&self) -> String;
}

/// What a service's nodes offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// PostgreSQL.
    Postgresql,
    /// PostgreSQL with pgvector.
    Vector,
}

impl From<ServiceKind> for domain::Kind {
    fn from(kind: ServiceKind) -> Self {
        match kind {
            ServiceKind::Postgresql => Self::PostgreSql,
            ServiceKind::Vector => Self::Vector,
        }
    }
}

impl From<domain::Kind> for ServiceKind {
    fn from(kind: domain::Kind) -> Self {
        match kind {
            domain::Kind::PostgreSql => Self::Postgresql,
            domain::Kind::Vector => Self::Vector,
        }
    }
}

/// Who makes a service's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The operator, who registered them.
    External,
    /// Postern, on this host.
    Local,
}

/// How far a service has come. What its nodes are at the moment is not kept
/// but looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "step")]
pub enum Stage {
    /// It is being made; this step comes next.
    Provisioning(Step),
    /// It is made.
    Ready,
    /// It is being taken apart.
    Deleting,
    /// It could not be made.
    Failed,
}

/// The steps of making a service. Each can be repeated after a crash in the
/// middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A server is made, where Postern makes it.
    Server,
    /// Every node is looked at: is it what the plan promises?
    Look,
    /// The role with which Postern looks after the service.
    ManagementRole,
    /// The customer's first role.
    AdminRole,
    /// The customer's first database.
    Database,
    /// The extension of a vector service.
    Extension,
}

impl Step {
    /// In words, for events and progress.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Server => "making the server",
            Self::Look => "looking at the nodes",
            Self::ManagementRole => "making the management role",
            Self::AdminRole => "making the admin role",
            Self::Database => "making the database",
            Self::Extension => "making the extension",
        }
    }

    /// The step behind this one; none: the service is made.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Server => Some(Self::Look),
            Self::Look => Some(Self::ManagementRole),
            Self::ManagementRole => Some(Self::AdminRole),
            Self::AdminRole => Some(Self::Database),
            Self::Database => Some(Self::Extension),
            Self::Extension => None,
        }
    }
}

/// A node that a service is placed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedNode {
    /// Its id in the inventory; that of a local server is the service's name.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// Its availability zone, if it has one.
    pub zone: Option<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name, for ever.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// What its nodes offer.
    pub kind: ServiceKind,
    /// The name of its plan.
    pub plan: String,
    /// Where its nodes are.
    pub cloud: Option<String>,
    /// Where its nodes are.
    pub region: Option<String>,
    /// Who makes its nodes.
    pub provider: Provider,
    /// Who may connect.
    pub allowlist: Vec<String>,
    /// Its nodes, the primary of the beginning first.
    pub nodes: Vec<PlacedNode>,
    /// How connections to its nodes are encrypted.
    pub node_tls: domain::NodeTls,
    /// The authorities of its nodes' certificates, PEM.
    pub node_ca: Option<String>,
    /// How its connections are pooled.
    pub pooling: PoolSettings,
    /// The role for lookups and probes.
    pub management_role: String,
    /// The customer's first role.
    pub admin_role: String,
    /// The customer's first database.
    pub database: String,
    /// How far it has come.
    pub stage: Stage,
    /// Why it failed, or what holds it up.
    pub reason: Option<String>,
    /// Whether its customer wants it to run.
    pub powered: bool,
    /// Whether new transactions wait.
    pub paused: bool,
    /// Whether a deletion is refused.
    pub termination_protection: bool,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
}

impl Record for ServiceRecord {
    const COLLECTION: Collection = Collection::Services;

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl ServiceRecord {
    /// The path of the management role's password.
    #[must_use]
    pub fn management_secret(&self) -> String {
        format!("services/{}/management", self.name)
    }

    /// Whether clients are to find it.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.stage == Stage::Ready
    }
}

/// A role that the catalogue made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// Whose it is.
    pub service: String,
    /// Its name on the nodes.
    pub role: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When its password was last set, RFC 3339.
    pub rotated_at: String,
}

impl Record for RoleRecord {
    const COLLECTION: Collection = Collection::Roles;

    fn name(&self) -> String {
        format!("{}/{}", self.service, self.role)
    }
}

/// The path of a role's password.
#[must_use]
pub fn role_secret(service: &str, role: &str) -> String {
    format!("services/{service}/roles/{role}")
}

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

/// What a token may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See everything but passwords.
    Read,
    /// Change services, and see their passwords.
    Write,
    /// Also nodes, tokens and the audit log.
    Admin,
}

/// A bearer token, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id, the public half of the token.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub scope: Scope,
    /// SHA-256 of the whole token, hexadecimal. A token is 256 random bits, so
    /// that a slow hash would protect nothing more.
    pub hash: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

impl Record for TokenRecord {
    const COLLECTION: Collection = Collection::Tokens;

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// What was created under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// Who created it, and the key.
    pub key: String,
    /// A hash of the request.
    pub fingerprint: String,
    /// The name of what was created.
    pub created: String,
    /// When, RFC 3339.
    pub at: String,
}

impl Record for IdempotencyRecord {
    const COLLECTION: Collection = Collection::Idempotency;

    fn name(&self) -> String {
        self.key.clone()
    }
}

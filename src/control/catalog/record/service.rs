//! Services and their roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Record;
use crate::control::catalog::store::Collection;
use crate::control::pooling::PoolSettings;
use crate::domain;

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
    /// Its id in the inventory; that of a local server is the service's name,
    /// with a number where there are several.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// Its availability zone, if it has one.
    pub zone: Option<String>,
}

/// Who says which node of a service leads, where timelines alone do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyRecord {
    /// The REST APIs of Patroni's members.
    pub patroni: Vec<String>,
    /// Who Postern is to Patroni; the password is sealed.
    pub user: String,
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
    /// Who says which of them leads; none: the newest timeline does.
    #[serde(default)]
    pub topology: Option<TopologyRecord>,
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

    /// The path of the password for orders to Patroni.
    #[must_use]
    pub fn patroni_secret(&self) -> String {
        format!("services/{}/patroni", self.name)
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
    /// Until when the password before works, RFC 3339.
    #[serde(default)]
    pub previous_until: Option<String>,
    /// What its node is yet to be told.
    #[serde(default)]
    pub stage: RoleStage,
}

/// Where a role is in its life. What its node is to be told stands here before
/// it is told, so that a crash in between is made good after the restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleStage {
    /// The node has been told everything.
    #[default]
    Ready,
    /// It is being made: nobody is shown it yet.
    Making,
    /// It is being given the password that is sealed.
    Rotating,
    /// It is being taken away: nobody is shown it any more.
    Removing,
}

impl RoleStage {
    /// Whether there is such a role for those who ask.
    #[must_use]
    pub fn is_shown(self) -> bool {
        matches!(self, Self::Ready | Self::Rotating)
    }
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

/// The path of what lets a role's password before work for a while yet.
#[must_use]
pub fn rotation_secret(service: &str, role: &str) -> String {
    format!("services/{service}/rotations/{role}")
}

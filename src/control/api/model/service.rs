//! Services: what is asked for, what is changed, and how they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ConnectionView;
use crate::control::catalog::record::{Provider, ServiceKind};
use crate::control::pooling::{PoolChange, PoolSettings};

/// How far a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// It is being made.
    Provisioning,
    /// It takes connections, and all its nodes answer.
    Running,
    /// Something is missing; the reason says what.
    Degraded,
    /// Its primary is gone, and another one is waited for.
    Failover,
    /// Its owner has powered it off.
    PoweredOff,
    /// It is being taken apart.
    Deleting,
    /// It could not be made.
    Failed,
}

/// Where a service is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the catalogue, over this API.
    Catalog,
    /// In the configuration file: it is changed there.
    File,
}

/// A service to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCreate {
    /// The name that clients use, for ever.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$", example = "orders")]
    pub name: String,
    /// What people call it; its name unless given.
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
    /// What its nodes offer.
    #[serde(default = "postgresql")]
    pub kind: ServiceKind,
    /// The name of its plan.
    #[schema(min_length = 1, max_length = 63, example = "startup-4")]
    pub plan: String,
    /// The cloud to place it in; anywhere unless given.
    #[schema(max_length = 63)]
    pub cloud: Option<String>,
    /// The region to place it in; anywhere unless given.
    #[schema(max_length = 63)]
    pub region: Option<String>,
    /// Who makes its nodes.
    #[serde(default = "external")]
    pub provider: Provider,
    /// The nodes to place it on, by their ids; chosen unless given.
    #[schema(max_items = 100)]
    pub nodes: Option<Vec<String>>,
    /// Who may connect: addresses, CIDR blocks, `local`. Everybody unless
    /// given; an empty list lets nobody in.
    #[schema(max_items = 1_000)]
    pub allowlist: Option<Vec<String>>,
    /// How its connections are pooled.
    #[serde(default)]
    pub pooling: PoolSettings,
    /// Whether a deletion is refused.
    #[serde(default)]
    pub termination_protection: bool,
}

fn postgresql() -> ServiceKind {
    ServiceKind::Postgresql
}

fn external() -> Provider {
    Provider::External
}

/// A change of a service: what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceChange {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
    /// The name of another plan.
    #[schema(min_length = 1, max_length = 63)]
    pub plan: Option<String>,
    /// Who may connect. Sessions that the new list does not permit are ended.
    #[schema(max_items = 1_000)]
    pub allowlist: Option<Vec<String>>,
    /// How its connections are pooled; a setting that is not given stays.
    #[schema(value_type = Option<PoolSettings>)]
    pub pooling: Option<PoolChange>,
    /// Whether it is to run. Powered off it ends its sessions and admits none.
    pub powered: Option<bool>,
    /// Whether a deletion is refused.
    pub termination_protection: Option<bool>,
}

/// What came, or would come, of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Whether nothing was changed, because it was only asked.
    pub dry_run: bool,
    /// The sessions that the change ends.
    pub sessions_ended: Vec<ConnectionView>,
    /// The service after the change.
    pub service: ServiceView,
}

/// A service in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    /// Its name.
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
    /// Where it is declared.
    pub origin: Origin,
    /// How far it is.
    pub state: ServiceState,
}

/// A service in full: its overview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, as the API names them")]
pub struct ServiceView {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: ServiceSummary,
    /// Who makes its nodes.
    pub provider: Option<Provider>,
    /// Why it is not further, or not well.
    pub reason: Option<String>,
    /// What to put into a driver.
    pub connection: ConnectionInfo,
    /// Its connections on its primary.
    pub connections: ConnectionUse,
    /// Who may connect.
    pub allowlist: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<ServiceNodeView>,
    /// How its connections are pooled.
    pub pooling: PoolSettings,
    /// Days for which backups are kept; 0: none.
    pub backup_retention_days: u32,
    /// Whether the nodes are spread over availability zones.
    pub multi_az: bool,
    /// Whether it is to run.
    pub powered: bool,
    /// Whether new transactions wait.
    pub paused: bool,
    /// Whether a deletion is refused.
    pub termination_protection: bool,
    /// When it was created, RFC 3339.
    pub created_at: Option<String>,
}

/// What to put into a driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionInfo {
    /// The service URI: sessions of their own.
    pub uri: String,
    /// The pooled URI: transactions share connections.
    pub pooled_uri: Option<String>,
    /// The URI of the standbys, where there are any.
    pub read_only_uri: Option<String>,
    /// The host.
    pub host: String,
    /// The port of the service URI.
    pub port: u16,
    /// The port of the pooled URI.
    pub pooled_port: Option<u16>,
    /// The admin role; roles of file-declared services are their operator's.
    pub user: Option<String>,
    /// Its password, for tokens that may see it.
    pub password: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// libpq's `sslmode`.
    pub ssl_mode: String,
    /// The certificate of the authority, PEM, for `sslmode=verify-full`.
    pub ca_certificate: Option<String>,
}

/// How many connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionUse {
    /// The plan's.
    pub limit: u32,
    /// Held by clients on the primary now.
    pub used: u32,
    /// Clients, pooled ones among them.
    pub clients: u32,
}

/// A node of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceNodeView {
    /// Where it is.
    pub address: String,
    /// Its id in the inventory.
    pub id: Option<String>,
    /// Its availability zone.
    pub zone: Option<String>,
    /// `primary`, `standby`, `down` or `unknown`.
    pub role: String,
    /// How far a standby is behind, in seconds, where it is known.
    pub lag_seconds: Option<u64>,
}

//! What goes over the wire: bodies and answers, which are also the schemas of
//! the API's document. The command line reads the same types.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::catalog::record::{Found, Provider, Scope, ServiceKind};
use crate::control::pooling::{PoolChange, PoolSettings};
use crate::domain::NodeTls;

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

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// Its number.
    pub id: u64,
    /// `session` or `transaction`.
    pub endpoint: String,
    /// Its role.
    pub role: String,
    /// Its database.
    pub database: String,
    /// Its `application_name` at login.
    pub application: String,
    /// Where from.
    pub address: String,
    /// What it is doing.
    pub activity: String,
    /// For how many seconds it has been doing it.
    pub activity_seconds: u32,
    /// For how many seconds it has been here.
    pub age_seconds: u32,
}

/// How many sessions were told to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedView {
    /// So many.
    pub ended: usize,
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its number.
    pub id: u64,
    /// When, RFC 3339.
    pub at: String,
    /// In one word.
    pub kind: String,
    /// In a sentence.
    pub message: String,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its number.
    pub id: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What was changed: `services/orders`.
    pub subject: String,
    /// Who did it: the id of a token, or `socket`.
    pub actor: String,
    /// What he did.
    pub action: String,
    /// What he gave, without secrets.
    pub detail: serde_json::Value,
}

/// A role to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleCreate {
    /// Its name.
    #[schema(min_length = 1, max_length = 63, example = "app")]
    pub name: String,
}

/// A role that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// Its password, for tokens that may see it.
    pub password: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When its password was last set, RFC 3339.
    pub rotated_at: String,
}

/// A database to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseCreate {
    /// Its name.
    #[schema(min_length = 1, max_length = 63, example = "shop")]
    pub name: String,
    /// The role that owns it; the admin role unless given.
    #[schema(min_length = 1, max_length = 63)]
    pub owner: Option<String>,
}

/// A database of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseView {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
}

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

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100, example = "the platform's console")]
    pub description: String,
    /// What it may do.
    pub scope: Scope,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id, the public half.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// A new token: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// The token.
    pub token: String,
    /// Its id, the public half.
    pub id: String,
    /// What it may do.
    pub scope: Scope,
}

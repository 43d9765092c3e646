//! What `postern service create` and `update` are told, and what they ask the
//! API for.

use clap::{Args, ValueEnum};

use crate::app::platform::{OfService, Reach};
use crate::control::api::model::{ServiceChange, ServiceCreate};
use crate::control::catalog::record::{Provider, ServiceKind};
use crate::control::pooling::{PoolChange, PoolSettings};

/// What service to create.
#[derive(Debug, Args)]
pub struct CreateOptions {
    /// The name that clients use, for ever.
    name: String,
    /// The plan: `postern plan list`.
    #[arg(long)]
    plan: String,
    /// What its nodes offer.
    #[arg(long, default_value = "postgresql")]
    kind: ServiceKind,
    /// What people call it.
    #[arg(long)]
    display_name: Option<String>,
    /// The cloud to place it in.
    #[arg(long)]
    cloud: Option<String>,
    /// The region to place it in.
    #[arg(long)]
    region: Option<String>,
    /// Who makes its nodes: external, those of the inventory; local, Postern on
    /// its own host.
    #[arg(long, default_value = "external")]
    provider: Provider,
    /// A node to place it on, by its id; may be repeated.
    #[arg(long = "node", value_name = "ID")]
    nodes: Vec<String>,
    /// An address or CIDR block that may connect; may be repeated. Everybody
    /// unless given.
    #[arg(long = "allow", value_name = "CIDR")]
    allow: Vec<String>,
    /// A setting of its pools, as in the file: `query_timeout=30s`;
    /// may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pooling: Vec<PoolChange>,
    /// Refuse deletions.
    #[arg(long)]
    termination_protection: bool,
    /// Return at once.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Where the API is.
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl CreateOptions {
    /// What the API is asked for.
    pub(super) fn body(&self) -> ServiceCreate {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        ServiceCreate {
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            kind: self.kind,
            plan: self.plan.clone(),
            cloud: self.cloud.clone(),
            region: self.region.clone(),
            provider: self.provider,
            nodes: some(&self.nodes),
            allowlist: some(&self.allow),
            pooling: changed(&self.pooling).unwrap_or_default().apply(&PoolSettings::default()),
            termination_protection: self.termination_protection,
        }
    }
}

/// How to change a service.
#[derive(Debug, Args)]
pub struct UpdateOptions {
    /// The service, and where the API is.
    #[command(flatten)]
    pub(super) of: OfService,
    /// What people call it.
    #[arg(long)]
    display_name: Option<String>,
    /// Another plan.
    #[arg(long)]
    plan: Option<String>,
    /// An address or CIDR block that may connect; may be repeated. The list
    /// replaces the one in force, and sessions it does not permit end.
    #[arg(long = "allow", value_name = "CIDR")]
    allow: Vec<String>,
    /// Let nobody in.
    #[arg(long, conflicts_with = "allow")]
    allow_nobody: bool,
    /// A setting of its pools, as in the file: `query_timeout=30s`;
    /// may be repeated. The others stay.
    #[arg(long, value_name = "KEY=VALUE")]
    pooling: Vec<PoolChange>,
    /// on or off.
    #[arg(long)]
    power: Option<Switch>,
    /// on or off.
    #[arg(long)]
    termination_protection: Option<Switch>,
    /// Only say which sessions would end.
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl UpdateOptions {
    /// What the API is asked for.
    pub(super) fn body(&self) -> ServiceChange {
        let on = |switch: Switch| switch == Switch::On;
        let given = !self.allow.is_empty() || self.allow_nobody;
        ServiceChange {
            display_name: self.display_name.clone(),
            plan: self.plan.clone(),
            allowlist: given.then(|| self.allow.clone()),
            pooling: changed(&self.pooling),
            powered: self.power.map(on),
            termination_protection: self.termination_protection.map(on),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// One change of all of them, if there is one.
fn changed(settings: &[PoolChange]) -> Option<PoolChange> {
    let mut all = settings.first()?.clone();
    all.extend(settings.iter().cloned());
    Some(all)
}

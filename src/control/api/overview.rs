//! A service as its operator sees it: what the catalogue says, what the data
//! path sees, and what to put into a driver.

use std::collections::HashMap;

use super::entrance::Guest;
use super::model::{
    ConnectionInfo, ConnectionUse, Origin, ServiceNodeView, ServiceState, ServiceSummary,
    ServiceView,
};
use super::problem::Problem;
use super::{Api, authority::Caller};
use crate::control::catalog::record::{Scope, ServiceKind, ServiceRecord, Stage, role_secret};
use crate::control::catalog::{Catalog, Versioned};
use crate::control::exposition::NodeRole;
use crate::control::pooling::PoolSettings;
use crate::directory::{Node, Service};
use crate::domain::{Access, Allowlist, PoolMode, Refusal, Secret, ServiceName};

/// What is known of a service: one of both at least.
pub(super) struct Known {
    /// What the catalogue says.
    pub(super) record: Option<Versioned<ServiceRecord>>,
    /// The admin role's password, for callers who may see it.
    password: Option<Secret<String>>,
    name: ServiceName,
}

impl Known {
    /// Finds a service; the password for those who may see it.
    pub(super) async fn find(api: &Api, caller: &Caller, name: &str) -> Result<Self, Problem> {
        let not_found = || Problem::not_found("service", name);
        let parsed: ServiceName = name.parse().map_err(|_| not_found())?;
        let (record, password) = if api.catalog.is_some() {
            let (name, may_see) = (name.to_owned(), caller.scope >= Scope::Write);
            api.with_catalog(move |catalog| read(catalog, &name, may_see)).await?
        } else {
            (None, None)
        };
        if record.is_none() && api.directory.service(&parsed).is_none() {
            return Err(not_found());
        }
        Ok(Self { record, password, name: parsed })
    }

    /// The record, of a service that can be changed here.
    pub(super) fn into_record(self) -> Result<Versioned<ServiceRecord>, Problem> {
        self.record.ok_or_else(|| {
            Problem::conflict("The service is declared in the configuration file: change it there.")
        })
    }

    /// The service in full.
    pub(super) fn view(&self, api: &Api) -> ServiceView {
        let live = api.directory.service(&self.name);
        let record = self.record.as_ref().map(|found| &found.record);
        let roles = Roles::look(api);
        let roles = roles.of(&self.name);
        let (summary, reason) = summarised(roles, &self.name, record, live.as_deref());
        let plans = (api.plans)();
        let plan = plans.find(&summary.plan);
        ServiceView {
            summary,
            provider: record.map(|r| r.provider),
            reason,
            connection: self.connection(api, live.as_deref(), plan.is_some_and(|p| p.nodes > 1)),
            connections: connections(
                api,
                &self.name,
                live.as_deref(),
                plan.map_or(0, |p| p.max_connections.get()),
            ),
            allowlist: allowlist(record, live.as_deref()),
            nodes: nodes(roles, record, live.as_deref()),
            pooling: pooling(record, live.as_deref()),
            backup_retention_days: plan.map_or(0, |p| p.backup_retention_days),
            multi_az: plan.is_some_and(|p| p.multi_az),
            powered: record.is_none_or(|r| r.powered),
            paused: match &live {
                Some(live) => live.paused,
                None => record.is_some_and(|r| r.paused),
            },
            termination_protection: record.is_some_and(|r| r.termination_protection),
            created_at: record.map(|r| r.created_at.clone()),
        }
    }

    fn connection(&self, api: &Api, live: Option<&Service>, has_standbys: bool) -> ConnectionInfo {
        let record = self.record.as_ref().map(|found| &found.record);
        let has_standbys = has_standbys || live.is_some_and(|service| service.nodes.len() > 1);
        let guest = Guest {
            service: &self.name,
            user: record.map(|r| r.admin_role.as_str()),
            password: self.password.as_ref().map(|password| password.expose().as_str()),
            database: record.map(|r| r.database.as_str()),
        };
        let entrance = &api.entrance;
        let pooled = entrance
            .transaction_port
            .map(|_| entrance.uri(guest, Access::ReadWrite, PoolMode::Transaction));
        ConnectionInfo {
            uri: entrance.uri(guest, Access::ReadWrite, PoolMode::Session),
            pooled_uri: pooled,
            read_only_uri: has_standbys
                .then(|| entrance.uri(guest, Access::ReadOnly, PoolMode::Session)),
            host: entrance.host(&self.name, Access::ReadWrite, PoolMode::Session),
            port: entrance.session_port,
            pooled_port: entrance.transaction_port,
            user: guest.user.map(str::to_owned),
            password: guest.password.map(str::to_owned),
            database: guest.database.map(str::to_owned),
            ssl_mode: entrance.ssl_mode.to_owned(),
            ca_certificate: entrance.authority.clone(),
        }
    }
}

/// What the catalogue has of a service.
type Kept = (Option<Versioned<ServiceRecord>>, Option<Secret<String>>);

fn read(catalog: &Catalog, name: &str, with_password: bool) -> Result<Kept, Problem> {
    let found = catalog.get::<ServiceRecord>(name)?;
    let role = found.as_ref().filter(|_| with_password).map(|found| &found.record.admin_role);
    let password = role.map(|role| catalog.secret(&role_secret(name, role))).transpose()?;
    Ok((found, password.flatten()))
}

/// The roles of nodes, by service: found once for a list of services.
pub(super) struct Roles(HashMap<ServiceName, Vec<(String, NodeRole)>>);

impl Roles {
    /// What the watchers last saw.
    pub(super) fn look(api: &Api) -> Self {
        let mut roles: HashMap<ServiceName, Vec<_>> = HashMap::new();
        for state in api.management.node_states() {
            roles.entry(state.service).or_default().push((state.node.to_string(), state.role));
        }
        Self(roles)
    }

    fn of(&self, name: &ServiceName) -> &[(String, NodeRole)] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A service in a list.
pub(super) fn summary(
    api: &Api,
    roles: &Roles,
    name: &ServiceName,
    record: Option<&ServiceRecord>,
) -> Option<ServiceSummary> {
    let live = api.directory.service(name);
    let is_there = record.is_some() || live.is_some();
    is_there.then(|| summarised(roles.of(name), name, record, live.as_deref()).0)
}

/// Of a service that the catalogue has, or the data path, or both; and why it
/// is not further, or not well.
fn summarised(
    roles: &[(String, NodeRole)],
    name: &ServiceName,
    record: Option<&ServiceRecord>,
    live: Option<&Service>,
) -> (ServiceSummary, Option<String>) {
    let (state, reason) = state(roles, record, live);
    let plan = record.map(|r| r.plan.clone());
    let kind = record.map(|r| r.kind).or_else(|| live.map(|s| s.kind.into()));
    let summary = ServiceSummary {
        name: name.to_string(),
        display_name: record.map_or_else(|| name.to_string(), |r| r.display_name.clone()),
        kind: kind.unwrap_or(ServiceKind::Postgresql),
        plan: plan.or_else(|| live.map(|s| s.plan.name.to_string())).unwrap_or_default(),
        cloud: record.and_then(|r| r.cloud.clone()),
        region: record.and_then(|r| r.region.clone()),
        origin: if record.is_some() { Origin::Catalog } else { Origin::File },
        state,
    };
    (summary, reason)
}

fn state(
    roles: &[(String, NodeRole)],
    record: Option<&ServiceRecord>,
    live: Option<&Service>,
) -> (ServiceState, Option<String>) {
    let stage = record.map_or(Stage::Ready, |record| record.stage);
    let reason = record.and_then(|record| record.reason.clone());
    match stage {
        Stage::Provisioning(step) => {
            (ServiceState::Provisioning, reason.or_else(|| Some(format!("{}.", step.label()))))
        }
        Stage::Deleting => (ServiceState::Deleting, reason),
        Stage::Failed => (ServiceState::Failed, reason),
        Stage::Ready if record.is_some_and(|record| !record.powered) => {
            (ServiceState::PoweredOff, None)
        }
        Stage::Ready => live.map_or((ServiceState::Degraded, reason), |live| health(roles, live)),
    }
}

/// What a service that is made is, by its nodes.
fn health(roles: &[(String, NodeRole)], service: &Service) -> (ServiceState, Option<String>) {
    if let Err(reason) = &service.topology.primary {
        let refusal = Refusal::NoPrimary { service: service.name.clone(), reason: reason.clone() };
        let several = service.nodes.len() > 1;
        let state = if several { ServiceState::Failover } else { ServiceState::Degraded };
        return (state, refusal.answer().detail);
    }
    let down: Vec<_> = roles
        .iter()
        .filter(|(_, role)| *role == NodeRole::Down)
        .map(|(address, _)| format!("{address} does not answer."))
        .collect();
    if down.is_empty() {
        (ServiceState::Running, None)
    } else {
        (ServiceState::Degraded, Some(down.join(" ")))
    }
}

fn nodes(
    roles: &[(String, NodeRole)],
    record: Option<&ServiceRecord>,
    live: Option<&Service>,
) -> Vec<ServiceNodeView> {
    let role = |address: &str| {
        let mut known = roles.iter().filter(|(known, _)| known == address);
        known.next().map_or(NodeRole::Unknown, |(_, role)| *role).label().to_owned()
    };
    let lag = |address: &str| {
        let mut standbys = live?.topology.standbys.iter();
        let standby = standbys.find(|standby| standby.node.address.to_string() == address)?;
        standby.lag.map(|lag| lag.as_secs())
    };
    let placed = record.map(|record| record.nodes.as_slice()).unwrap_or_default();
    if !placed.is_empty() {
        let view = |node: &crate::control::catalog::record::PlacedNode| ServiceNodeView {
            role: role(&node.address),
            lag_seconds: lag(&node.address),
            address: node.address.clone(),
            id: Some(node.id.clone()),
            zone: node.zone.clone(),
        };
        return placed.iter().map(view).collect();
    }
    let view = |node: &std::sync::Arc<Node>| {
        let address = node.address.to_string();
        let (role, lag_seconds) = (role(&address), lag(&address));
        ServiceNodeView { address, id: None, zone: None, role, lag_seconds }
    };
    live.map(|live| live.nodes.iter().map(view).collect()).unwrap_or_default()
}

fn connections(
    api: &Api,
    name: &ServiceName,
    live: Option<&Service>,
    promised: u32,
) -> ConnectionUse {
    let clients = u32::try_from(api.roster.seats_of(name).len()).unwrap_or(u32::MAX);
    let primary = live.and_then(|live| live.topology.primary.as_ref().ok());
    let counts = primary.map(|node| api.slots.of(node).counts());
    let limit = primary.map_or(promised, |node| node.capacity);
    let used = counts.map_or(0, |counts| counts.used() - counts.closing);
    ConnectionUse { limit, used, clients }
}

fn allowlist(record: Option<&ServiceRecord>, live: Option<&Service>) -> Vec<String> {
    match (record, live) {
        (Some(record), _) => record.allowlist.clone(),
        (None, Some(live)) => words(&live.allowlist),
        (None, None) => Vec::new(),
    }
}

fn words(list: &Allowlist) -> Vec<String> {
    let text = list.to_string();
    text.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn pooling(record: Option<&ServiceRecord>, live: Option<&Service>) -> PoolSettings {
    let of_file = || live.and_then(|live| live.nodes.first()).map(|node| node.pooling.into());
    record.map(|record| record.pooling.clone()).or_else(of_file).unwrap_or_default()
}

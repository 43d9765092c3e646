//! From settings to what the data path reads, at the start and on SIGHUP.
//!
//! A reload replaces the policy and the snapshot, each whole; a file with a
//! mistake replaces nothing. What a tightened allowlist no longer permits is
//! told to leave.

use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use crate::admission::strangers::Caps;
use crate::control::admin::ReloadReport;
use crate::control::config::{self, ListenAddress, Settings, TlsMode};
use crate::directory::roster::Order;
use crate::directory::{
    Directory, Node, Roster, Routing, Seat, Service, Snapshot, Tenures, Topology,
};
use crate::domain::ServiceName;
use crate::domain::refusal::Unavailable;
use crate::net::ServerTls;
use crate::session::Policy;

/// The policy that these settings mean. Reads the certificates.
///
/// # Errors
/// If a certificate or key cannot be used.
pub fn policy(settings: &Settings) -> Result<Policy, Failure> {
    let tls = &settings.tls;
    let pairs: Vec<(PathBuf, PathBuf)> = tls
        .certificate
        .iter()
        .chain(&tls.further)
        .map(|files| (files.certificate.clone(), files.key.clone()))
        .collect();
    let offered = tls.mode != TlsMode::Disable && !pairs.is_empty();
    let load = || ServerTls::load(&pairs).map_err(|error| Failure::new(format!("tls: {error}")));
    let (limits, timeouts) = (&settings.limits, &settings.timeouts);
    Ok(Policy {
        tls: offered.then(load).transpose()?,
        tls_required: tls.mode == TlsMode::Require,
        plain_from: tls.plain_from.clone(),
        proxy_protocol_from: settings.listen.proxy_protocol_from.clone(),
        caps: Caps {
            total: limits.max_unauthenticated,
            per_network: limits.max_unauthenticated_per_address.map_or(usize::MAX, Into::into),
        },
        max_clients: limits.max_clients,
        client_login_timeout: timeouts.client_login,
        server_connect_timeout: timeouts.server_connect,
        session_wait: timeouts.session_wait,
        failover_wait: timeouts.failover_wait,
        failover_max_held: limits.failover_max_held,
        pooled_port: settings.listen.transaction.first().map(port),
    })
}

fn port(address: &ListenAddress) -> u16 {
    match address {
        ListenAddress::Tcp(address) => address.port(),
        ListenAddress::Unix { port, .. } => *port,
    }
}

/// The snapshot that these settings mean, before anybody has looked at its
/// nodes.
///
/// # Errors
/// If a `node_ca` cannot be read.
pub fn snapshot(settings: &Settings) -> Result<Snapshot, Failure> {
    let services: Result<_, Failure> = settings
        .services
        .iter()
        .map(|declared| Ok((declared.name.clone(), Arc::new(service(declared)?))))
        .collect();
    let routing = Routing {
        domains: settings.routing.domains.iter().map(|name| name.as_str().to_owned()).collect(),
        default_service: settings.routing.default_service.clone(),
    };
    Ok(Snapshot { services: services?, routing })
}

/// A service as the data path sees it, before anybody has looked at its nodes.
///
/// # Errors
/// If its `node_ca` cannot be read.
pub fn service(declared: &config::Service) -> Result<Service, Failure> {
    Ok(Service {
        name: declared.name.clone(),
        kind: declared.kind,
        plan: Arc::new(declared.plan.clone()),
        allowlist: declared.allowlist.clone(),
        nodes: nodes(declared)?,
        suspended: declared.suspended.clone(),
        paused: declared.paused,
        topology: Topology::nobody(Unavailable::Unreachable),
        tenures: Tenures::default(),
    })
}

fn nodes(declared: &config::Service) -> Result<Vec<Arc<Node>>, Failure> {
    let authorities = declared.node_ca.as_ref().map(config::NodeCa::read);
    let authorities = authorities.transpose().map_err(Failure::new)?;
    let node = |address: &crate::domain::NodeAddress| {
        Arc::new(Node {
            service: declared.name.clone(),
            address: address.clone(),
            tls: declared.node_tls,
            authorities: authorities.clone(),
            capacity: declared.plan.max_connections.get(),
            pooling: declared.pooling,
        })
    };
    Ok(declared.nodes.iter().map(node).collect())
}

/// Tells the sessions that their service's allowlist no longer permits, or
/// whose service is gone or powered off, to leave. Returns how many.
pub fn send_away_unwanted(directory: &Directory, roster: &Roster) -> usize {
    send_away(directory, &roster.seats())
}

/// As [`send_away_unwanted`], of one service.
pub fn send_away_unwanted_of(directory: &Directory, roster: &Roster, name: &ServiceName) -> usize {
    send_away(directory, &roster.seats_of(name))
}

fn send_away(directory: &Directory, seats: &[Arc<Seat>]) -> usize {
    let snapshot = directory.current();
    let orders = seats.iter().map(|seat| {
        let service = snapshot.services.get(&seat.occupant.endpoint.service);
        (seat, order(service.map(|service| &**service), seat))
    });
    let unwanted: Vec<_> = orders.filter(|(_, order)| *order != Order::None).collect();
    for (seat, order) in &unwanted {
        seat.tell(*order);
    }
    unwanted.len()
}

/// What a session is told, now that its service is this one.
fn order(service: Option<&Service>, seat: &Seat) -> Order {
    match service {
        Some(service) if !service.allowlist.permits(&seat.occupant.address) => Order::NotPermitted,
        Some(service) if service.suspended == Some(Unavailable::PoweredOff) => Order::Leave,
        Some(_) => Order::None,
        None => Order::NotPermitted,
    }
}

/// Which services came, changed and went.
#[must_use]
pub fn difference(before: &Snapshot, after: &Snapshot) -> ReloadReport {
    let names = |services: Vec<&ServiceName>| {
        let mut names: Vec<_> = services.into_iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let (old, new) = (&before.services, &after.services);
    let is_new = |name: &&ServiceName| !old.contains_key(name);
    let is_gone = |name: &&ServiceName| !new.contains_key(name);
    let is_different = |name: &&ServiceName| {
        let both = old.get(name).zip(new.get(name));
        both.is_some_and(|(old, new)| differs(old, new))
    };
    ReloadReport {
        added: names(new.keys().filter(is_new).collect()),
        changed: names(new.keys().filter(is_different).collect()),
        removed: names(old.keys().filter(is_gone).collect()),
        ..ReloadReport::default()
    }
}

/// Whether a service was declared otherwise; what its nodes are at the moment
/// does not count.
fn differs(before: &Service, after: &Service) -> bool {
    before.kind != after.kind
        || before.plan != after.plan
        || before.allowlist != after.allowlist
        || before.nodes != after.nodes
        || before.suspended != after.suspended
}

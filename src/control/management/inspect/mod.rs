//! `postern check --connect`: everything about the nodes that will keep
//! clients from getting what they were promised, all at once (decision 20).
//!
//! Each node is looked at with the management role and as Postern will: what
//! the role cannot see is said to be unseen, not taken to be well.

mod finding;
mod hba;
mod node;
mod roles;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

pub use finding::Finding;
use finding::{Findings, Subject};
use node::Role;

use crate::control::config::{self, Settings};
use crate::directory::Node;
use crate::domain::NodeAddress;
use crate::upstream::Dialer;

/// Nodes that are looked at side by side.
const AT_ONCE: usize = 16;
/// The most that a connection may take here, whatever
/// `server_connect_timeout` says: somebody waits for the report.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Looks at every node of every service and says what is wrong there, service
/// by service. Nothing found: nothing to do.
pub async fn inspect(settings: &Settings) -> Vec<Finding> {
    let dialer = Dialer::default();
    let within = settings.timeouts.server_connect.min(CONNECT_WITHIN);
    let places = settings
        .services
        .iter()
        .flat_map(|service| service.nodes.iter().map(move |address| (service, address)));
    let looks = places.map(|(service, address)| look_at(&dialer, service, address, within));
    let seen: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    report(settings, seen)
}

async fn look_at(
    dialer: &Dialer,
    service: &config::Service,
    address: &NodeAddress,
    within: Duration,
) -> (Role, Vec<Finding>) {
    let mut findings = Findings::new(Subject::Node(&service.name, address));
    let role = match authorities(service) {
        Ok(authorities) => {
            let node = Node {
                service: service.name.clone(),
                address: address.clone(),
                tls: service.node_tls,
                authorities,
                capacity: service.plan.max_connections.get(),
                pooling: service.pooling,
            };
            node::inspect(dialer, &node, service, within, &mut findings).await
        }
        Err(why) => {
            findings.problem(why);
            Role::Unseen
        }
    };
    (role, findings.into_vec())
}

/// The findings about each service, then about its nodes.
fn report(settings: &Settings, seen: Vec<(Role, Vec<Finding>)>) -> Vec<Finding> {
    let mut seen = seen.into_iter();
    let mut all = Vec::new();
    for service in &settings.services {
        let of_nodes: Vec<_> = seen.by_ref().take(service.nodes.len()).collect();
        let mut findings = Findings::new(Subject::Service(&service.name));
        let roles: Vec<_> = of_nodes.iter().map(|(role, _)| *role).collect();
        node::compare(&roles, &mut findings);
        all.extend(findings.into_vec());
        all.extend(of_nodes.into_iter().flat_map(|(_, findings)| findings));
    }
    all
}

fn authorities(service: &config::Service) -> Result<Option<Arc<str>>, String> {
    service.node_ca.as_ref().map(config::NodeCa::read).transpose()
}

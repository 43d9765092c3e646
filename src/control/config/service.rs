//! The services that the file declares.

use std::path::PathBuf;

use super::files;
use super::plans::Plans;
use super::section::Section;
use super::value;
use crate::domain::allowlist::AllowEntry;
use crate::domain::{Allowlist, Kind, NodeAddress, NodeTls, Plan, Secret, ServiceName};

/// A declared service.
#[derive(Debug, Clone)]
pub struct Service {
    /// The name that clients ask for.
    pub name: ServiceName,
    /// What its nodes offer.
    pub kind: Kind,
    /// What its customer was promised.
    pub plan: Plan,
    /// Who may connect.
    pub allowlist: Allowlist,
    /// Its nodes, at least one, each listed once.
    pub nodes: Vec<NodeAddress>,
    /// How connections to its nodes are encrypted.
    pub node_tls: NodeTls,
    /// The authorities that its nodes' certificates are verified with, PEM;
    /// there if `node_tls` verifies them.
    pub node_ca: Option<PathBuf>,
    /// The role for lookups and probes.
    pub management: Management,
}

/// The role with which Postern looks after a service (decision 20).
#[derive(Debug, Clone)]
pub struct Management {
    /// The role's name.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// The database that it connects to.
    pub database: String,
}

const KINDS: [(&str, Kind); 2] = [("postgresql", Kind::PostgreSql), ("vector", Kind::Vector)];

const NODE_TLS: [(&str, NodeTls); 5] = [
    ("disable", NodeTls::Disable),
    ("prefer", NodeTls::Prefer),
    ("require", NodeTls::Require),
    ("verify-ca", NodeTls::VerifyCa),
    ("verify-full", NodeTls::VerifyFull),
];

/// Reads one of `[[services]]`, and adds its name to those declared, whether
/// or not the rest of it can be read.
pub(super) fn read(
    section: &mut Section,
    plans: Option<&Plans>,
    declared: &mut Vec<ServiceName>,
) -> Option<Service> {
    let name = name(section, declared);
    let kind = section.choice("kind", &KINDS, Kind::PostgreSql);
    let plan = plan(section, plans);
    let allowlist = Allowlist::new(section.or("allowlist", everybody()));
    let nodes = nodes(section, plan.as_ref());
    let node_tls = section.choice("node_tls", &NODE_TLS, NodeTls::Prefer);
    let node_ca = node_ca(section, node_tls);
    let management = section.section("management", management);
    Some(Service {
        name: name?,
        kind,
        plan: plan?,
        allowlist,
        nodes: nodes?,
        node_tls,
        node_ca,
        management: management?,
    })
}

fn name(section: &mut Section, declared: &mut Vec<ServiceName>) -> Option<ServiceName> {
    let name: ServiceName = section.required("name")?;
    if declared.contains(&name) {
        let place = section.at("name");
        place.problem(format!("there is a service \"{name}\" already"));
    }
    declared.push(name.clone());
    Some(name)
}

/// The plan by its name, if the catalogue itself could be read.
fn plan(section: &mut Section, plans: Option<&Plans>) -> Option<Plan> {
    let name: String = section.required("plan")?;
    let plans = plans?;
    let plan = plans.find(&name).cloned();
    if plan.is_none() {
        let names = plans.names();
        let question = match value::nearest(&name, &names) {
            Some(near) => format!("is \"{near}\" meant?"),
            None => format!("there are {}", names.join(", ")),
        };
        let place = section.at("plan");
        place.problem(format!("no plan {name:?} in the catalogue; {question}"));
    }
    plan
}

/// Written out, as in the file: [`Allowlist`] lets unix sockets in with it.
fn everybody() -> Vec<AllowEntry> {
    let v4 = ipnet::Ipv4Net::default();
    let v6 = ipnet::Ipv6Net::default();
    vec![AllowEntry::Block(v4.into()), AllowEntry::Block(v6.into())]
}

fn nodes(section: &mut Section, plan: Option<&Plan>) -> Option<Vec<NodeAddress>> {
    let nodes: Vec<NodeAddress> = section.required("nodes")?;
    let place = section.at("nodes");
    if nodes.is_empty() {
        place.problem("expected at least one node");
    }
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index].contains(node) {
            place
                .index(index)
                .problem(format!("{node} is listed twice"));
        }
    }
    if let Some(plan) = plan {
        let (listed, name) = (nodes.len(), &plan.name);
        let promised = plan.nodes as usize;
        let text = format!("plan \"{name}\" has nodes: {promised}, listed: {listed}");
        if listed > promised {
            place.problem(text);
        } else if listed < promised && listed > 0 {
            place.warning(text);
        }
    }
    Some(nodes)
}

fn node_ca(section: &mut Section, node_tls: NodeTls) -> Option<PathBuf> {
    let verifies = matches!(node_tls, NodeTls::VerifyCa | NodeTls::VerifyFull);
    if verifies {
        return files::required_file(section, "node_ca");
    }
    let node_ca = files::optional_file(section, "node_ca");
    if node_ca.is_some() {
        let place = section.at("node_ca");
        place.warning("is used with node_tls = \"verify-ca\" or \"verify-full\" only");
    }
    node_ca
}

fn management(section: &mut Section) -> Option<Management> {
    let user = section.required("user");
    let password = files::required_password(section, "password_file");
    let database = section.or("database", "postgres".to_owned());
    Some(Management {
        user: user?,
        password: password?,
        database,
    })
}

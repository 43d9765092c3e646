//! The services that the file declares.

use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::declared::Declared;
use super::files::{Password, ReadableFile};
use super::plans::Plans;
use super::reading::Place;
use super::section::Section;
use super::store::{self, Store};
use super::wording;
use crate::control::pooling::{
    CLIENTS, CONNECTIONS, HAND_OVERS, PoolSettings, SECONDS, STATEMENTS,
};
use crate::directory::{ClientLimits, Pooling, Reading};
use crate::domain::allowlist::AllowEntry;
use crate::domain::refusal::Unavailable;
use crate::domain::{Allowlist, Kind, NodeAddress, NodeTls, PinReason, Plan, Secret, ServiceName};

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
    pub node_ca: Option<NodeCa>,
    /// How connections to its nodes are pooled.
    pub pooling: Pooling,
    /// Who says which node leads.
    pub store: Store,
    /// The role for lookups and probes.
    pub management: Management,
    /// The client that writes when a switchover is rehearsed.
    pub canary: Option<Canary>,
    /// Why nobody is served, whatever its nodes say; never in the file.
    pub suspended: Option<Unavailable>,
    /// Whether its clients are held from the beginning; never in the file.
    pub paused: bool,
}

/// The authorities of nodes' certificates, PEM.
#[derive(Debug, Clone)]
pub enum NodeCa {
    /// A file that holds them.
    File(PathBuf),
    /// They themselves.
    Pem(Arc<str>),
}

impl NodeCa {
    /// They themselves.
    ///
    /// # Errors
    /// The file's name, and why it cannot be read.
    pub fn read(&self) -> Result<Arc<str>, String> {
        match self {
            Self::Pem(pem) => Ok(Arc::clone(pem)),
            Self::File(path) => {
                let pem = std::fs::read_to_string(path);
                pem.map(Into::into)
                    .map_err(|error| format!("node_ca: cannot read {}: {error}", path.display()))
            }
        }
    }
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

/// Whom a drill writes as: a client like any other, through the front door.
#[derive(Debug, Clone)]
pub struct Canary {
    /// The role's name.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// The database that it writes in; it may create a table there.
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

/// Reads one of `[[services]]`.
pub(super) fn read(
    section: &mut Section,
    plans: Option<&Plans>,
    declared: &mut Declared,
) -> Option<Service> {
    let name = name(section, declared);
    let kind = section.choice("kind", &KINDS, Kind::PostgreSql);
    let plan = plan(section, plans);
    let allowlist = Allowlist::new(section.or("allowlist", everybody()));
    let nodes = nodes(section, plan.as_ref(), declared);
    let node_tls = section.choice("node_tls", &NODE_TLS, NodeTls::Prefer);
    let node_ca = node_ca(section, node_tls);
    let pooling = pooling(section);
    let store = section.section("topology", |section| store::read(section, name.as_ref()));
    let management = section.section("management", management);
    let canary = canary(section);
    Some(Service {
        name: name?,
        kind,
        plan: plan?,
        allowlist,
        nodes: nodes?,
        node_tls,
        node_ca,
        pooling,
        store,
        management: management?,
        canary,
        suspended: None,
        paused: false,
    })
}

/// The keys, limits and defaults are those of [`PoolSettings`].
fn pooling(section: &mut Section) -> Pooling {
    let usual = Pooling::default();
    let statements = PoolSettings::default().max_prepared_statements;
    Pooling {
        pool_size: unless_zero(section, "pool_size", CONNECTIONS),
        pooled_reserve: section.number("pooled_reserve", usual.pooled_reserve, CONNECTIONS),
        min_pool_size: section.number("min_pool_size", usual.min_pool_size, CONNECTIONS),
        max_prepared_statements: section.number("max_prepared_statements", statements, STATEMENTS)
            as usize,
        server_idle_timeout: unless_off(section, "server_idle_timeout", usual.server_idle_timeout),
        server_lifetime: unless_off(section, "server_lifetime", usual.server_lifetime),
        query_wait_timeout: unless_off(section, "query_wait_timeout", usual.query_wait_timeout),
        query_wait_notify: unless_off(section, "query_wait_notify", usual.query_wait_notify),
        session_reuse: section.or("session_reuse", usual.session_reuse),
        audit_every: unless_zero(section, "audit_every", HAND_OVERS),
        refused_pins: section.or("refuse_state", Vec::<PinReason>::new()).into_iter().collect(),
        reading: Reading {
            max_replica_lag: unless_off(section, "max_replica_lag", usual.reading.max_replica_lag),
            fallback: section.or("read_only_fallback", usual.reading.fallback),
        },
        clients: clients(section, usual.clients),
    }
}

fn clients(section: &mut Section, usual: ClientLimits) -> ClientLimits {
    let mut time = |key, usual| unless_off(section, key, usual);
    ClientLimits {
        client_idle_timeout: time("client_idle_timeout", usual.client_idle_timeout),
        idle_transaction_timeout: time("idle_transaction_timeout", usual.idle_transaction_timeout),
        transaction_timeout: time("transaction_timeout", usual.transaction_timeout),
        query_timeout: time("query_timeout", usual.query_timeout),
        client_write_timeout: time("client_write_timeout", usual.client_write_timeout),
        max_pooled_clients: unless_zero(section, "max_pooled_clients", CLIENTS)
            .map(|most| most as usize),
    }
}

/// None where the file says 0, or nothing.
fn unless_zero(
    section: &mut Section,
    key: &'static str,
    limits: RangeInclusive<u32>,
) -> Option<u32> {
    Some(section.number(key, 0, limits)).filter(|number| *number > 0)
}

fn unless_off(
    section: &mut Section,
    key: &'static str,
    usual: Option<Duration>,
) -> Option<Duration> {
    let seconds = |seconds: &u32| Duration::from_secs((*seconds).into());
    let limits = seconds(SECONDS.start())..=seconds(SECONDS.end());
    let duration = section.duration(key, usual.unwrap_or_default(), limits);
    (!duration.is_zero()).then_some(duration)
}

fn name(section: &mut Section, declared: &mut Declared) -> Option<ServiceName> {
    let name: ServiceName = section.required("name")?;
    declared.add_name(&name, &section.at("name"));
    Some(name)
}

/// The plan by its name, if the catalogue itself could be read.
fn plan(section: &mut Section, plans: Option<&Plans>) -> Option<Plan> {
    let name: String = section.required("plan")?;
    let plans = plans?;
    let plan = plans.find(&name).cloned();
    if plan.is_none() {
        let names = plans.names();
        let question = match wording::nearest(&name, &names) {
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

fn nodes(
    section: &mut Section,
    plan: Option<&Plan>,
    declared: &mut Declared,
) -> Option<Vec<NodeAddress>> {
    let nodes: Vec<NodeAddress> = section.required("nodes")?;
    let place = section.at("nodes");
    if nodes.is_empty() {
        place.problem("expected at least one node");
        return None;
    }
    for (index, node) in nodes.iter().enumerate() {
        declared.add_node(node, &place.index(index), place.key());
    }
    if let Some(plan) = plan {
        compare_with_plan(nodes.len(), plan, &place);
    }
    Some(nodes)
}

/// More nodes than the plan promises are a mistake; fewer may be on their way.
fn compare_with_plan(listed: usize, plan: &Plan, place: &Place) {
    let promised = plan.nodes as usize;
    let text = format!("{listed} listed, plan \"{}\" has {promised}", plan.name);
    match listed.cmp(&promised) {
        Ordering::Less => place.warning(text),
        Ordering::Equal => {}
        Ordering::Greater => place.problem(text),
    }
}

fn node_ca(section: &mut Section, node_tls: NodeTls) -> Option<NodeCa> {
    let verifies = matches!(node_tls, NodeTls::VerifyCa | NodeTls::VerifyFull);
    let node_ca: Option<ReadableFile> =
        if verifies { section.required("node_ca") } else { section.optional("node_ca") };
    if node_ca.is_some() && !verifies {
        let place = section.at("node_ca");
        place.warning("is used with node_tls = \"verify-ca\" or \"verify-full\" only");
    }
    node_ca.map(|file| NodeCa::File(file.0))
}

fn management(section: &mut Section) -> Option<Management> {
    let user = section.required("user");
    let password: Option<Password> = section.required("password_file");
    let database = section.or("database", "postgres".to_owned());
    Some(Management { user: user?, password: password?.0, database })
}

fn canary(section: &mut Section) -> Option<Canary> {
    let is_there = section.has("canary");
    section.section("canary", |section| {
        let user: Option<String> = section.optional("user");
        let password: Option<Password> = section.optional("password_file");
        let database: Option<String> = section.optional("database");
        for (key, is_missing) in [("user", user.is_none()), ("password_file", password.is_none())] {
            if is_there && is_missing && !section.has(key) {
                section.at(key).problem("is missing; a canary is a role and its password");
            }
        }
        let user = user?;
        let database = database.unwrap_or_else(|| user.clone());
        Some(Canary { user, password: password?.0, database })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fixture::{accepted, refused, service};
    use super::super::reading::Reading;
    use super::super::section;
    use crate::control::pooling::PoolSettings;

    #[test]
    fn the_file_and_the_api_have_the_same_keys_and_defaults() {
        let reading = Reading::survey();
        let of_the_file = section::read_file(&reading, "", super::pooling).unwrap();
        let keys: BTreeSet<_> = reading.into_known().into_iter().map(|key| key.pattern).collect();
        let of_the_api = PoolSettings::default();
        let json = serde_json::to_value(&of_the_api).unwrap();
        assert_eq!(keys, json.as_object().unwrap().keys().cloned().collect());
        assert_eq!(PoolSettings::from(of_the_file), of_the_api);
    }

    #[test]
    fn a_service_keeps_its_plans_promise() {
        refused(
            &service("nodes = [\"db1:5432\", \"db2:5432\"]"),
            &["services[0].nodes: 2 listed, plan \"startup-4\" has 1"],
        );
        refused(&service("nodes = []"), &["services[0].nodes: expected at least one node"]);
        refused(
            &service("plan = \"premium-4\"\nnodes = [\"db1:5432\", \"db2:5432\", \"db1:5432\"]"),
            &["services[0].nodes[2]: db1:5432 is listed at services[0].nodes[0] already"],
        );
        refused(
            &service("plan = \"gold\""),
            &[
                "services[0].plan: no plan \"gold\" in the catalogue; there are hobbyist, startup-4, business-4, business-16, premium-4, premium-8",
            ],
        );
        let settings = accepted(&service("plan = \"premium-4\""));
        assert_eq!(
            settings.warnings[0].to_string(),
            "services[0].nodes: 1 listed, plan \"premium-4\" has 3"
        );
    }

    #[test]
    fn each_required_key_of_a_service_is_missed() {
        for (line, problem) in [
            ("name", "services[0].name: is missing; expected a service name"),
            ("plan", "services[0].plan: is missing; expected a text that is not empty"),
            ("nodes", "services[0].nodes: is missing; expected a list in [ ]"),
        ] {
            refused(&without(line), &[problem]);
        }
        refused(
            &service("name = \"orders-ro\""),
            &[
                "services[0].name: a service name does not end in \"-\", \"-ro\" or \"-pooler\"; found \"orders-ro\"",
            ],
        );
        refused(
            &service("nodes = [\"db1\"]"),
            &[
                "services[0].nodes[0]: a node address ends in \":port\", as in \"db1.internal:5432\" or \"[::1]:5432\"; found \"db1\"",
            ],
        );
        refused(
            &service("kind = \"mysql\""),
            &["services[0].kind: expected \"postgresql\" or \"vector\", found \"mysql\""],
        );
    }

    #[test]
    fn verified_nodes_need_an_authority() {
        refused(
            &service("node_tls = \"verify-full\""),
            &["services[0].node_ca: is missing; expected a path"],
        );
        let settings = accepted(&service("node_tls = \"verify-ca\"\nnode_ca = \"nodes-ca.crt\""));
        assert!(settings.services[0].node_ca.is_some());
    }

    #[test]
    fn an_empty_allowlist_lets_nobody_in() {
        let local = crate::domain::ClientAddress::Local;
        let admits = |keys| accepted(&service(keys)).services[0].allowlist.permits(&local);
        assert!(admits(""));
        assert!(admits("allowlist = [\"local\"]"));
        assert!(!admits("allowlist = []"));
    }

    fn without(line: &str) -> String {
        let service = service("");
        assert!(service.contains(line));
        let others = service.lines().filter(|l| !l.starts_with(line));
        others.collect::<Vec<_>>().join("\n")
    }
}

//! The demo's PostgreSQL servers: one for a `postgresql` service, one for a
//! `vector` service, and two for a service with a standby.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{progress, random_password};
use crate::app::Failure;
use crate::cluster::{Cluster, Installation, Installations};
use crate::control::management::node_sql;

/// The role and the database of every service of the demo.
pub(super) const USER: &str = "app";
pub(super) const DATABASE: &str = "app";
/// The management role, as `postern node sql` makes it.
const MANAGEMENT: &str = "postern";
/// More than any plan of the demo needs.
const MAX_CONNECTIONS: u32 = 120;

/// The running servers and what is on them.
pub(super) struct Nodes {
    services: Vec<DemoService>,
}

/// What service is to be started.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) plan: &'static str,
}

const ORDERS: Wanted = Wanted { name: "orders", kind: "postgresql", plan: "startup-4" };
const SEARCH: Wanted = Wanted { name: "search", kind: "vector", plan: "startup-4" };
/// Its plan has a standby.
const SHOP: Wanted = Wanted { name: "shop", kind: "postgresql", plan: "business-4" };

/// One service with its server.
pub(super) struct DemoService {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) plan: &'static str,
    pub(super) password: String,
    pub(super) management_password: String,
    servers: Vec<Cluster>,
    /// Which of them is the primary.
    primary: AtomicUsize,
    encrypted: bool,
}

impl Nodes {
    /// Starts both servers side by side.
    pub(super) fn start(tls: &Path) -> Result<Self, Failure> {
        let failed = |error: crate::cluster::Error| Failure::new(error.to_string());
        let installations = Installations::find().map_err(failed)?;
        let orders = installations.postgresql().map_err(failed)?;
        let search = installations.vector().map_err(failed)?;
        let started = std::thread::scope(|scope| {
            let orders = scope.spawn(|| DemoService::start(&ORDERS, orders, tls));
            let search = scope.spawn(|| DemoService::start(&SEARCH, search, tls));
            [orders, search].map(|thread| thread.join().expect("starting a server does not panic"))
        });
        let services: Result<Vec<_>, _> = started.into_iter().collect();
        Ok(Self { services: services? })
    }

    pub(super) fn services(&self) -> &[DemoService] {
        &self.services
    }
}

impl DemoService {
    /// Starts the service that has a standby.
    pub(super) fn start_shop(tls: &Path) -> Result<Self, Failure> {
        let failed = |error: crate::cluster::Error| Failure::new(error.to_string());
        let installations = Installations::find().map_err(failed)?;
        let mut shop = Self::start(&SHOP, installations.postgresql().map_err(failed)?, tls)?;
        progress("starting a standby for shop");
        shop.servers.push(shop.primary().standby().map_err(failed)?);
        Ok(shop)
    }

    fn start(wanted: &Wanted, installation: &Installation, tls: &Path) -> Result<Self, Failure> {
        let Wanted { name, kind, plan } = *wanted;
        progress(&format!("starting PostgreSQL {} for {name}", installation.major()));
        let (password, management_password) = (random_password(), random_password());
        let mut builder = Cluster::builder(installation)
            .max_connections(MAX_CONNECTIONS)
            .sql("postgres", node_sql(MANAGEMENT))
            .sql("postgres", format!("ALTER ROLE {MANAGEMENT} PASSWORD '{management_password}'"))
            .sql("postgres", format!("CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{password}'"))
            .sql("postgres", format!("CREATE DATABASE {DATABASE} OWNER {USER}"));
        if kind == "vector" {
            builder = builder.sql(DATABASE, "CREATE EXTENSION vector");
        }
        if installation.has_tls() {
            let read = |file: &str| fs::read_to_string(tls.join(file));
            builder = builder.tls(read("server.crt")?, read("server.key")?);
        }
        let cluster = builder.start().map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self {
            name,
            kind,
            plan,
            password,
            management_password,
            servers: vec![cluster],
            primary: AtomicUsize::new(0),
            encrypted: installation.has_tls(),
        })
    }

    /// The primary.
    pub(super) fn primary(&self) -> &Cluster {
        &self.servers[self.primary.load(Ordering::Relaxed)]
    }

    /// The standby, of a service that has one.
    pub(super) fn standby(&self) -> &Cluster {
        &self.servers[1 - self.primary.load(Ordering::Relaxed)]
    }

    /// Says that the standby has become the primary.
    pub(super) fn swap(&self) {
        self.primary.fetch_xor(1, Ordering::Relaxed);
    }

    /// The service's part of the configuration file.
    pub(super) fn configuration(&self, password_file: &Path) -> String {
        let nodes: Vec<_> =
            self.servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
        let mut text = format!(
            "[[services]]\nname = \"{}\"\nkind = \"{}\"\nplan = \"{}\"\nnodes = [{}]\n\
             audit_every = 10\n",
            self.name,
            self.kind,
            self.plan,
            nodes.join(", "),
        );
        if self.encrypted {
            text.push_str("node_tls = \"verify-full\"\nnode_ca = \"tls/ca.crt\"\n");
        }
        let _ = writeln!(
            text,
            "management = {{ user = \"{MANAGEMENT}\", password_file = {:?} }}",
            password_file.display().to_string(),
        );
        text
    }
}

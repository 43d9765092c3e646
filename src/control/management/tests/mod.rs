//! Against real servers. The servers are started once; tests that stop one, or
//! change more than roles of their own, have one to themselves.

mod check;
mod lookups;
mod quiet;
mod roles;
mod topology;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::*;
use crate::auth::Lookup;
use crate::auth::verifier::NoVerifier;
use crate::cluster::{Builder, Cluster, Installation, Installations};
use crate::directory::{Snapshot, Tenures, Topology};
use crate::domain::refusal::Unavailable;
use crate::domain::{Allowlist, Kind, NodeTls, Plan, Secret};

const PASSWORD: &str = "management's own";

fn installation() -> Installation {
    Installations::find().unwrap().postgresql().unwrap().clone()
}

/// A server with the management role on it.
fn managed(installation: &Installation) -> Builder {
    Cluster::builder(installation)
        .durable(false)
        .sql("postgres", node_sql("postern"))
        .sql("postgres", format!("ALTER ROLE postern PASSWORD '{}'", PASSWORD.replace('\'', "''")))
}

/// The server that most tests share: they make roles of their own there.
fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        managed(&installation())
            .setting("log_statement", "all")
            // Each test has a connection, and they run side by side.
            .sql("postgres", "ALTER ROLE postern CONNECTION LIMIT 50")
            .start()
            .unwrap()
    })
}

fn management_role() -> config::Management {
    config::Management {
        user: "postern".to_owned(),
        password: Secret::new(PASSWORD.to_owned()),
        database: "postgres".to_owned(),
    }
}

fn superuser(cluster: &Cluster) -> config::Management {
    config::Management {
        user: cluster.superuser().to_owned(),
        password: Secret::new(cluster.password().to_owned()),
        database: "postgres".to_owned(),
    }
}

fn name() -> ServiceName {
    "orders".parse().unwrap()
}

fn node(cluster: &Cluster) -> Arc<Node> {
    Arc::new(Node {
        service: name(),
        address: cluster.address().to_string().parse().unwrap(),
        tls: NodeTls::Prefer,
        authorities: None,
        capacity: 25,
        pooling: crate::directory::Pooling::default(),
    })
}

fn service(kind: Kind, nodes: Vec<Arc<Node>>) -> Service {
    Service {
        name: name(),
        kind,
        plan: Arc::new(Plan {
            name: "startup-4".into(),
            max_connections: 25.try_into().unwrap(),
            nodes: 1,
            backup_retention_days: 0,
            multi_az: false,
        }),
        allowlist: Allowlist::new(Vec::new()),
        nodes,
        topology: Topology::nobody(Unavailable::Unreachable),
        tenures: Tenures::default(),
        suspended: None,
        paused: false,
    }
}

fn settings(role: config::Management) -> Settings {
    Settings {
        roles: [(name(), Arc::new(role))].into(),
        stores: HashMap::new(),
        timeouts: Timeouts {
            client_login: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            server_connect: Duration::from_secs(5),
            server_close: Duration::from_secs(1),
            session_wait: Duration::from_secs(1),
            failover_wait: Duration::ZERO,
            pause: Duration::from_secs(10),
            verifier_max_age: Duration::from_secs(5),
        },
    }
}

/// A management of one service, with the directory it publishes in.
struct Scene {
    management: Management,
    directory: Arc<Directory>,
}

impl Scene {
    fn new(service: Service, role: config::Management) -> Self {
        Self::with(service, settings(role))
    }

    fn with(service: Service, settings: Settings) -> Self {
        Self::remembering(service, settings, Reigns::default())
    }

    /// A service that clients use.
    fn remembering(service: Service, settings: Settings, reigns: Reigns) -> Self {
        let scene = Self::unused(service, settings, reigns);
        scene.watch().memory.needed(Instant::now());
        scene.watch().wake();
        scene
    }

    /// A service that never had a client.
    fn unused(service: Service, settings: Settings, reigns: Reigns) -> Self {
        let services = [(service.name.clone(), Arc::new(service))].into();
        let directory = Arc::new(Directory::new(Snapshot { services, ..Snapshot::default() }));
        let management = Management::start(
            Arc::clone(&directory),
            Roster::default(),
            Handle::current(),
            settings,
            reigns,
            Metrics::new(),
        );
        Self { management, directory }
    }

    fn watch(&self) -> Arc<ServiceWatch> {
        self.management.shared.watch(&name()).unwrap()
    }

    /// The shared server, looked after by the role that `node sql` makes.
    fn shared() -> Self {
        let service = service(Kind::PostgreSql, vec![node(shared())]);
        Self::new(service, management_role())
    }

    async fn lookup(&self, role: &str) -> Lookup {
        self.management.lookup(&name(), role).await.unwrap()
    }

    async fn refused(&self, role: &str) -> Option<NoVerifier> {
        match self.lookup(role).await {
            Lookup::Refused(reason) => Some(reason),
            Lookup::Verifier(_) | Lookup::Rotated { .. } => None,
        }
    }

    fn primary(&self) -> Result<Arc<Node>, Unavailable> {
        self.topology().primary
    }

    fn topology(&self) -> Topology {
        self.directory.service(&name()).unwrap().topology.clone()
    }
}

/// Waits for what a task is about to do.
async fn eventually(within: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

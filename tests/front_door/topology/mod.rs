//! Which node a service's clients get to, when the primary moves.
//!
//! Real servers with streaming replication; the store of the leader key is a
//! real etcd, and a real Patroni in the tests that `scripts/test-failover`
//! runs because they take long.

mod cut;
mod etcd;
mod follow;
mod local;
mod patroni;
mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::cluster::Cluster;
use postern::directory::{Node, Topology};
use postern::domain::refusal::Unavailable;

use super::stage::{Stage, Wanted, psql, stdout};

/// A Postern in front of these servers, by timeline or by a store.
fn stage(nodes: &[&Cluster], topology: &str) -> Stage {
    let addresses: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
    Stage::new(&Wanted {
        plan: "premium-4",
        server: Some(nodes[0]),
        node: Some(addresses.join("\", \"")),
        settings: &[("services", topology), ("timeouts", "failover_wait = \"20s\"")],
        ..Wanted::default()
    })
}

impl Stage {
    fn topology(&self) -> Topology {
        let directory = &self.postern().door().directory;
        directory.service(&"orders".parse().unwrap()).unwrap().topology.clone()
    }

    fn primary(&self) -> Result<Arc<Node>, Unavailable> {
        self.topology().primary
    }

    fn leads_to(&self, server: &Cluster) -> bool {
        self.primary().is_ok_and(|node| node.address.to_string() == server.address().to_string())
    }
}

/// Waits for something, and says how long it took.
#[track_caller]
fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// The port of the server that answers a client, over a login of its own.
fn server_port(stage: &Stage) -> String {
    let uri = stage.plain_uri("");
    stdout(&psql(&uri, "SHOW port"))
}

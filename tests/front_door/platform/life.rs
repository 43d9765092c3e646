//! From nothing to a service and back to nothing.

use std::process::Command;

use super::ControlPlane;
use super::control_plane::{exists, node, node_with};
use crate::stage::{eventually, psql, run, stdout};

#[test]
fn four_commands_from_nothing_to_vectors_and_a_closed_door() {
    let plane = ControlPlane::start();
    let said =
        plane.ok(&["service", "create", "orders", "--plan", "startup-4", "--provider", "local"]);
    assert!(said.contains("running") && said.contains("kept 2 days"), "{said}");
    plane.ok(&[
        "service",
        "create",
        "search",
        "--plan",
        "hobbyist",
        "--kind",
        "vector",
        "--provider",
        "local",
    ]);
    let uri = plane.ok(&["service", "uri", "orders"]);
    assert_eq!(
        stdout(&psql(&uri, "SELECT current_user || '@' || current_database()")),
        "admin@defaultdb"
    );
    let pooled = plane.ok(&["service", "uri", "search", "--pooled"]);
    let sql = "CREATE TABLE t (v vector(2)); INSERT INTO t VALUES ('[1,2]'), ('[3,4]')";
    stdout(&psql(&pooled, sql));
    let nearest = psql(&pooled, "SELECT v FROM t ORDER BY v <-> '[3,3]' LIMIT 1");
    assert_eq!(stdout(&nearest), "[3,4]");
    let list = plane.ok(&["service", "list"]);
    assert!(
        list.lines().any(|line| line.starts_with("search") && line.contains("vector")),
        "{list}"
    );
    let client = postgres_session(&uri);
    let dry = plane.ok(&["service", "update", "orders", "--allow", "10.0.0.0/8", "--dry-run"]);
    assert!(dry.starts_with("orders: 1 sessions would end"), "{dry}");
    assert!(!client.is_over());
    let done = plane.ok(&["service", "update", "orders", "--allow", "10.0.0.0/8"]);
    assert!(done.starts_with("orders: 1 sessions ended"), "{done}");
    eventually("the session to end", || client.is_over());
    let denied = psql(&uri, "SELECT 1");
    assert!(String::from_utf8_lossy(&denied.stderr).contains("no service accepts this connection"));
}

/// A psql that runs one long statement.
fn postgres_session(uri: &str) -> Session {
    let psql = postern::cluster::Installations::find().unwrap();
    let psql = psql.postgresql().unwrap().program("psql");
    let mut child = Command::new(psql);
    child.args(["-XAtq", uri, "-c", "SELECT pg_sleep(60)"]);
    let child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    let session = Session(std::cell::RefCell::new(child));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!session.is_over());
    session
}

struct Session(std::cell::RefCell<std::process::Child>);

impl Session {
    fn is_over(&self) -> bool {
        self.0.borrow_mut().try_wait().unwrap().is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.borrow_mut().kill();
        let _ = self.0.borrow_mut().wait();
    }
}

#[test]
fn a_local_service_survives_crashes_and_restarts_and_goes_without_a_trace() {
    let mut plane = ControlPlane::start();
    plane.ok(&["service", "create", "orders", "--plan", "hobbyist", "--provider", "local"]);
    let uri = plane.ok(&["service", "uri", "orders"]);
    stdout(&psql(&uri, "CREATE TABLE t AS SELECT 42 AS n"));
    let answers = |sql: &str| {
        let output = psql(&uri, sql);
        output.status.success().then(|| stdout(&output))
    };
    let pid_file = plane.path("local/orders/data/postmaster.pid");
    let postmaster = std::fs::read_to_string(&pid_file).unwrap();
    let pid = postmaster.lines().next().unwrap().to_owned();
    assert!(run(Command::new("kill").args(["-9", &pid])).status.success());
    eventually("the server to come back after its crash", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| !text.starts_with(&format!("{pid}\n")))
            && answers("SELECT n FROM t").as_deref() == Some("42")
    });
    plane.kill_9();
    plane.serve();
    eventually("the server to come back with Postern", || {
        answers("SELECT n FROM t").as_deref() == Some("42")
    });
    let off = plane.ok(&["service", "update", "orders", "--power", "off"]);
    assert!(off.contains("0 sessions ended"), "{off}");
    let refused = psql(&uri, "SELECT 1");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("The service is powered off."), "{said}");
    assert!(plane.ok(&["service", "show", "orders"]).contains("powered-off"));
    eventually("the server to stop", || !exists(&pid_file));
    plane.ok(&["service", "update", "orders", "--power", "on"]);
    eventually("the server to run again", || answers("SELECT n FROM t").is_some());
    plane.ok(&["service", "update", "orders", "--termination-protection", "on"]);
    assert!(plane.refused(&["service", "delete", "orders"]).contains("protected"));
    plane.ok(&["service", "update", "orders", "--termination-protection", "off"]);
    plane.ok(&["service", "delete", "orders"]);
    assert!(!exists(&plane.path("local/orders")));
    assert!(plane.refused(&["service", "show", "orders"]).contains("no service"));
    let events = plane.ok(&["service", "events", "orders"]);
    assert!(events.lines().nth(1).unwrap().contains("deleted"), "{events}");
    plane.stop();
}

#[test]
fn plans_with_standbys_are_refused_on_a_host_without_an_ha_manager_naming_its_packages() {
    let plane = ControlPlane::start_without_programs("/nonexistent");
    let why = plane.refused(&[
        "service",
        "create",
        "orders",
        "--plan",
        "business-4",
        "--provider",
        "local",
    ]);
    assert!(why.contains("there is no patroni"), "{why}");
    assert!(why.contains("patroni, python3-etcd, python3-dnspython and etcd-server"), "{why}");
    assert!(plane.refused(&["service", "show", "orders"]).contains("no service"));
}

#[test]
fn a_service_is_placed_on_a_free_node_that_suits() {
    let plane = ControlPlane::start();
    let nothing =
        plane.refused(&["service", "create", "orders", "--plan", "startup-4", "--cloud", "aws"]);
    assert!(
        nothing.contains("needs one free node in aws; of 0 nodes there, 0 could be used"),
        "{nothing}"
    );
    let (small, plain, vector) = (node_with("postgresql", 50), node("postgresql"), node("vector"));
    plane.add_node("small", &small);
    plane.add_node("plain", &plain);
    plane.add_node("vector", &vector);
    let said =
        plane.ok(&["service", "create", "search", "--kind", "vector", "--plan", "startup-4"]);
    assert!(said.contains(&vector.address().to_string()) || said.contains("running"), "{said}");
    plane.ok(&[
        "service",
        "create",
        "orders",
        "--plan",
        "startup-4",
        "--cloud",
        "aws",
        "--region",
        "eu-west-1",
    ]);
    let nodes = plane.ok(&["node", "list"]);
    let line = |id: &str| nodes.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
    assert!(line("plain").contains("used") && line("plain").contains("orders"), "{nodes}");
    assert!(line("small").contains("free"), "{nodes}");
    let none = plane.refused(&["service", "create", "third", "--plan", "startup-4"]);
    assert!(none.contains("small: max_connections is 50, plan \"startup-4\" needs 106"), "{none}");
    let uri = plane.ok(&["service", "uri", "search"]);
    let extension = psql(&uri, "SELECT extname FROM pg_extension WHERE extname = 'vector'");
    assert_eq!(stdout(&extension), "vector");
    let password = plane.ok(&["role", "create", "orders", "app"]);
    let uri = plane.ok(&["service", "uri", "orders"]);
    let admin = uri.split(['/', '@']).nth(2).unwrap();
    let as_app = uri.replace(admin, &format!("app:{password}"));
    assert_eq!(stdout(&psql(&as_app, "SELECT current_user")), "app");
    plane.ok(&["database", "create", "orders", "shop", "--owner", "app"]);
    assert!(plane.ok(&["database", "list", "orders"]).contains("shop"));
    plane.ok(&["service", "delete", "orders"]);
    assert!(plane.ok(&["node", "show", "plain"]).contains("dirty"));
    let dirty = plane.refused(&["node", "free", "plain"]);
    assert!(dirty.contains("defaultdb, shop"), "{dirty}");
    plain.psql("DROP DATABASE defaultdb").unwrap();
    plain.psql("DROP DATABASE shop").unwrap();
    assert!(plane.ok(&["node", "free", "plain"]).contains("free"));
    // What the former service left of its roles does not get in the way.
    plane.ok(&["service", "create", "orders", "--plan", "startup-4", "--node", "plain"]);
    let uri = plane.ok(&["service", "uri", "orders"]);
    assert_eq!(stdout(&psql(&uri, "SELECT 1")), "1");
}

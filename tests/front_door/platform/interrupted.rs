//! `kill -9` of Postern in the middle of everything that it makes on a node: a
//! lock there makes each step last. After the restart, what was begun is
//! finished, though the server may still be at work on what it was told before.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use postern::cluster::Cluster;
use serde_json::{Value, json};

use super::ControlPlane;
use super::control_plane::{Answer, node};
use crate::stage::{eventually, psql, stdout};

/// Of a request that is repeated.
const ONCE: &str = "Idempotency-Key: once";

/// A transaction that keeps others from a system catalogue. Dropped, it ends.
struct Held(Child);

impl Held {
    /// Nobody changes it. Returns when the lock is held, or waited for behind
    /// all others.
    fn lock(server: &Cluster, table: &str) -> Self {
        let shared = format!("relation = '{table}'::regclass AND mode = 'ShareLock'");
        let locks = format!("SELECT count(*) FROM pg_locks WHERE {shared}");
        Self::begin(server, table, "SHARE", || number(server, &locks))
    }

    /// Nobody finds a function in the database `postgres`, so that a look at
    /// the node lasts.
    fn hide_functions(server: &Cluster) -> Self {
        let hidden = "SELECT count(*) FROM pg_locks \
                      WHERE relation = 'pg_proc'::regclass AND mode = 'AccessExclusiveLock'";
        Self::begin(server, "pg_proc", "ACCESS EXCLUSIVE", || elsewhere(server, hidden))
    }

    fn begin(server: &Cluster, table: &str, mode: &str, locks: impl Fn() -> usize) -> Self {
        let before = locks();
        let mut command = server.client("psql", "postgres");
        command.args(["-Xq"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut process = command.spawn().unwrap();
        let sql = format!("BEGIN; LOCK TABLE pg_catalog.{table} IN {mode} MODE;\n");
        process.stdin.as_mut().unwrap().write_all(sql.as_bytes()).unwrap();
        eventually("the lock to be asked for", || locks() > before);
        Self(process)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn number(server: &Cluster, sql: &str) -> usize {
    server.psql(sql).unwrap().parse().unwrap()
}

/// Asked in another database than `postgres`; not while one is made, which
/// wants this one to itself.
fn elsewhere(server: &Cluster, sql: &str) -> usize {
    server.psql_in("template1", sql).unwrap().parse().unwrap()
}

/// How many statements of Postern's wait for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND application_name = 'postern'";

/// Whether a statement of Postern's waits for a lock.
fn waits(server: &Cluster) -> bool {
    number(server, WAITING) > 0
}

/// Whether a look at the node waits for functions to be shown again.
fn looks(server: &Cluster) -> bool {
    elsewhere(server, &format!("{WAITING} AND query LIKE '%pg_available_extensions%'")) > 0
}

/// Nothing of it is left that another service would find.
fn clean(server: &Cluster) {
    server.psql("DROP DATABASE IF EXISTS defaultdb WITH (FORCE)").unwrap();
    let roles = "SELECT quote_ident(rolname) FROM pg_roles \
                 WHERE rolname NOT LIKE 'pg\\_%' AND NOT rolsuper";
    for role in server.psql(roles).unwrap().lines() {
        server.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    }
}

/// The body of a request for a service.
fn orders(kind: &str) -> Value {
    json!({ "name": "orders", "plan": "hobbyist", "kind": kind })
}

/// A catalogue with a node.
struct World {
    plane: ControlPlane,
    server: Cluster,
}

impl World {
    fn start(kind: &str) -> Self {
        let (plane, server) = (ControlPlane::start(), node(kind));
        plane.add_node("db1", &server);
        Self { plane, server }
    }

    /// With a service that runs.
    fn running() -> Self {
        let world = Self::start("postgresql");
        world.create("postgresql");
        world.plane.wait_until_runs("orders");
        world
    }

    fn create(&self, kind: &str) {
        assert_eq!(self.plane.ask("POST", "/v1/services", Some(&orders(kind))).status, 201);
    }

    fn remove(&self) {
        self.plane.ok(&["service", "delete", "orders"]);
        clean(&self.server);
        self.plane.ok(&["node", "free", "db1"]);
    }

    /// A crash and a restart, while the server is at work on what it was told.
    fn crash(&mut self) {
        self.plane.kill_9();
        self.plane.serve();
        std::thread::sleep(Duration::from_millis(300));
    }

    fn assert_finished(&self, kind: &str) {
        self.plane.wait_until_runs("orders");
        let uri = self.plane.ok(&["service", "uri", "orders"]);
        let extensions = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'";
        let expected = if kind == "vector" { "1" } else { "0" };
        eventually("the service to answer", || psql(&uri, "SELECT 1").status.success());
        assert_eq!(stdout(&psql(&uri, extensions)), expected);
        let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'defaultdb'";
        assert_eq!(stdout(&psql(&uri, owner)), "admin");
    }

    /// A role is asked for, always with the same key.
    fn make_role(&self, name: &str) -> Answer {
        let bearer = format!("Authorization: Bearer {}", self.plane.token);
        let body = json!({ "name": name }).to_string();
        self.plane.ask_with("POST", "/v1/services/orders/roles", &[&bearer, ONCE], Some(&body))
    }

    fn roles(&self) -> Vec<Value> {
        let roles = self.plane.ask("GET", "/v1/services/orders/roles", None).json();
        roles["items"].as_array().unwrap().clone()
    }

    /// The password that is shown of the role `app`.
    fn password(&self) -> Option<String> {
        let roles = self.roles();
        let app = roles.iter().find(|role| role["name"] == "app")?;
        Some(app["password"].as_str().unwrap().to_owned())
    }

    fn is_on_the_node(&self) -> bool {
        number(&self.server, "SELECT count(*) FROM pg_roles WHERE rolname = 'app'") > 0
    }

    /// Whether the role is shown, is there, and has the password that is shown.
    fn works(&self) -> bool {
        let Some(password) = self.password() else { return false };
        let uri = self.plane.ok(&["service", "uri", "orders"]);
        let admin = uri.split(['/', '@']).nth(2).unwrap().to_owned();
        psql(&uri.replace(&admin, &format!("app:{password}")), "SELECT 1").status.success()
    }

    /// A request that is held up at the node by a lock on this catalogue, and a
    /// crash then; it goes on after the restart.
    fn crash_in(&mut self, table: &str, method: &str, path: &str, body: Option<&Value>) {
        let held = Held::lock(&self.server, table);
        let bearer = format!("Authorization: Bearer {}", self.plane.token);
        let lines = [bearer.as_str(), ONCE];
        let body = body.map(Value::to_string);
        let mut asked = self.plane.send(method, path, &lines, body.as_deref());
        eventually("the server to be told", || waits(&self.server));
        self.plane.kill_9();
        // The server has not done it either.
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE wait_event_type = 'Lock' AND application_name = 'postern'";
        self.server.psql(ended).unwrap();
        let mut answer = String::new();
        let _ = asked.read_to_string(&mut answer);
        assert_eq!(answer, "", "nothing was acknowledged");
        self.plane.serve();
        self.plane.wait_until_runs("orders");
        drop(held);
    }

    fn audited(&self, action: &str) -> bool {
        !self.audit(action).is_empty()
    }

    /// What the audit log tells of an action, newest first.
    fn audit(&self, action: &str) -> Vec<Value> {
        let lines = self.plane.ask("GET", "/v1/audit?limit=100", None).json();
        let lines = lines["items"].as_array().unwrap().iter();
        lines.filter(|line| line["action"] == action).map(|line| line["detail"].clone()).collect()
    }
}

/// Nothing was acknowledged, so nothing is there.
#[test]
fn a_crash_in_the_look_before_the_answer_leaves_nothing() {
    let mut world = World::start("postgresql");
    let held = Held::hide_functions(&world.server);
    let bearer = format!("Authorization: Bearer {}", world.plane.token);
    let body = orders("postgresql").to_string();
    let lines = [bearer.as_str(), ONCE];
    let mut asked = world.plane.send("POST", "/v1/services", &lines, Some(&body));
    eventually("the node to be looked at", || looks(&world.server));
    world.crash();
    let mut answer = String::new();
    let _ = asked.read_to_string(&mut answer);
    assert_eq!(answer, "", "nothing was acknowledged");
    assert_eq!(world.plane.ask("GET", "/v1/services/orders", None).status, 404);
    drop(held);
    let again = world.plane.ask_with("POST", "/v1/services", &lines, Some(&body));
    assert_eq!(again.status, 201, "{again:?}");
    world.assert_finished("postgresql");
}

/// The look that is a step of its own comes right after the answer: Postern is
/// killed then, and most often has not got beyond it.
#[test]
fn a_crash_in_the_look_at_a_node_is_made_good() {
    let mut world = World::start("postgresql");
    for _ in 0..20 {
        world.create("postgresql");
        world.plane.kill_9();
        let held = Held::hide_functions(&world.server);
        world.plane.serve();
        eventually("a statement to wait", || elsewhere(&world.server, WAITING) > 0);
        let looks = looks(&world.server);
        if looks {
            world.crash();
        }
        drop(held);
        world.assert_finished("postgresql");
        if looks {
            return;
        }
        world.remove();
    }
    panic!("it never looked at the node after a restart");
}

/// Each statement that changes roles is waited for once, by a crash in it.
#[test]
fn a_crash_in_any_statement_that_makes_roles_is_made_good() {
    let mut world = World::start("postgresql");
    let mut crashes = 0;
    loop {
        let mut held = Held::lock(&world.server, "pg_authid");
        world.create("postgresql");
        let runs = |world: &World| {
            world.plane.ask("GET", "/v1/services/orders", None).json()["state"] == "running"
        };
        for _ in 0..crashes {
            eventually("a statement to wait", || waits(&world.server));
            // It comes next, and whatever follows waits anew.
            let next = Held::lock(&world.server, "pg_authid");
            drop(held);
            held = next;
        }
        let mut waited = false;
        eventually("a statement to wait, or none to be left", || {
            waited = waits(&world.server);
            waited || runs(&world)
        });
        if waited {
            world.crash();
        }
        drop(held);
        world.assert_finished("postgresql");
        if !waited {
            break;
        }
        world.remove();
        crashes += 1;
    }
    assert!(crashes >= 3, "only {crashes} statements made roles");
}

#[test]
fn a_crash_in_the_making_of_a_database_is_made_good() {
    let mut world = World::start("postgresql");
    let held = Held::lock(&world.server, "pg_database");
    world.create("postgresql");
    eventually("a statement to wait", || waits(&world.server));
    world.crash();
    drop(held);
    world.assert_finished("postgresql");
}

#[test]
fn a_crash_in_the_making_of_an_extension_is_made_good() {
    let mut world = World::start("vector");
    // What is in template1 comes into every database that is made.
    let slow = "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql \
                AS 'BEGIN PERFORM pg_sleep(3); END'; \
                CREATE EVENT TRIGGER slow ON ddl_command_start \
                WHEN TAG IN ('CREATE EXTENSION') EXECUTE FUNCTION slow()";
    world.server.psql_in("template1", slow).unwrap();
    world.create("vector");
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("the extension to be made", || number(&world.server, sleeps) > 0);
    world.crash();
    world.assert_finished("vector");
}

#[test]
fn a_crash_in_the_making_of_a_role_leaves_it_made() {
    let mut world = World::running();
    let body = json!({ "name": "app" });
    world.crash_in("pg_authid", "POST", "/v1/services/orders/roles", Some(&body));
    eventually("the role to work", || world.works());
    assert!(world.audited("role.create"));
    // Whoever heard nothing asks again.
    let again = world.make_role("app");
    assert_eq!(
        (again.status, again.json()["password"].as_str()),
        (201, world.password().as_deref())
    );
}

#[test]
fn a_crash_in_the_dropping_of_a_role_leaves_it_dropped() {
    let mut world = World::running();
    world.plane.ok(&["role", "create", "orders", "app"]);
    world.crash_in("pg_authid", "DELETE", "/v1/services/orders/roles/app", None);
    eventually("the role to be gone", || world.password().is_none() && !world.is_on_the_node());
    assert!(world.audited("role.delete"));
}

#[test]
fn a_crash_in_the_change_of_a_password_leaves_the_one_that_is_shown() {
    let mut world = World::running();
    world.plane.ok(&["role", "create", "orders", "app"]);
    for grace in [0, 600] {
        let before = world.password();
        let body = json!({ "grace": grace });
        let path = "/v1/services/orders/roles/app/rotate";
        world.crash_in("pg_authid", "POST", path, Some(&body));
        eventually("the password to work", || world.works());
        assert_ne!(world.password(), before, "the new one is finished");
    }
}

#[test]
fn a_crash_in_the_making_or_dropping_of_a_database_is_in_the_audit_log() {
    let mut world = World::running();
    let body = json!({ "name": "carts" });
    world.crash_in("pg_database", "POST", "/v1/services/orders/databases", Some(&body));
    assert!(world.audited("database.create"));
    let created = world.plane.ask("POST", "/v1/services/orders/databases", Some(&body));
    assert_eq!(created.status, 201, "it was cleanly absent: {created:?}");
    let path = "/v1/services/orders/databases/carts";
    world.crash_in("pg_database", "DELETE", path, None);
    assert!(world.audited("database.delete"));
    assert_eq!(world.plane.ask("DELETE", path, None).status, 204);
}

/// A role that PostgreSQL will not have is none here either.
#[test]
fn a_role_that_could_not_be_made_is_not_shown() {
    let world = World::running();
    for _ in 0..2 {
        let answer = world.make_role("public");
        let problem = answer.problem(409);
        assert!(problem["detail"].as_str().unwrap().contains("42939"), "{problem}");
    }
    let audit = world.audit("role.create");
    let failed: Vec<_> = audit.iter().map(|detail| detail["failed"].is_string()).collect();
    assert_eq!(failed, [true, false, true, false], "{audit:?}");
    let names: Vec<_> = world.roles().iter().map(|role| role["name"].clone()).collect();
    assert_eq!(names, ["admin"]);
}

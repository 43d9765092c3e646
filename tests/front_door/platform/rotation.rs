//! A role's password is replaced with a grace time: both work, and nobody
//! notices (decision 19).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postern::cluster::Cluster;
use serde_json::json;

use super::ControlPlane;
use super::control_plane::node;
use super::live::{connect, runtime};
use crate::stage::{certificates, eventually, psql};

/// A service with the role `app`, and the role's first password.
struct Rotated {
    plane: ControlPlane,
    server: Cluster,
    first: String,
}

impl Rotated {
    fn start() -> Self {
        let certificates = certificates().display();
        let tls = format!(
            "[tls]\ncertificate = \"{certificates}/server.crt\"\nkey = \"{certificates}/server.key\""
        );
        let (plane, server) = (ControlPlane::start_with(&tls), node("postgresql"));
        plane.add_node("db1", &server);
        plane.ok(&["service", "create", "orders", "--plan", "startup-4"]);
        let first = plane.ok(&["role", "create", "orders", "app"]);
        Self { plane, server, first }
    }

    fn rotate(&self, grace: &str) -> String {
        self.plane.ok(&["role", "rotate", "orders", "app", "--grace", grace])
    }

    /// The URI of an endpoint for this password.
    fn uri(&self, pooled: bool, password: &str) -> String {
        let pooled: &[&str] = if pooled { &["--pooled"] } else { &[] };
        let uri = self.plane.ok(&[&["service", "uri", "orders"], pooled].concat());
        let admin = uri.split(['/', '@']).nth(2).unwrap().to_owned();
        uri.replace(&admin, &format!("app:{password}"))
    }

    /// The same without TLS, for `tokio-postgres`.
    fn plain_uri(&self, pooled: bool, password: &str) -> String {
        self.uri(pooled, password).replace("sslmode=require", "sslmode=disable")
    }

    /// On both endpoints, with and without channel binding.
    fn answers(&self, password: &str) -> [bool; 4] {
        let ways = [(false, "disable"), (false, "require"), (true, "disable"), (true, "require")];
        ways.map(|(pooled, binding)| {
            let uri = format!("{}&channel_binding={binding}", self.uri(pooled, password));
            psql(&uri, "SELECT 1").status.success()
        })
    }

    fn works(&self, password: &str) -> bool {
        self.answers(password) == [true; 4]
    }

    fn is_refused(&self, password: &str) -> bool {
        self.answers(password) == [false; 4]
    }

    /// What the API shows of the role.
    fn shown(&self) -> serde_json::Value {
        let roles = self.plane.ask("GET", "/v1/services/orders/roles", None).json();
        let roles = roles["items"].as_array().unwrap().clone();
        roles.into_iter().find(|role| role["name"] == "app").unwrap()
    }

    fn refused_on_the_server(&self) -> usize {
        self.server.log().unwrap().matches("password authentication failed").count()
    }
}

#[test]
fn both_passwords_work_until_the_grace_time_is_over() {
    let rotated = Rotated::start();
    assert_eq!(rotated.shown()["previous_password_until"], json!(null));
    let since = Instant::now();
    let second = rotated.rotate("15s");
    assert!(rotated.shown()["previous_password_until"].is_string());
    assert!(rotated.works(&rotated.first) && rotated.works(&second));
    assert!(since.elapsed() < Duration::from_secs(14), "too slow to be of use");
    assert!(rotated.is_refused("another"));
    eventually("the old password to be refused", || rotated.is_refused(&rotated.first));
    assert!(since.elapsed() >= Duration::from_secs(15));
    assert!(rotated.works(&second));
    assert_eq!(rotated.shown()["previous_password_until"], json!(null));
    assert_eq!(rotated.refused_on_the_server(), 0, "no guess was passed on");
    for secret in [&rotated.first, &second, "SCRAM-SHA-256$"] {
        assert!(!rotated.plane.log().contains(secret));
    }
}

#[test]
fn only_the_newest_password_before_works_and_no_grace_time_ends_it() {
    let rotated = Rotated::start();
    let second = rotated.rotate("10m");
    let third = rotated.rotate("10m");
    assert!(rotated.works(&second) && rotated.works(&third));
    eventually("the first password to be refused", || rotated.is_refused(&rotated.first));
    let fourth = rotated.rotate("0s");
    assert!(rotated.works(&fourth));
    for old in [&second, &third] {
        eventually("an old password to be refused", || rotated.is_refused(old));
    }
    assert_eq!(rotated.shown()["previous_password_until"], json!(null));
}

#[test]
fn a_password_set_in_sql_ends_the_grace_time() {
    let rotated = Rotated::start();
    let second = rotated.rotate("10m");
    assert!(rotated.works(&rotated.first));
    rotated.server.psql("ALTER ROLE app PASSWORD 'by hand'").unwrap();
    eventually("the password that was set to work", || rotated.works("by%20hand"));
    for old in [&rotated.first, &second] {
        eventually("the others to be refused", || rotated.is_refused(old));
    }
    let fifth = rotated.rotate("10m");
    assert!(rotated.works("by%20hand") && rotated.works(&fifth));
    rotated.server.psql("ALTER ROLE app NOLOGIN").unwrap();
    eventually("nobody to get in", || {
        rotated.is_refused("by%20hand") && rotated.is_refused(&fifth)
    });
}

#[test]
fn a_dropped_role_is_refused_at_once_and_one_made_anew_has_one_password() {
    let rotated = Rotated::start();
    let second = rotated.rotate("10m");
    assert!(rotated.works(&rotated.first) && rotated.works(&second));
    rotated.plane.ok(&["role", "delete", "orders", "app"]);
    assert!(rotated.is_refused(&rotated.first) && rotated.is_refused(&second));
    assert_eq!(rotated.refused_on_the_server(), 0, "nobody gets past what was known before");
    let third = rotated.plane.ok(&["role", "create", "orders", "app"]);
    assert!(rotated.works(&third));
    assert!(rotated.is_refused(&rotated.first) && rotated.is_refused(&second));
}

#[test]
fn a_pooled_client_goes_on_with_its_password_for_the_grace_time() {
    let rotated = Rotated::start();
    let spares = ["service", "update", "orders", "--pooling", "min_pool_size=2"];
    rotated.plane.ok(&spares);
    let runtime = runtime();
    let pid = |client: &tokio_postgres::Client| {
        let row = runtime.block_on(client.query_one("SELECT pg_backend_pid()", &[]));
        row.map(|row| row.get::<_, i32>(0))
    };
    let client = runtime.block_on(connect(&rotated.plain_uri(true, &rotated.first))).unwrap();
    let open = || {
        let pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'app'";
        let pids = rotated.server.psql(pids).unwrap();
        pids.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    };
    // One more, if the client's login and the spares were opened at one time.
    eventually("a spare connection", || open().len() >= 2);
    let before = open();
    let since = Instant::now();
    let second = rotated.rotate("15s");
    // Longer than it takes for a changed password to close the role's pools.
    while since.elapsed() < Duration::from_secs(5) {
        assert!(before.contains(&pid(&client).unwrap()));
        std::thread::sleep(Duration::from_millis(100));
    }
    // The next ones, the spare one too, are opened with the new password's keys.
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    rotated.server.psql(all).unwrap();
    let is_new = |pid: &i32| !before.contains(pid);
    eventually("other connections", || open().iter().filter(|pid| is_new(pid)).count() >= 2);
    eventually("the client to go on", || pid(&client).is_ok_and(|pid| is_new(&pid)));
    assert_eq!(rotated.refused_on_the_server(), 0);
    let late = runtime.block_on(connect(&rotated.plain_uri(true, &rotated.first))).unwrap();
    let newer = runtime.block_on(connect(&rotated.plain_uri(true, &second))).unwrap();
    assert!(since.elapsed() < Duration::from_secs(14), "too slow to be of use");
    eventually("both clients of the old password to be refused", || {
        let refused =
            |client| pid(client).is_err_and(|error| error.code().is_some() || error.is_closed());
        refused(&client) && refused(&late)
    });
    assert!(since.elapsed() >= Duration::from_secs(15));
    assert!(pid(&newer).is_ok());
}

#[test]
fn logins_never_fail_while_passwords_are_replaced() {
    let rotated = Rotated::start();
    let runtime = runtime();
    let password = Arc::new(Mutex::new(rotated.first.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let uris = [false, true].map(|pooled| rotated.plain_uri(pooled, "PASSWORD"));
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (uri, stop) = (uris[number % 2].clone(), Arc::clone(&stop));
            let password = Arc::clone(&password);
            runtime.spawn(async move {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let uri = uri.replace("PASSWORD", &password.lock().unwrap());
                    let client = connect(&uri).await?;
                    client.simple_query("SELECT 1").await?;
                    done += 1;
                }
                Ok::<_, tokio_postgres::Error>(done)
            })
        })
        .collect();
    for _ in 0..10 {
        let next = rotated.rotate("10m");
        // Whoever has just read the old one may still come with it.
        *password.lock().unwrap() = next;
        std::thread::sleep(Duration::from_millis(300));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(runtime.block_on(client).unwrap().unwrap() > 0);
    }
}

#[test]
fn a_grace_time_outlives_a_crash_and_a_crash_leaves_a_password_that_works() {
    let mut rotated = Rotated::start();
    let second = rotated.rotate("10m");
    rotated.plane.kill_9();
    rotated.plane.serve();
    eventually("both to work", || rotated.works(&rotated.first) && rotated.works(&second));
    let files = ["catalog.db", "catalog.db-wal"].map(|name| {
        let bytes = std::fs::read(rotated.plane.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    for secret in [&second[..], &rotated.first, "SCRAM-SHA-256$"] {
        assert!(!files.concat().contains(secret), "nothing secret is on disk but sealed");
    }
    let mut known = second;
    for delay in [0, 5, 10, 15, 20, 30, 45, 70] {
        let path = "/v1/services/orders/roles/app/rotate";
        let mut command =
            rotated.plane.command(&["role", "rotate", "orders", "app", "--grace", "10m"]);
        let mut rotate = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        rotated.plane.kill_9();
        rotate.wait().unwrap();
        rotated.plane.serve();
        eventually("the service to answer", || rotated.works(&known));
        let answer = rotated.plane.ask("POST", path, Some(&json!({ "grace": 600 })));
        assert_eq!(answer.status, 200, "{answer:?}");
        known = answer.json()["password"].as_str().unwrap().to_owned();
        assert!(rotated.works(&known));
    }
}

#[test]
fn a_grace_time_is_whole_seconds_up_to_a_week() {
    let rotated = Rotated::start();
    let path = "/v1/services/orders/roles/app/rotate";
    for grace in [json!(604_801), json!(-1), json!("10m"), json!(null), json!(1.5)] {
        let body = json!({ "grace": grace });
        rotated.plane.ask("POST", path, Some(&body)).problem(422);
    }
    rotated.plane.ask("POST", path, Some(&json!({ "grase": 1 }))).problem(422);
    rotated.plane.ask("POST", path, Some(&json!([60]))).problem(422);
    let bearer = format!("Authorization: Bearer {}", rotated.plane.token);
    let untyped = "Content-Type: text/plain";
    rotated.plane.ask_with("POST", path, &[&bearer, untyped], Some("{}")).problem(415);
    rotated.plane.ask_with("POST", path, &[&bearer], Some("{")).problem(400);
    assert!(rotated.works(&rotated.first), "nothing was changed");
    let longest = rotated.plane.ask("POST", path, Some(&json!({ "grace": 604_800 })));
    assert_eq!(longest.status, 200, "{longest:?}");
    assert_eq!(rotated.plane.ask("POST", path, Some(&json!(null))).status, 200);
    let none = rotated.plane.ask("POST", path, None).json();
    assert_eq!(none["previous_password_until"], json!(null));
    assert!(rotated.works(none["password"].as_str().unwrap()));
    for wrong in ["-1s", "1500ms", "soon"] {
        let output = rotated.plane.run(&["role", "rotate", "orders", "app", "--grace", wrong]);
        assert_eq!(output.status.code(), Some(2), "a mistake in the command line");
    }
    assert!(
        rotated
            .plane
            .refused(&["role", "rotate", "orders", "app", "--grace", "8days"])
            .contains("604800")
    );
    let document = rotated.plane.ask_with("GET", "/openapi.json", &[], None).json();
    let operation = &document["paths"]["/v1/services/{name}/roles/{role}/rotate"]["post"];
    assert!(operation["requestBody"]["content"]["application/json"].is_object(), "{operation}");
    assert_ne!(operation["requestBody"]["required"], json!(true));
}

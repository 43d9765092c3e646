//! Reload, drain, health, metrics, and what the log does not say.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::raw::Raw;
use super::stage::{POSTERN, Stage, eventually, http_get_status, psql, run, stdout};

#[test]
fn a_tightened_allowlist_ends_what_it_no_longer_permits() {
    let stage = Stage::usual();
    let (mut v4, _) = Raw::log_in(&stage, &[]).unwrap();
    let mut v6 = Raw::connect_to("::1", stage.session_port);
    v6.startup(super::raw::V3_0, &[("user", &format!("{}.orders", stage.role))]);
    assert_eq!(v6.authenticate(super::stage::PASSWORD).kind, b'R');
    v6.read_until(b'Z');
    v4.query("SELECT pg_sleep(60)");
    stage.edit_configuration(|text| text.replace("[\"0.0.0.0/0\", \"::/0\"]", "[\"::1\"]"));
    let started = Instant::now();
    stage.block_on(stage.postern().reload()).unwrap();
    let ended = v4.read();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(ended.sqlstate(), "57P01");
    assert!(ended.field(b'D').unwrap().contains("allowlist no longer permits"));
    v6.query("SELECT 1");
    v6.read_until(b'Z');
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "28000");
}

/// The list may change between the look at it and the client's seat, where a
/// reload would find it.
#[test]
fn a_login_under_way_that_the_allowlist_no_longer_permits_gets_nowhere() {
    let stage = Stage::usual();
    // Those who come later need no server connection for their login.
    let _first = Raw::enter(&stage, stage.transaction_port, &[]).unwrap();
    let user = format!("{}.orders", stage.role);
    let admitted = [stage.session_port, stage.transaction_port].map(|port| {
        let mut raw = Raw::connect(port);
        raw.startup(super::raw::V3_0, &[("user", &user), ("database", &stage.role)]);
        assert_eq!(raw.socket().peek(&mut [0]).unwrap(), 1, "it is asked for its password");
        raw
    });
    stage.edit_configuration(|text| text.replace("[\"0.0.0.0/0\", \"::/0\"]", "[\"::1\"]"));
    stage.block_on(stage.postern().reload()).unwrap();
    for mut raw in admitted {
        assert_eq!(raw.authenticate(super::stage::PASSWORD).sqlstate(), "28000");
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let stage = Stage::usual();
    stage.edit_configuration(|text| {
        text.replace("plan = \"startup-4\"", "plan = \"gold\"")
            .replace("\"0.0.0.0/0\"", "\"10.0.0.0/99\"")
    });
    let problems = stage.block_on(stage.postern().reload()).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("services[0].plan")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("services[0].allowlist[0]")), "{problems:?}");
    assert!(Raw::log_in(&stage, &[]).is_ok());
}

#[test]
fn a_smaller_plan_admits_nobody_until_the_count_is_below_it() {
    let stage = Stage::usual();
    let mut sessions: Vec<_> = (0..30).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    stage.edit_configuration(|text| text.replace("startup-4", "hobbyist"));
    stage.block_on(stage.postern().reload()).unwrap();
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "53300");
    sessions.truncate(24);
    eventually("the count to be below the plan", || Raw::log_in(&stage, &[]).is_ok());
}

#[test]
fn a_removed_service_ends_its_sessions_and_is_unknown() {
    let stage = Stage::usual();
    let (mut raw, _) = Raw::log_in(&stage, &[]).unwrap();
    stage.edit_configuration(|text| text.replace("name = \"orders\"", "name = \"renamed\""));
    stage.block_on(stage.postern().reload()).unwrap();
    assert_eq!(raw.read().sqlstate(), "57P01");
    let mut gone = Raw::connect(stage.session_port);
    gone.startup(super::raw::V3_0, &[("user", "bob"), ("options", "service=orders")]);
    assert_eq!(gone.read().sqlstate(), "28000");
}

#[test]
fn a_drain_sends_idle_clients_away_and_lets_busy_ones_finish() {
    let stage = Stage::usual();
    let (mut idle, _) = Raw::log_in(&stage, &[]).unwrap();
    let (mut busy, _) = Raw::log_in(&stage, &[]).unwrap();
    let (mut in_block, _) = Raw::log_in(&stage, &[]).unwrap();
    in_block.query("BEGIN");
    in_block.read_until(b'Z');
    busy.query("SELECT pg_sleep(1), 'done'");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(http_get_status(stage.metrics_port, "/readyz").0, 200);
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| stage.block_on(stage.postern().drain()));
        let told = idle.read();
        assert_eq!(told.sqlstate(), "57P01");
        let (status, why) = http_get_status(stage.metrics_port, "/readyz");
        assert_eq!(status, 503, "{why}");
        assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "57P03");
        let messages = busy.read_until(b'Z');
        assert!(messages.iter().any(|m| m.kind == b'D' && m.body.ends_with(b"done")));
        assert_eq!(busy.read().sqlstate(), "57P01");
        in_block.query("COMMIT");
        assert_eq!(in_block.read_until(b'Z')[0].kind, b'C');
        assert_eq!(in_block.read().sqlstate(), "57P01");
        draining.join().unwrap();
    });
}

#[test]
fn the_drain_timeout_ends_those_who_do_not_finish() {
    let stage = Stage::with(&[("timeouts", "drain_timeout = \"500ms\"")]);
    let (mut busy, _) = Raw::log_in(&stage, &[]).unwrap();
    busy.query("SELECT pg_sleep(60)");
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    stage.block_on(stage.postern().drain());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(busy.read().sqlstate(), "57P01");
}

#[test]
fn the_command_line_speaks_to_a_running_postern() {
    let stage = Stage::usual();
    let (_session, _) = Raw::log_in(&stage, &[]).unwrap();
    let socket = stage.directory.path().join("admin.sock");
    let ask = |arguments: &[&str]| {
        run(Command::new(POSTERN).args(arguments).arg("--socket").arg(&socket))
    };
    let status = stdout(&ask(&["status"]));
    assert!(status.contains("orders") && status.contains("startup-4"), "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&ask(&["status", "--json"]))).unwrap();
    assert_eq!(json["services"][0]["name"], "orders");
    assert!(stdout(&ask(&["reload"])).contains("reloaded"));
    let health = |port: u16| {
        let address = format!("127.0.0.1:{port}");
        run(Command::new(POSTERN).args(["health", "--metrics", &address]))
    };
    assert!(health(stage.metrics_port).status.success());
    let nobody = run(Command::new(POSTERN).args(["status", "--socket", "/nowhere/admin.sock"]));
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("/nowhere/admin.sock"));
}

/// `postern serve` as a process: signals, log lines, exit status.
#[test]
fn serve_obeys_signals_and_logs_one_line_for_each_session() {
    let stage = Stage::usual();
    let mut serve = stage.serve();
    let session = serve.session_port;
    let uri = stage.uri("").replace(&stage.session_port.to_string(), &session.to_string());
    eventually("postern to serve", || psql(&uri, "SELECT 1").status.success());
    let wrong = uri.replace(super::stage::PASSWORD, "wrong-secret");
    assert!(!psql(&wrong, "SELECT 1").status.success());
    std::fs::write(&serve.config, "nonsense").unwrap();
    serve.signal(Signal::HUP);
    eventually("the bad file to be reported", || {
        serve.log().contains("configuration not reloaded")
    });
    assert_eq!(stdout(&psql(&uri, "SELECT 2")), "2");
    serve.signal(Signal::TERM);
    assert!(serve.process.wait().unwrap().success());
    let log = serve.log();
    assert_eq!(log.matches("session ended").count(), 2, "{log}");
    for secret in [
        super::stage::PASSWORD,
        "wrong-secret",
        super::stage::MANAGEMENT_PASSWORD,
        "SCRAM-SHA-256$",
    ] {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }
    assert!(log.contains("the password is wrong"), "{log}");
}

#[test]
fn check_reports_every_problem_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("postern.toml");
    let text = "[listen]\nsesion = []\n[tls]\nmode = \"maybe\"\n[[services]]\nname = \"-\"\n";
    std::fs::write(&config, text).unwrap();
    let out = run(Command::new(POSTERN).args(["check", "--config"]).arg(&config));
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    for key in ["listen.sesion", "tls.mode", "services[0].name"] {
        assert!(said.contains(key), "{key} in {said}");
    }
}

#[test]
fn metrics_count_sessions_refusals_and_bytes() {
    let stage = Stage::usual();
    let (mut raw, _) = Raw::log_in(&stage, &[]).unwrap();
    raw.query("SELECT repeat('x', 100000)");
    raw.read_until(b'Z');
    let mut wrong = Raw::connect(stage.session_port);
    wrong.startup(super::raw::V3_0, &[("user", "nobody.orders")]);
    wrong.authenticate("x");
    let metric = |name: &str| stage.metric(name);
    assert_eq!(
        metric("postern_clients{endpoint=\"session\",service=\"orders\",state=\"idle\"}"),
        1
    );
    assert_eq!(metric("postern_refusals_total{reason=\"password\",service=\"\"}"), 1);
    assert!(metric("postern_sent_bytes_total{service=\"orders\"}") > 100_000);
    assert_eq!(metric("postern_sessions_total{endpoint=\"session\",service=\"orders\"}"), 1);
    assert_eq!(metric("postern_login_duration_seconds_count{endpoint=\"session\"}"), 1);
}

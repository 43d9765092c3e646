//! `kill -9` of Postern in the middle of whatever it does: after the restart a
//! service is finished or cleanly absent, and nothing acknowledged is lost.

use std::time::Duration;

use serde_json::json;

use super::ControlPlane;
use super::control_plane::{exists, node};
use crate::stage::{eventually, psql, stdout};

/// Kills after so many milliseconds, over the whole of a creation.
const DELAYS: [u64; 8] = [0, 15, 40, 80, 140, 250, 500, 900];

#[test]
fn a_service_whose_making_was_cut_off_is_finished_after_the_restart() {
    let (mut plane, server) = (ControlPlane::start(), node("vector"));
    plane.add_node("db1", &server);
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let name = format!("s{round}");
        let body = json!({ "name": name, "plan": "hobbyist", "kind": "vector" });
        let created = plane.ask("POST", "/v1/services", Some(&body));
        assert_eq!(created.status, 201, "{created:?}");
        let password = created.json()["connection"]["password"].clone();
        std::thread::sleep(Duration::from_millis(delay / 4));
        plane.kill_9();
        plane.serve();
        plane.wait_until_runs(&name);
        let uri = plane.ok(&["service", "uri", &name]);
        assert!(uri.contains(password.as_str().unwrap()), "the acknowledged password stays");
        let extension = psql(&uri, "SELECT extname FROM pg_extension WHERE extname = 'vector'");
        assert_eq!(stdout(&extension), "vector");
        let path = format!("/v1/services/{name}");
        assert_eq!(plane.ask("DELETE", &path, None).status, 202);
        std::thread::sleep(Duration::from_millis(delay / 20));
        plane.kill_9();
        plane.serve();
        eventually("the service to be gone", || plane.ask("GET", &path, None).status == 404);
        server.psql("DROP DATABASE defaultdb WITH (FORCE)").unwrap();
        plane.ok(&["node", "free", "db1"]);
    }
}

#[test]
fn a_local_server_whose_making_was_cut_off_is_made_anew() {
    let mut plane = ControlPlane::start();
    for (round, delay) in DELAYS.into_iter().enumerate() {
        let name = format!("s{round}");
        let body = json!({ "name": name, "plan": "hobbyist", "provider": "local" });
        assert_eq!(plane.ask("POST", "/v1/services", Some(&body)).status, 201);
        std::thread::sleep(Duration::from_millis(delay));
        plane.kill_9();
        plane.serve();
        plane.wait_until_runs(&name);
        let uri = plane.ok(&["service", "uri", &name]);
        eventually("the service to answer", || psql(&uri, "SELECT 1").status.success());
        plane.ok(&["service", "delete", &name]);
        assert!(!exists(&plane.path(&format!("local/{name}"))));
    }
}

#[test]
fn a_write_that_was_acknowledged_is_there_after_a_crash() {
    let mut plane = ControlPlane::start();
    let mut tokens = Vec::new();
    for round in 0..5 {
        for number in 0..=round {
            let body = json!({ "description": format!("{round}-{number}"), "scope": "read" });
            let made = plane.ask("POST", "/v1/tokens", Some(&body));
            assert_eq!(made.status, 201);
            tokens.push(made.json()["token"].as_str().unwrap().to_owned());
        }
        plane.kill_9();
        plane.serve();
    }
    for token in tokens {
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(plane.ask_with("GET", "/v1/plans", &[&bearer], None).status, 200);
    }
}

#[test]
fn a_wrong_key_and_a_damaged_catalogue_start_nothing() {
    let mut plane = ControlPlane::start();
    plane.kill_9();
    let config = plane.path("postern.toml");
    let start = |plane: &ControlPlane| {
        let output = plane.run(&["serve", "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let key = std::fs::read(plane.path("catalog.key")).unwrap();
    std::fs::write(plane.path("catalog.key"), "no key\n").unwrap();
    let why = start(&plane);
    assert!(why.contains("catalog.key_file") && why.contains("expected a key a line"), "{why}");
    let other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";
    std::fs::write(plane.path("catalog.key"), other).unwrap();
    let why = start(&plane);
    assert!(why.contains("is not the key of the catalogue"), "{why}");
    std::fs::write(plane.path("catalog.key"), key).unwrap();
    plane.serve();
    // Told to stop before it listens to signals, it would end by one.
    plane.kill_9();
    // What is only in the write-ahead log would stand in for the damaged page.
    std::fs::remove_file(plane.path("catalog.db-wal")).unwrap();
    let mut bytes = std::fs::read(plane.path("catalog.db")).unwrap();
    bytes[..100].fill(0);
    std::fs::write(plane.path("catalog.db"), &bytes).unwrap();
    let why = start(&plane);
    assert!(why.contains("catalog.path") && why.contains("damaged"), "{why}");
    assert_eq!(std::fs::read(plane.path("catalog.db")).unwrap(), bytes);
}

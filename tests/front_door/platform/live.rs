//! A change acts on live traffic.

use std::time::{Duration, Instant};

use serde_json::json;

use super::ControlPlane;
use super::control_plane::node;
use crate::stage::{psql, stdout};

/// Connects as the admin role of a service.
pub async fn connect(uri: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(uri, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn placed(plan: &str) -> (ControlPlane, postern::cluster::Cluster, String) {
    let (plane, server) = (ControlPlane::start(), node("postgresql"));
    plane.add_node("db1", &server);
    plane.ok(&["service", "create", "orders", "--plan", plan]);
    let uri = plane.ok(&["service", "uri", "orders"]);
    (plane, server, uri)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_tightened_allowlist_ends_sessions_within_100_ms_of_the_answer() {
    let (plane, _server, uri) = placed("startup-4");
    let runtime = runtime();
    let client = runtime.block_on(connect(&uri)).unwrap();
    let sleeping = runtime.spawn(async move { client.simple_query("SELECT pg_sleep(60)").await });
    while plane.ask("GET", "/v1/services/orders/connections", None).json()["items"][0]["activity"]
        != "active"
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let change = json!({ "allowlist": ["10.0.0.0/8"] });
    let answer = plane.ask("PATCH", "/v1/services/orders", Some(&change));
    let answered = Instant::now();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["sessions_ended"].as_array().unwrap().len(), 1);
    let ended = runtime.block_on(sleeping).unwrap().unwrap_err();
    let took = answered.elapsed();
    assert_eq!(ended.code().unwrap().code(), "57P01");
    assert!(took < Duration::from_millis(100), "{took:?} after the answer");
    assert!(runtime.block_on(connect(&uri)).is_err());
}

#[test]
fn e07_a_bad_block_is_refused_and_the_old_list_stays() {
    let (plane, _server, uri) = placed("hobbyist");
    for bad in ["10.0.0.0/33", "everyone", "10.0.0.1/8/8", ""] {
        let change = json!({ "allowlist": ["10.0.0.0/8", bad] });
        let problem = plane.ask("PATCH", "/v1/services/orders", Some(&change)).problem(422);
        assert_eq!(problem["errors"][0]["pointer"], "/allowlist/1", "{problem}");
    }
    let service = plane.ask("GET", "/v1/services/orders", None).json();
    assert_eq!(service["allowlist"], json!(["0.0.0.0/0", "::/0"]));
    assert_eq!(stdout(&psql(&uri, "SELECT 1")), "1");
    let nobody = plane.ask("PATCH", "/v1/services/orders", Some(&json!({ "allowlist": [] })));
    assert_eq!(nobody.status, 200);
    assert!(!psql(&uri, "SELECT 1").status.success());
}

#[test]
fn e05_changes_and_reloads_under_load_are_no_error_for_anybody() {
    let (plane, _server, uri) = placed("startup-4");
    let runtime = runtime();
    let pooled = plane.ok(&["service", "uri", "orders", "--pooled"]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (uri, stop) =
                (if number % 2 == 0 { uri.clone() } else { pooled.clone() }, stop.clone());
            runtime.spawn(async move {
                let mut done = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let client = connect(&uri).await?;
                    for _ in 0..20 {
                        client.simple_query("SELECT 1").await?;
                        done += 1;
                    }
                }
                Ok::<_, tokio_postgres::Error>(done)
            })
        })
        .collect();
    for number in 0..100 {
        let allowlist = ["0.0.0.0/0".to_owned(), "::/0".to_owned(), format!("10.0.0.{number}/32")];
        let change = json!({ "display_name": format!("Orders {number}"), "allowlist": allowlist });
        assert_eq!(plane.ask("PATCH", "/v1/services/orders", Some(&change)).status, 200);
        if number % 10 == 0 {
            plane.ok(&["reload"]);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        let done = runtime.block_on(client).unwrap();
        assert!(done.unwrap() > 0);
    }
}

#[test]
fn e06_a_change_of_nothing_closes_nothing_and_a_new_size_counts() {
    let (plane, server, uri) = placed("startup-4");
    let runtime = runtime();
    let pooled = plane.ok(&["service", "uri", "orders", "--pooled"]);
    let pid = |client: &tokio_postgres::Client| {
        let row = runtime.block_on(client.query_one("SELECT pg_backend_pid()", &[])).unwrap();
        row.get::<_, i32>(0)
    };
    let client = runtime.block_on(connect(&pooled)).unwrap();
    let before = pid(&client);
    plane.ok(&["service", "update", "orders"]);
    plane.ok(&["service", "update", "orders", "--display-name", "Orders"]);
    plane.ok(&["reload"]);
    assert_eq!(pid(&client), before);
    plane.ok(&["service", "update", "orders", "--plan", "hobbyist"]);
    let sessions: Vec<_> = (0..25).map_while(|_| runtime.block_on(connect(&uri)).ok()).collect();
    assert_eq!(sessions.len(), 25);
    let full = runtime.block_on(connect(&uri)).unwrap_err();
    assert_eq!(full.code().unwrap().code(), "53300");
    let too_large = plane.refused(&["service", "update", "orders", "--plan", "business-4"]);
    assert!(too_large.contains("has 2 nodes"), "{too_large}");
    drop(server);
}

#[test]
fn a_setting_of_the_pools_acts_on_live_traffic_and_the_others_stay() {
    let (plane, _server, uri) = placed("hobbyist");
    let settings = ["--pooling", "pool_size=2", "--pooling", "query_timeout=1s"];
    plane.ok(&[&["service", "update", "orders"], &settings[..]].concat());
    let change = json!({ "pooling": { "refuse_state": ["listen"] } });
    assert_eq!(plane.ask("PATCH", "/v1/services/orders", Some(&change)).status, 200);
    let shown = plane.ok(&["service", "show", "orders"]);
    let expected = "pool_size=2, query_timeout=1, refuse_state=[\"listen\"]";
    assert!(shown.contains(expected), "{shown}");
    let slow = psql(&uri, "SELECT pg_sleep(30)");
    let error = String::from_utf8_lossy(&slow.stderr).into_owned();
    assert!(!slow.status.success() && error.contains("timeout"), "{error}");
    let pooled = plane.ok(&["service", "uri", "orders", "--pooled"]);
    assert!(!psql(&pooled, "LISTEN a").status.success());
    for wrong in ["pool_sise=2", "query_timeout=1500ms", "refuse_state=nothing"] {
        let update = plane.run(&["service", "update", "orders", "--pooling", wrong]);
        assert_eq!(update.status.code(), Some(2), "a mistake in the command line");
    }
    let change = json!({ "pooling": { "audit_every": 1_000_001 } });
    let problem = plane.ask("PATCH", "/v1/services/orders", Some(&change)).problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/pooling/audit_every");
}

#[test]
fn a_paused_service_holds_what_is_new_until_it_is_resumed() {
    let (plane, _server, uri) = placed("hobbyist");
    let runtime = runtime();
    plane.ok(&["service", "pause", "orders"]);
    let waiting = {
        let uri = uri.clone();
        runtime.spawn(async move { connect(&uri).await.map(drop) })
    };
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    plane.ok(&["service", "resume", "orders"]);
    runtime.block_on(waiting).unwrap().unwrap();
}

#[test]
fn every_refusal_can_be_looked_up() {
    let (plane, _server, uri) = placed("hobbyist");
    let runtime = runtime();
    let sessions: Vec<_> = (0..25).map(|_| runtime.block_on(connect(&uri)).unwrap()).collect();
    let full = runtime.block_on(connect(&uri)).err().unwrap();
    let detail = full.as_db_error().unwrap().detail().unwrap().to_owned();
    let id = detail.rsplit(' ').next().unwrap().trim_end_matches('.');
    let why = plane.ok(&["why", id]);
    for part in ["127.0.0.1", "orders", "admin", "53300", "25 of 25 connections used"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    drop(sessions);
    let admin = uri.split(['/', '@']).nth(2).unwrap().to_owned();
    assert!(!psql(&uri.replace(&admin, "admin:wrong"), "SELECT 1").status.success());
    plane.ok(&["service", "update", "orders", "--allow", "10.0.0.0/8"]);
    assert!(!psql(&uri, "SELECT 1").status.success());
    assert!(!psql(&uri.replace("orders", "carts"), "SELECT 1").status.success());
    let reasons = |arguments: &[&str]| {
        let list = plane.ok(&[&["why", "--json"], arguments].concat());
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The operator sees what nobody outside can tell apart.
    let of_orders = ["not_permitted", "password", "plan_full"];
    assert_eq!(reasons(&["--service", "orders"]), of_orders);
    let all = reasons(&["--address", "127.0.0.1"]);
    assert_eq!(all, [&["not_permitted"], &of_orders[..]].concat());
    assert!(reasons(&["--address", "10.0.0.1"]).is_empty());
    assert!(plane.refused(&["why", "aaaaaaaa"]).contains("refusal"));
    let page = plane.ask("GET", "/v1/refusals?limit=1", None).json();
    let next = format!("/v1/refusals?after={}", page["next"].as_str().unwrap());
    assert_eq!(plane.ask("GET", &next, None).json()["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_pause_is_one_whoever_ordered_it_and_lasts_until_it_is_resumed() {
    let (mut plane, _server, uri) = placed("hobbyist");
    let paused = |plane: &ControlPlane| {
        plane.ask("GET", "/v1/services/orders", None).json()["paused"].as_bool().unwrap()
    };
    plane.ok(&["pause", "orders"]);
    assert!(paused(&plane));
    plane.ok(&["service", "update", "orders", "--display-name", "Orders"]);
    plane.ok(&["reload"]);
    assert!(paused(&plane), "a change and a reload resume nothing");
    plane.kill_9();
    plane.serve();
    assert!(paused(&plane), "nor does a restart");
    let runtime = runtime();
    let waiting = runtime.spawn(async move { connect(&uri).await.map(drop) });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "{:?}", runtime.block_on(waiting));
    plane.ok(&["service", "resume", "orders"]);
    runtime.block_on(waiting).unwrap().unwrap();
    plane.ok(&["service", "pause", "orders"]);
    plane.ok(&["resume", "orders"]);
    assert!(!paused(&plane));
    let events = plane.ok(&["service", "events", "orders"]);
    let kinds = events.lines().filter_map(|line| line.split_whitespace().nth(1));
    let kinds: Vec<_> = kinds.filter(|kind| kind.ends_with("ed") && *kind != "changed").collect();
    assert_eq!(kinds, ["resumed", "paused", "resumed", "paused"], "{events}");
}

#[test]
fn a_service_of_the_file_and_of_the_catalogue_are_never_the_same() {
    let (mut plane, server, _uri) = placed("hobbyist");
    let config = plane.path("postern.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    crate::stage::write_private(&plane.path("p"), "x");
    let service = format!(
        "[[services]]\nname = \"orders\"\nplan = \"hobbyist\"\nnodes = [\"{}\"]\n\
         management = {{ user = \"postern\", password_file = \"p\" }}\n",
        server.address()
    );
    std::fs::write(&config, format!("{text}{service}")).unwrap();
    let why = plane.refused(&["reload"]);
    assert!(
        why.contains("services[0].name: the catalogue has a service \"orders\" already"),
        "{why}"
    );
    plane.kill_9();
    let start = plane.run(&["serve", "--config", config.to_str().unwrap()]);
    assert!(!start.status.success());
    let other = service.replace("\"orders\"", "\"carts\"");
    std::fs::write(&config, format!("{text}{other}")).unwrap();
    plane.serve();
    let list = plane.ok(&["service", "list"]);
    assert!(list.contains("carts") && list.contains("orders"), "{list}");
    assert!(
        plane.refused(&["service", "create", "carts", "--plan", "hobbyist"]).contains("already")
    );
    assert!(plane.refused(&["service", "delete", "carts"]).contains("configuration file"));
}

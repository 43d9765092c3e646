//! What a service allows its clients to take their time for, on both
//! endpoints, and how many of them it takes.

use std::time::{Duration, Instant};

use super::pooled_client::{ask, kinds, narrow, pooled, run, session, value};
use super::raw::Raw;
use super::stage::{Stage, eventually, server};

/// A stage with one pooled connection and these settings of its service.
fn with(settings: &[&str]) -> Stage {
    let settings: Vec<_> = settings.iter().map(|line| ("services", *line)).collect();
    let settings = [&[("services", "pool_size = 1")], &settings[..]].concat();
    Stage::with(&settings)
}

/// A client of each endpoint, one after the other.
fn both(stage: &Stage) -> impl Iterator<Item = Raw> {
    [session, pooled].into_iter().map(move |log_in: fn(&Stage) -> Raw| log_in(stage))
}

fn nothing_is_left(stage: &Stage) {
    eventually("every slot to be free or idle", || {
        let counts = stage.postern().door().slots.counts();
        counts.iter().all(|node| node.counts.used() == node.counts.idle)
    });
    assert_eq!(ask(&mut pooled(stage), "SELECT 'free'"), "free");
}

#[test]
fn c09_a_query_timeout_ends_queries_and_no_idle_client() {
    let stage = with(&["query_timeout = \"1s\""]);
    for mut raw in both(&stage) {
        assert_eq!(ask(&mut raw, "SELECT pg_sleep(0.5), 1"), "");
        std::thread::sleep(Duration::from_millis(1_600));
        assert_eq!(ask(&mut raw, "SELECT 'still here'"), "still here");
        run(&mut raw, "BEGIN");
        std::thread::sleep(Duration::from_millis(1_600));
        run(&mut raw, "COMMIT");
        let started = Instant::now();
        raw.query("SELECT pg_sleep(60)");
        assert_eq!(raw.last_words().sqlstate(), "57014");
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    }
    nothing_is_left(&stage);
}

#[test]
fn c09_a_pipeline_of_short_queries_may_take_longer_than_one() {
    let stage = with(&["query_timeout = \"1s\""]);
    for mut raw in both(&stage) {
        for _ in 0..8 {
            raw.query("SELECT pg_sleep(0.3)");
        }
        for _ in 0..8 {
            assert_eq!(kinds(&raw.read_until(b'Z')), "TDCZ");
        }
    }
}

#[test]
fn c10_an_idle_transaction_is_ended_and_its_connection_is_free() {
    let stage = with(&["idle_transaction_timeout = \"1s\"", "client_idle_timeout = \"0\""]);
    for mut raw in both(&stage) {
        std::thread::sleep(Duration::from_millis(1_600));
        run(&mut raw, "BEGIN");
        assert_eq!(ask(&mut raw, "SELECT pg_sleep(1.6), 1"), "");
        assert_eq!(raw.last_words().sqlstate(), "25P03");
    }
    nothing_is_left(&stage);
}

#[test]
fn c10_a_transaction_is_timed_as_a_whole() {
    let stage = with(&["transaction_timeout = \"1s\""]);
    for mut raw in both(&stage) {
        for _ in 0..20 {
            assert_eq!(ask(&mut raw, "SELECT pg_sleep(0.1), 1"), "");
        }
        run(&mut raw, "BEGIN");
        let ended = (0..100).find_map(|_| {
            raw.query("SELECT pg_sleep(0.1)");
            loop {
                let message = raw.read();
                match message.kind {
                    b'E' => return Some(message),
                    b'Z' => return None,
                    _ => {}
                }
            }
        });
        assert_eq!(ended.expect("an end").sqlstate(), "25P04");
    }
    nothing_is_left(&stage);
}

#[test]
fn c09_an_idle_client_is_ended_and_a_waiting_one_is_not() {
    let stage = with(&["client_idle_timeout = \"1s\""]);
    for mut raw in both(&stage) {
        let started = Instant::now();
        assert_eq!(ask(&mut raw, "SELECT pg_sleep(1.6), 1"), "");
        assert_eq!(raw.last_words().sqlstate(), "57P05");
        assert!(started.elapsed() >= Duration::from_millis(2_500), "{:?}", started.elapsed());
    }
    let (mut holder, mut waiter) = (pooled(&stage), pooled(&stage));
    run(&mut holder, "BEGIN");
    waiter.query("SELECT 'waited'");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        run(&mut holder, "SELECT 1");
    }
    run(&mut holder, "COMMIT");
    assert_eq!(value(&waiter.read_until(b'Z')), "waited");
}

#[test]
fn c20_a_client_that_does_not_read_is_closed_and_its_connection_is_free() {
    let stage = with(&["client_write_timeout = \"1s\""]);
    let row = "SELECT repeat('x', 200 * 1000 * 1000)";
    for mut raw in both(&stage) {
        raw.query(row);
        eventually("the client to be gone", || stage.postern().door().roster.is_empty());
        nothing_is_left(&stage);
        drop(raw);
        eventually("the other to be gone", || stage.postern().door().roster.is_empty());
    }
    let door = stage.postern().door();
    let told = door.metrics.refusals(Some(&"orders".parse().unwrap()), "client_write_timeout");
    assert_eq!(told, 2);
    // Whoever reads slowly, but reads, goes on.
    let mut slow = pooled(&stage);
    slow.query("SELECT repeat('x', 3 * 1000 * 1000)");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(kinds(&slow.read_until(b'Z')), "TDCZ");
}

#[test]
fn c12_no_timeout_is_on_that_nobody_switched_on() {
    let stage = narrow();
    for mut raw in both(&stage) {
        run(&mut raw, "BEGIN");
        std::thread::sleep(Duration::from_millis(1_500));
        assert_eq!(ask(&mut raw, "SELECT pg_sleep(1.5), 1"), "");
        run(&mut raw, "COMMIT");
    }
    let settings = stage.settings();
    let pooling = settings.services[0].pooling;
    assert_eq!(pooling.clients, postern::directory::ClientLimits::default());
}

#[test]
fn replication_is_a_stream_that_no_limit_ends() {
    let stage = with(&["query_timeout = \"1s\"", "client_idle_timeout = \"1s\""]);
    server().psql(&format!("ALTER ROLE {} REPLICATION", stage.role)).unwrap();
    let (mut raw, _) = Raw::log_in(&stage, &[("replication", "true")]).unwrap();
    raw.query("IDENTIFY_SYSTEM");
    assert_eq!(kinds(&raw.read_until(b'Z')), "TDCZ");
    std::thread::sleep(Duration::from_millis(1_800));
    raw.query("IDENTIFY_SYSTEM");
    assert_eq!(kinds(&raw.read_until(b'Z')), "TDCZ");
}

#[test]
fn whoever_waits_long_is_told_so() {
    let stage = with(&["query_wait_notify = \"300ms\""]);
    let (mut holder, mut waiter) = (pooled(&stage), pooled(&stage));
    run(&mut holder, "BEGIN");
    waiter.query("SELECT 'waited'");
    assert_eq!(waiter.read().kind, b'N');
    let waiting = "postern_clients{endpoint=\"transaction\",service=\"orders\",state=\"waiting\"}";
    assert_eq!(stage.metric(waiting), 1);
    run(&mut holder, "COMMIT");
    assert_eq!(value(&waiter.read_until(b'Z')), "waited");
    assert_eq!(
        kinds(&{
            waiter.query("SELECT 1");
            waiter.read_until(b'Z')
        }),
        "TDCZ"
    );
}

#[test]
fn only_so_many_clients_may_share_the_pools() {
    let stage = with(&["max_pooled_clients = 2"]);
    let two = [pooled(&stage), pooled(&stage)];
    let mut third = Raw::connect(stage.transaction_port);
    let user = format!("{}.orders", stage.role);
    third.startup(super::raw::V3_0, &[("user", &user), ("database", &stage.role)]);
    let error = third.authenticate(super::stage::PASSWORD);
    assert_eq!(error.sqlstate(), "53300");
    assert!(error.field(b'D').unwrap().contains("takes 2 clients"));
    let _session = Raw::log_in(&stage, &[]).unwrap();
    drop(two);
    eventually("a place to be free", || {
        stage.postern().door().roster.pooled(&"orders".parse().unwrap()) == 0
    });
    let _two = [pooled(&stage), pooled(&stage)];
}

//! Cancel requests reach the query of whoever was given the key, or nothing.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::raw::{Message, Raw, SSL_REQUEST, V3_0, V3_2};
use super::stage::{PASSWORD, Stage, Wanted, eventually};

fn cancel_packet(process_id: u32, key: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(12 + key.len()).unwrap().to_be_bytes().to_vec();
    packet.extend(((1234_u32 << 16) + 5678).to_be_bytes());
    packet.extend(process_id.to_be_bytes());
    packet.extend(key);
    packet
}

fn key_of(messages: &[Message]) -> (u32, Vec<u8>) {
    let body = &messages.iter().find(|m| m.kind == b'K').unwrap().body;
    (u32::from_be_bytes(body[..4].try_into().unwrap()), body[4..].to_vec())
}

/// Starts a long query and gives the server a moment to begin it.
fn sleeping(raw: &mut Raw) {
    raw.query("SELECT pg_sleep(30)");
    std::thread::sleep(Duration::from_millis(300));
}

fn is_cancelled(raw: &mut Raw) -> bool {
    raw.socket().set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    let error = std::iter::from_fn(|| raw.try_read().ok()).find(|m| m.kind == b'E');
    raw.socket().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    error.is_some_and(|error| error.sqlstate() == "57014")
}

/// Sends a request and waits until Postern closes, as libpq does.
fn request(stage: &Stage, packet: &[u8]) {
    let mut raw = Raw::connect(stage.session_port);
    raw.send(packet);
    assert!(raw.read_rest().is_empty());
}

#[test]
fn b07_keys_of_both_lengths_cancel_plain_and_under_tls() {
    let stage = Stage::usual();
    for version in [V3_0, V3_2] {
        for way in ["plain", "tls", "direct"] {
            let mut raw = Raw::connect(stage.session_port);
            raw.startup(version, &[("user", &format!("{}.orders", stage.role))]);
            assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
            let (process_id, key) = key_of(&raw.read_until(b'Z'));
            sleeping(&mut raw);
            let connection = Raw::connect(stage.session_port);
            let mut connection = match way {
                "tls" => connection.request_tls("localhost"),
                "direct" => connection.start_tls("localhost", &[b"postgresql"]).unwrap(),
                _ => connection,
            };
            let started = Instant::now();
            connection.send(&cancel_packet(process_id, &key));
            connection.read_rest();
            assert!(is_cancelled(&mut raw), "{version:x} {way}");
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }
}

#[test]
fn b07_other_lengths_and_wrong_keys_cancel_nothing() {
    let stage = Stage::usual();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    let mut flipped = key.clone();
    flipped[3] ^= 1;
    for wrong in [&key[..3], &[&key[..], b"x"].concat(), &flipped, &[0; 256]] {
        request(&stage, &cancel_packet(process_id, wrong));
    }
    request(&stage, &cancel_packet(process_id + 1, &key));
    assert!(!is_cancelled(&mut raw));
}

#[test]
fn wrong_keys_are_slowed_down_by_address() {
    let stage = Stage::usual();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    for _ in 0..12 {
        request(&stage, &cancel_packet(process_id, b"nope"));
    }
    assert!(stage.metric("postern_cancels_total{outcome=\"limited\"}") >= 1);
    request(&stage, &cancel_packet(process_id, &key));
    assert!(!is_cancelled(&mut raw), "whoever guessed is not heard for a while");
}

#[test]
fn a15_a_right_key_from_a_denied_address_cancels_nothing_and_is_counted() {
    let stage = Stage::usual();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    let mut from_v6 = Raw::connect_to("::1", stage.session_port);
    stage.edit_configuration(|text| text.replace("[\"0.0.0.0/0\", \"::/0\"]", "[\"127.0.0.1\"]"));
    stage.block_on(stage.postern().reload()).unwrap();
    from_v6.send(&cancel_packet(process_id, &key));
    from_v6.read_rest();
    assert!(!is_cancelled(&mut raw));
    assert_eq!(stage.metric("postern_cancels_total{outcome=\"not_permitted\"}"), 1);
    request(&stage, &cancel_packet(process_id, &key));
    assert!(is_cancelled(&mut raw));
}

#[test]
fn b01_a_key_is_worthless_after_its_session() {
    let stage = Stage::usual();
    let (raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    drop(raw);
    eventually("the key to be forgotten", || stage.postern().door().cancel_keys.is_empty());
    request(&stage, &cancel_packet(process_id, &key));
    assert_eq!(stage.metric("postern_cancels_total{outcome=\"unknown_key\"}"), 1);
}

#[test]
fn b01_a_cancel_racing_the_end_of_a_query_reaches_no_other() {
    let stage = Stage::usual();
    let mut others: Vec<_> = (0..4).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    let packet = cancel_packet(process_id, &key);
    for round in 0..300 {
        for other in &mut others {
            other.query("SELECT pg_sleep(0.002)");
        }
        raw.query("SELECT 1");
        let mut cancelling = Raw::connect(stage.session_port);
        cancelling.send(&packet);
        raw.read_until(b'Z');
        cancelling.read_rest();
        for other in &mut others {
            let messages = other.read_until(b'Z');
            assert!(messages.iter().all(|m| m.kind != b'E'), "round {round}");
        }
    }
}

#[test]
fn b02_the_request_is_kept_open_until_the_server_has_been_told() {
    let stage = Stage::usual();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    request(&stage, &cancel_packet(process_id, &key));
    // PostgreSQL has closed the forwarded request, so the signal is sent.
    let started = Instant::now();
    assert!(is_cancelled(&mut raw));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn b03_a_cancel_needs_no_slot() {
    let stage = Stage::new(&Wanted { plan: "hobbyist", ..Wanted::default() });
    let mut all: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap()).collect();
    let (process_id, key) = key_of(&all[0].1);
    sleeping(&mut all[0].0);
    let started = Instant::now();
    request(&stage, &cancel_packet(process_id, &key));
    assert!(is_cancelled(&mut all[0].0));
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// A node that answers nothing: connections are taken and never spoken to.
fn silent_node() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn b04_a_storm_of_cancels_is_bounded() {
    let (_listener, node) = silent_node();
    let stage = Stage::new(&Wanted {
        node: Some(node),
        settings: &[("limits", "max_unauthenticated = 50")],
        ..Wanted::default()
    });
    let storm: Vec<_> = (0..200)
        .map(|n| {
            let mut raw = Raw::connect(stage.session_port);
            let _ = raw.try_send(&cancel_packet(n, b"none"));
            raw
        })
        .collect();
    for mut raw in storm {
        raw.read_rest();
    }
    eventually("the storm to be over", || stage.metric("postern_unauthenticated_connections") == 0);
}

#[test]
fn b05_a_cancel_during_login_finds_nothing_to_cancel() {
    let stage = Stage::usual();
    for round in 0..50u32 {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
        let mut cancelling = Raw::connect(stage.session_port);
        cancelling.send(&cancel_packet(round, b"none"));
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
        raw.read_until(b'Z');
    }
}

#[test]
fn b06_cancel_and_close_at_once_on_both_sides() {
    let stage = Stage::usual();
    for _ in 0..30 {
        let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
        let (process_id, key) = key_of(&messages);
        raw.query("SELECT pg_sleep(30)");
        let mut cancelling = Raw::connect(stage.session_port);
        cancelling.send(&cancel_packet(process_id, &key));
        drop(cancelling);
        drop(raw);
    }
    eventually("everything to be given back", || {
        let counts = stage.postern().door().slots.counts();
        stage.postern().door().roster.is_empty()
            && counts.iter().all(|node| node.counts.used() == 0)
    });
}

#[test]
fn a_cancel_request_after_sslrequest_needs_no_tls() {
    let stage = Stage::usual();
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    let connection = Raw::connect(stage.session_port);
    let mut connection = {
        let mut connection = connection;
        connection.send(&SSL_REQUEST);
        assert_eq!(connection.read_byte().unwrap(), b'S');
        connection.start_tls("localhost", &[]).unwrap()
    };
    connection.send(&cancel_packet(process_id, &key));
    let mut rest = Vec::new();
    let _ = connection.socket().try_clone().unwrap().read_to_end(&mut rest);
    assert!(is_cancelled(&mut raw));
}

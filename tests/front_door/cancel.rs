//! Cancel requests reach the query of whoever was given the key, or nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::raw::{Message, Raw, SSL_REQUEST, V3_0, V3_2};
use super::stage::{PASSWORD, Stage, Wanted, eventually, server};

const CANCEL_REQUEST: u32 = (1234 << 16) + 5678;

pub fn cancel_packet(process_id: u32, key: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(12 + key.len()).unwrap().to_be_bytes().to_vec();
    packet.extend(CANCEL_REQUEST.to_be_bytes());
    packet.extend(process_id.to_be_bytes());
    packet.extend(key);
    packet
}

pub fn key_of(messages: &[Message]) -> (u32, Vec<u8>) {
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
pub fn request(stage: &Stage, packet: &[u8]) {
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

/// A way to the shared server on which cancel requests wait until they are let
/// through.
struct Detour {
    address: String,
    cancels: Arc<HeldUp>,
}

#[derive(Default)]
struct HeldUp {
    now: AtomicUsize,
    most: AtomicUsize,
    may_pass: AtomicBool,
}

impl Detour {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cancels = Arc::new(HeldUp::default());
        let shared = Arc::clone(&cancels);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let cancels = Arc::clone(&shared);
                std::thread::spawn(move || carry(&client.unwrap(), &cancels));
            }
        });
        Self { address, cancels }
    }

    /// A Postern whose node is at the end of it.
    fn stage(&self, limits: &str) -> Stage {
        Stage::new(&Wanted {
            node: Some(self.address.clone()),
            settings: &[("services", "node_tls = \"disable\""), ("limits", limits)],
            ..Wanted::default()
        })
    }

    fn held_up(&self) -> usize {
        self.cancels.now.load(Ordering::SeqCst)
    }

    fn let_through(&self) {
        self.cancels.may_pass.store(true, Ordering::SeqCst);
    }
}

/// Carries one connection's bytes, both ways.
fn carry(client: &TcpStream, cancels: &HeldUp) {
    let mut first = vec![0; 8];
    if (&*client).read_exact(&mut first).is_err() {
        return;
    }
    if first[4..] == CANCEL_REQUEST.to_be_bytes() {
        let length = u32::from_be_bytes(first[..4].try_into().unwrap());
        first.resize(length as usize, 0);
        (&*client).read_exact(&mut first[8..]).unwrap();
        if !cancels.hold_up(client) {
            return;
        }
    }
    let server = TcpStream::connect(("127.0.0.1", server().port())).unwrap();
    let _ = (&server).write_all(&first);
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(client, &server));
        copy(&server, client);
    });
}

impl HeldUp {
    /// Whether the request may pass in the end; otherwise its sender has gone.
    fn hold_up(&self, client: &TcpStream) -> bool {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        client.set_nonblocking(true).unwrap();
        let says_nothing = |mut client: &TcpStream| {
            client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        let mut here = true;
        while here && !self.may_pass.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            here = says_nothing(client);
        }
        client.set_nonblocking(false).unwrap();
        self.now.fetch_sub(1, Ordering::SeqCst);
        here
    }
}

#[test]
fn b02_the_request_is_kept_open_until_the_server_has_been_told() {
    let detour = Detour::new();
    let stage = detour.stage("");
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    let mut request = Raw::connect(stage.session_port);
    request.send(&cancel_packet(process_id, &key));
    eventually("the request to be on its way", || detour.held_up() == 1);
    request.socket().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let still_open = request.read_byte().unwrap_err();
    assert_eq!(still_open.kind(), ErrorKind::WouldBlock);
    detour.let_through();
    assert!(request.read_rest().is_empty());
    // PostgreSQL has closed the forwarded request, so the signal is sent.
    let started = Instant::now();
    assert!(is_cancelled(&mut raw));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn b02_a_connection_that_is_being_cancelled_goes_to_nobody_else() {
    let detour = Detour::new();
    let stage = detour.stage("");
    let pooled = || {
        let mut raw = Raw::connect(stage.transaction_port);
        raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
        let (process_id, key) = key_of(&raw.read_until(b'Z'));
        (raw, cancel_packet(process_id, &key))
    };
    let ((mut first, packet), (mut next, _)) = (pooled(), pooled());
    first.query("SELECT pg_sleep(1)");
    std::thread::sleep(Duration::from_millis(200));
    let mut request = Raw::connect(stage.session_port);
    request.send(&packet);
    eventually("the request to be on its way", || detour.held_up() == 1);
    let messages = first.read_until(b'Z');
    assert!(messages.iter().all(|message| message.kind != b'E'), "it was not cancelled");
    next.query("SELECT pg_sleep(1)");
    std::thread::sleep(Duration::from_millis(200));
    detour.let_through();
    let messages = next.read_until(b'Z');
    assert!(messages.iter().all(|message| message.kind != b'E'), "{messages:?}");
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

/// Requests with a right key, for a node that does not take them.
#[test]
fn b04_a_storm_of_cancels_is_bounded() {
    let detour = Detour::new();
    let stage = detour.stage("max_unauthenticated = 20");
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    let (process_id, key) = key_of(&messages);
    sleeping(&mut raw);
    let packet = cancel_packet(process_id, &key);
    let _storm: Vec<_> = (0..60)
        .map(|_| {
            let mut request = Raw::connect(stage.session_port);
            let _ = request.try_send(&packet);
            std::thread::sleep(Duration::from_millis(10));
            request
        })
        .collect();
    eventually("the node to have its share", || detour.held_up() == 20);
    eventually("Postern to give up", || {
        stage.metric("postern_unauthenticated_connections") == 0 && detour.held_up() == 0
    });
    assert_eq!(detour.cancels.most.load(Ordering::SeqCst), 20);
    raw.socket().shutdown(Shutdown::Both).unwrap();
}

#[test]
fn b05_a_cancel_during_login_finds_nothing_to_cancel() {
    let stage = Stage::usual();
    let mut during = Raw::connect(stage.session_port);
    during.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    assert_eq!(during.read().kind, b'R');
    assert!(stage.postern().door().cancel_keys.is_empty(), "a key before the login is over");
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

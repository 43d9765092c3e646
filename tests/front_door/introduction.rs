//! Everything before the password: startup packets, versions, requests for
//! encryption, PROXY headers. What PostgreSQL answers is the measure.

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::raw::{GSSENC_REQUEST, Message, Raw, SSL_REQUEST, V3_0, V3_2, message, startup_packet};
use super::stage::{PASSWORD, Stage, Wanted, eventually, psql, server, stdout};

/// The whole answer to bytes sent at the start of a connection.
fn answer_to(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut raw = Raw::connect(port);
    raw.send(bytes);
    let _ = raw.socket().shutdown(std::net::Shutdown::Write);
    raw.read_rest()
}

/// The first message of an answer.
fn first_message(answer: &[u8]) -> Message {
    let length = u32::from_be_bytes(answer[1..5].try_into().unwrap()) as usize;
    Message { kind: answer[0], body: answer[5..=length].to_vec() }
}

fn still_serves(stage: &Stage) {
    assert!(Raw::log_in(stage, &[]).is_ok());
}

#[test]
fn a01_impossible_lengths_close_the_connection_within_a_second() {
    let stage = Stage::usual();
    for length in [0u32, 3, 4, 7, 10_001, i32::MAX as u32, u32::MAX, 1 << 31] {
        let started = Instant::now();
        let mut raw = Raw::connect(stage.session_port);
        raw.send(&[&length.to_be_bytes()[..], &[0, 3, 0, 0]].concat());
        let answer = raw.read_rest();
        assert_eq!(first_message(&answer).sqlstate(), "08P01", "{length}");
        assert!(started.elapsed() < Duration::from_secs(3), "{length}");
    }
    still_serves(&stage);
}

#[test]
fn a01_password_messages_of_impossible_length_close_the_connection() {
    let stage = Stage::usual();
    for length in [0u32, 3, 4, 1_030, i32::MAX as u32, u32::MAX] {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", "bob.orders")]);
        assert_eq!(raw.read().kind, b'R');
        raw.send(&[&[b'p'][..], &length.to_be_bytes()].concat());
        let started = Instant::now();
        raw.read_rest();
        assert!(started.elapsed() < Duration::from_secs(3), "{length}");
    }
    still_serves(&stage);
}

#[test]
fn a07_plaintext_behind_a_request_for_encryption_is_refused() {
    let stage = Stage::usual();
    let startup = startup_packet(V3_0, &[("user", "bob.orders")]);
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let answer = answer_to(stage.session_port, &[&request[..], &startup].concat());
        assert_eq!(first_message(&answer).sqlstate(), "08P01");
        let text = first_message(&answer).field(b'M').unwrap();
        assert!(text.starts_with("received unencrypted data after"), "{text}");
    }
}

#[test]
fn a09_names_of_any_length_are_survived() {
    let stage = Stage::usual();
    for length in [63, 64, 1_000, 9_000] {
        let name = "x".repeat(length);
        let refused = Raw::log_in(&stage, &[("database", &name)]).err().unwrap();
        assert_eq!(refused.sqlstate(), "3D000", "{length}");
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", &format!("{name}.orders"))]);
        assert_eq!(raw.authenticate("x").sqlstate(), "28P01");
    }
    still_serves(&stage);
}

/// PostgreSQL cuts role and database to 63 bytes at login.
#[test]
fn a09_names_are_cut_as_postgresql_cuts_them() {
    let stage = Stage::usual();
    let name = format!("{}_{}", stage.role, "x".repeat(62 - stage.role.len()));
    server().psql(&format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    server().psql(&format!("CREATE DATABASE {name} OWNER {name}")).unwrap();
    for further in ["", "y", &"y".repeat(1_000)] {
        let mut raw = Raw::connect(stage.session_port);
        let (user, database) = (format!("{name}{further}.orders"), format!("{name}{further}"));
        raw.startup(V3_0, &[("user", &user), ("database", &database)]);
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R', "{further:?}");
        let messages = raw.read_until(b'Z');
        assert!(messages.iter().all(|message| message.kind != b'E'), "{further:?}");
    }
}

#[test]
fn a10_messages_in_the_wrong_order_are_refused() {
    let stage = Stage::usual();
    let startup = startup_packet(V3_0, &[("user", "bob.orders")]);
    let query = message(b'Q', b"SELECT 1\0");
    let password = message(b'p', b"SCRAM-SHA-256\0");
    for first in [&query, &password] {
        assert_eq!(first_message(&answer_to(stage.session_port, first)).sqlstate(), "08P01");
    }
    for (then, kind) in [(&query, 81), (&startup, 0)] {
        let mut raw = Raw::connect(stage.session_port);
        raw.send(&[&startup[..], then].concat());
        assert_eq!(raw.read().kind, b'R');
        let expected = format!("expected SASL response, got message type {kind}");
        assert_eq!(raw.read().field(b'M').unwrap(), expected);
    }
    let mut raw = Raw::connect(stage.session_port).request_tls("localhost");
    raw.send(&SSL_REQUEST);
    assert_eq!(raw.read().sqlstate(), "0A000");
}

#[test]
fn a17_a_cancel_requests_length_allocates_nothing() {
    let stage = Stage::usual();
    for length in [12u32, 0x7fff_ffff, 16 + 257] {
        let mut packet = length.to_be_bytes().to_vec();
        packet.extend([4, 210, 22, 46, 0, 0, 0, 1]);
        packet.extend([0; 256]);
        let mut raw = Raw::connect(stage.session_port);
        raw.send(&packet);
        raw.read_rest();
    }
    still_serves(&stage);
}

#[test]
fn a18_slow_and_endless_introductions_end_with_the_login_timeout() {
    let stage = Stage::new(&Wanted {
        settings: &[("timeouts", "client_login_timeout = \"500ms\"")],
        ..Wanted::default()
    });
    let started = Instant::now();
    let mut slow = Raw::connect(stage.session_port);
    let packet = startup_packet(V3_0, &[("user", "bob.orders")]);
    for byte in &packet {
        if slow.try_send(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(slow.read_rest().is_empty());
    let mut silent = Raw::connect(stage.session_port);
    assert!(silent.read_rest().is_empty());
    let mut in_tls = Raw::connect(stage.session_port);
    in_tls.send(&SSL_REQUEST);
    assert_eq!(in_tls.read_rest(), b"S");
    assert!(started.elapsed() < Duration::from_secs(10));
    let mut in_sasl = Raw::connect(stage.session_port);
    in_sasl.send(&packet);
    assert_eq!(in_sasl.read().kind, b'R');
    assert_eq!(in_sasl.read().sqlstate(), "57014");
}

#[test]
fn a18_encryption_is_asked_for_once() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.session_port);
    raw.send(&GSSENC_REQUEST);
    assert_eq!(raw.read_byte().unwrap(), b'N');
    raw.send(&GSSENC_REQUEST);
    assert_eq!(raw.read().sqlstate(), "0A000");
}

#[test]
fn a18_strangers_are_capped() {
    let stage = Stage::new(&Wanted {
        settings: &[("limits", "max_unauthenticated = 3")],
        ..Wanted::default()
    });
    let strangers: Vec<_> = (0..3).map(|_| Raw::connect(stage.session_port)).collect();
    eventually("the cap to be reached", || {
        stage.metric("postern_unauthenticated_connections") >= 3
    });
    let mut crowded = Raw::connect(stage.session_port);
    assert!(crowded.read_rest().is_empty());
    drop(strangers);
    eventually("the strangers to be gone", || {
        stage.metric("postern_unauthenticated_connections") == 0
    });
    still_serves(&stage);
}

#[test]
fn a20_half_a_startup_packet_is_nothing() {
    let stage = Stage::usual();
    let packet = startup_packet(V3_0, &[("user", "bob.orders")]);
    for end in 0..packet.len() {
        assert!(answer_to(stage.session_port, &packet[..end]).is_empty(), "{end}");
    }
}

#[test]
fn a20_names_beyond_ascii_arrive_whole() {
    let stage = Stage::usual();
    let name = format!("jürgen🐘{}", stage.role);
    server().psql(&format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    server().psql(&format!("CREATE DATABASE \"{name}\" OWNER \"{name}\"")).unwrap();
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{name}.orders"))]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    raw.query("SELECT current_user || current_database()");
    let messages = raw.read_until(b'Z');
    let row = messages.iter().find(|m| m.kind == b'D').unwrap();
    assert!(row.body.ends_with(format!("{name}{name}").as_bytes()));
}

#[test]
fn a22_gss_encryption_is_declined_and_the_connection_goes_on() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.session_port);
    raw.send(&GSSENC_REQUEST);
    assert_eq!(raw.read_byte().unwrap(), b'N');
    let mut raw = raw.request_tls("localhost");
    raw.startup(V3_0, &[("user", "nobody.orders")]);
    assert_eq!(raw.read().kind, b'R');

    let mut raw = Raw::connect(stage.session_port).request_tls("localhost");
    raw.send(&GSSENC_REQUEST);
    assert_eq!(raw.read_byte().unwrap(), b'N');
    raw.startup(V3_0, &[("user", "nobody.orders")]);
    assert_eq!(raw.read().kind, b'R');
}

#[test]
fn a22_psql_prefers_gss_encryption_and_gets_along_without() {
    let stage = Stage::usual();
    let out = psql(&stage.uri("&gssencmode=prefer"), "SELECT 42");
    assert_eq!(stdout(&out), "42");
}

/// What `NegotiateProtocolVersion` says: the version, and the unknown options.
fn negotiated(message: &Message) -> (u32, Vec<String>) {
    let number = |at: usize| u32::from_be_bytes(message.body[at..at + 4].try_into().unwrap());
    let names = message.body[8..].split(|b| *b == 0).filter(|name| !name.is_empty());
    let names: Vec<_> = names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    assert_eq!(number(4) as usize, names.len());
    (number(0), names)
}

/// A version, and the options that are unknown.
type Negotiated<'a> = (u32, &'a [&'a str]);

#[test]
fn a23_versions_are_negotiated_as_postgresql_18_does() {
    let stage = Stage::usual();
    let grease = (3 << 16) + 9999;
    let cases: [(u32, &[&str], Option<Negotiated>); 6] = [
        (V3_0, &[], None),
        (3 << 16 | 1, &[], None),
        (V3_2, &[], None),
        (grease, &[], Some((V3_2, &[]))),
        (V3_0, &["_pq_.a"], Some((V3_0, &["_pq_.a"]))),
        (grease, &["_pq_.a", "_pq_.b"], Some((V3_2, &["_pq_.a", "_pq_.b"]))),
    ];
    for (version, options, expected) in cases {
        let mut raw = Raw::connect(stage.session_port);
        let user = format!("{}.orders", stage.role);
        let mut parameters = vec![("user", user.as_str()), ("database", stage.role.as_str())];
        parameters.extend(options.iter().map(|name| (*name, "1")));
        raw.startup(version, &parameters);
        let said = expected.map(|_| negotiated(&raw.read()));
        let expected =
            expected.map(|(v, names)| (v, names.iter().map(ToString::to_string).collect()));
        assert_eq!(said, expected, "{version:x}");
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
        let messages = raw.read_until(b'Z');
        assert!(messages.iter().all(|m| m.kind != b'v'), "said once only");
        let key = messages.iter().find(|m| m.kind == b'K').unwrap();
        let length = if version >= V3_2 { 32 } else { 4 };
        assert_eq!(key.body.len(), 4 + length, "{version:x}");
    }
}

#[test]
fn a23_other_protocols_are_refused_in_postgresqls_words() {
    let stage = Stage::usual();
    for (version, text) in [(2 << 16, "2.0"), (4 << 16, "4.0"), (4 << 16 | 7, "4.7")] {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(version, &[("user", "bob.orders")]);
        let refused = raw.read();
        assert_eq!(refused.sqlstate(), "0A000");
        let expected = format!("unsupported frontend protocol {text}: server supports 3.0 to 3.2");
        assert_eq!(refused.field(b'M').unwrap(), expected);
    }
}

#[test]
fn a29_empty_and_missing_names_have_postgresqls_defaults() {
    let stage = Stage::usual();
    for parameters in [&[][..], &[("user", "")], &[("database", "x")]] {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, parameters);
        let refused = raw.read();
        assert_eq!(refused.sqlstate(), "28000");
        let expected = "no PostgreSQL user name specified in startup packet";
        assert_eq!(refused.field(b'M').unwrap(), expected);
    }
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role)), ("database", "")]);
    assert_eq!(raw.authenticate("").sqlstate(), "28P01");
}

#[test]
fn e17_the_proxy_header_is_mandatory_from_balancers_and_an_error_from_others() {
    let balanced = Stage::new(&Wanted {
        allowlist: "[\"203.0.113.0/24\", \"10.0.0.0/8\"]",
        settings: &[
            ("listen", "proxy_protocol_from = [\"127.0.0.1\"]"),
            ("tls", "plain_from = [\"203.0.113.0/24\", \"10.0.0.0/8\", \"198.51.100.0/24\"]"),
        ],
        ..Wanted::default()
    });
    let startup = startup_packet(V3_0, &[("user", "bob.orders")]);
    let connect = |header: &[u8], pieces: usize| {
        let mut raw = Raw::connect(balanced.session_port);
        for piece in [header, &startup].concat().chunks(pieces) {
            let _ = raw.try_send(piece);
        }
        raw.try_read().ok()
    };
    let v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 12345 5432\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([203, 0, 113, 9, 127, 0, 0, 1, 0x30, 0x39, 0x15, 0x38]);
    for header in [&v1, &v2] {
        for pieces in [1, 7, 1_000] {
            assert_eq!(connect(header, pieces).unwrap().kind, b'R');
        }
    }
    let denied = connect(b"PROXY TCP4 198.51.100.1 127.0.0.1 12345 5432\r\n", 99).unwrap();
    assert_eq!(denied.field(b'M').unwrap(), "no service accepts this connection from 198.51.100.1");
    // Trap A-16: an IPv4 address in IPv6 clothing is the IPv4 address.
    let mapped = connect(b"PROXY TCP6 ::ffff:10.0.0.1 ::1 12345 5432\r\n", 99).unwrap();
    assert_eq!(mapped.kind, b'R');
    assert_eq!(connect(b"", 99), None);
    assert_eq!(connect(&[b'P'; 200], 99), None);

    let direct = Stage::usual();
    let mut raw = Raw::connect(direct.session_port);
    raw.send(&v1);
    assert_eq!(raw.read().sqlstate(), "08P01");
}

#[test]
fn e17_a_balancers_own_health_check_is_the_balancers() {
    let stage = Stage::new(&Wanted {
        settings: &[("listen", "proxy_protocol_from = [\"127.0.0.1\"]")],
        ..Wanted::default()
    });
    let mut raw = Raw::connect(stage.session_port);
    let mut packet = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
    packet.extend(startup_packet(V3_0, &[("user", "bob.orders")]));
    raw.send(&packet);
    assert_eq!(raw.read().kind, b'R');
}

#[test]
fn e18_probes_that_say_nothing_are_no_failures() {
    let stage = Stage::usual();
    let before = stage.postern().door().metrics.refusals(None, "protocol_violation");
    for _ in 0..20 {
        drop(Raw::connect(stage.session_port));
    }
    let closing = Raw::connect(stage.session_port);
    closing.socket().shutdown(std::net::Shutdown::Write).unwrap();
    let mut nothing = Vec::new();
    closing.socket().try_clone().unwrap().read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());
    eventually("the probes to be gone", || {
        stage.metric("postern_unauthenticated_connections") == 0
    });
    assert_eq!(stage.postern().door().metrics.refusals(None, "protocol_violation"), before);
}

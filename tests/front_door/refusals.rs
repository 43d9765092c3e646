//! Who is turned away hears the right reason, and a denied address nothing
//! else.

use std::time::{Duration, Instant};

use super::raw::{Raw, V3_0, message};
use super::stage::{PASSWORD, Stage, Wanted, psql, server};

/// Every byte that a client hears which says these parameters and nothing
/// more.
fn heard(port: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut raw = Raw::connect(port);
    raw.startup(V3_0, parameters);
    let _ = raw.socket().shutdown(std::net::Shutdown::Write);
    raw.read_rest()
}

fn denied() -> Stage {
    Stage::new(&Wanted { allowlist: "[\"10.0.0.0/8\"]", ..Wanted::default() })
}

#[test]
fn a14_a_denied_address_hears_the_same_on_every_way_in() {
    let stage = denied();
    let known = format!("{}.orders", stage.role);
    let role = stage.role.as_str();
    let by_user = heard(stage.session_port, &[("user", &known)]);
    let text = String::from_utf8_lossy(&by_user).into_owned();
    assert!(
        text.contains("C28000\0Mno service accepts this connection from 127.0.0.1\0"),
        "{text}"
    );
    let ways: [(&str, &[(&str, &str)]); 5] = [
        ("a service that does not exist", &[("user", role), ("options", "service=missing")]),
        ("an impossible name", &[("user", role), ("options", "service=-")]),
        ("the service in options", &[("user", role), ("options", "service=orders")]),
        ("no service at all", &[("user", role)]),
        ("replication", &[("user", known.as_str()), ("replication", "true")]),
    ];
    for (what, parameters) in ways {
        for port in [stage.session_port, stage.transaction_port] {
            assert_eq!(heard(port, parameters), by_user, "{what}");
        }
    }
}

#[test]
fn a14_a_denied_address_hears_the_same_under_tls() {
    let stage = denied();
    let ask = |name: &str| {
        let mut raw = Raw::connect(stage.session_port).request_tls(name);
        raw.startup(V3_0, &[("user", "bob")]);
        raw.read()
    };
    let by_name = ask("orders.db.example.com");
    assert_eq!(by_name.sqlstate(), "28000");
    assert_eq!(by_name, ask("missing.db.example.com"));
    assert_eq!(by_name, ask("localhost"));
}

#[test]
fn a14_a_denied_address_is_refused_as_fast_as_a_missing_service() {
    let stage = denied();
    let time = |parameters: &[(&str, &str)]| {
        let mut times: Vec<_> = (0..60)
            .map(|_| {
                let mut raw = Raw::connect(stage.session_port);
                let started = Instant::now();
                raw.startup(V3_0, parameters);
                raw.read();
                started.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let known = time(&[("user", "bob"), ("options", "service=orders")]);
    let unknown = time(&[("user", "bob"), ("options", "service=missing")]);
    println!("median answer to a denied address {known:?}, to a missing service {unknown:?}");
    let difference = known.abs_diff(unknown);
    assert!(difference < Duration::from_millis(2), "{known:?} and {unknown:?}");
}

#[test]
fn a11_a_role_that_does_not_exist_looks_like_one_that_does() {
    let stage = Stage::usual();
    server().psql(&format!("CREATE ROLE {}_nologin PASSWORD 'x'", stage.role)).unwrap();
    server().psql(&format!("CREATE ROLE {}_nothing LOGIN", stage.role)).unwrap();
    let transcript = |role: &str| {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", &format!("{role}.orders"))]);
        let offered = raw.read();
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", &format!("{role}.orders"))]);
        let refused = raw.authenticate("wrong");
        let text = String::from_utf8(refused.body).unwrap().replace(role, "ROLE");
        (offered, text)
    };
    let known = transcript(&stage.role);
    assert!(known.1.contains("C28P01\0Mpassword authentication failed for user \"ROLE\"\0"));
    for role in
        ["missing".to_owned(), format!("{}_nologin", stage.role), format!("{}_nothing", stage.role)]
    {
        assert_eq!(transcript(&role), known, "{role}");
    }
}

#[test]
fn a11_an_unknown_roles_challenge_stays_the_same() {
    let stage = Stage::usual();
    let challenge = |role: &str| {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", &format!("{role}.orders"))]);
        assert_eq!(raw.read().kind, b'R');
        let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend(u32::try_from(first.len()).unwrap().to_be_bytes());
        body.extend(first);
        raw.send(&message(b'p', &body));
        let challenge = raw.read().body;
        let text = String::from_utf8(challenge[4..].to_vec()).unwrap();
        let (nonce, rest) = text.split_once(',').unwrap();
        (nonce.len(), rest.to_owned())
    };
    let (missing, again) = (challenge("missing"), challenge("missing"));
    assert_eq!(missing, again);
    let known = challenge(&stage.role);
    assert_eq!(known.0, missing.0);
    assert_ne!(known.1, missing.1);
    let shape = |text: &str| (text.len(), text.split(',').next_back().unwrap().to_owned());
    assert_eq!(shape(&known.1), shape(&missing.1));
}

#[test]
fn unencrypted_connections_come_from_trusted_addresses_only() {
    let stage = Stage::with(&[("tls", "plain_from = []")]);
    let refused = Raw::log_in(&stage, &[]).err().unwrap();
    assert_eq!(refused.sqlstate(), "28000");
    assert_eq!(refused.field(b'M').unwrap(), "connections from 127.0.0.1 must be encrypted");
    assert!(psql(&stage.uri(""), "SELECT 1").status.success());
}

#[test]
fn an_unknown_database_is_postgresqls_answer_after_authentication() {
    let stage = Stage::usual();
    let refused = Raw::log_in(&stage, &[("database", "missing")]).err().unwrap();
    assert_eq!(refused.sqlstate(), "3D000");
    assert_eq!(refused.field(b'M').unwrap(), "database \"missing\" does not exist");
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role)), ("database", "missing")]);
    assert_eq!(raw.authenticate("wrong").sqlstate(), "28P01");
}

#[test]
fn the_console_is_refused_until_it_exists() {
    let stage = Stage::usual();
    for database in ["postern", "pgbouncer"] {
        let mut raw = Raw::connect(stage.session_port);
        raw.startup(V3_0, &[("user", "admin"), ("database", database)]);
        assert_eq!(raw.read().sqlstate(), "0A000");
    }
}

#[test]
fn services_named_twice_must_agree() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.session_port).request_tls("orders.db.example.com");
    raw.startup(V3_0, &[("user", "bob"), ("options", "service=other")]);
    assert_eq!(raw.read().sqlstate(), "28000");
    let mut raw = Raw::connect(stage.session_port).request_tls("orders.db.example.com");
    raw.startup(V3_0, &[("user", "bob"), ("options", "access=sideways")]);
    assert_eq!(raw.read().field(b'M').unwrap(), "access= in options is read-write or read-only");
}

#[test]
fn a_service_without_standbys_has_no_read_only_endpoint() {
    let stage = Stage::with(&[("timeouts", "failover_wait = \"100ms\"")]);
    let mut raw = Raw::connect(stage.session_port);
    let user = format!("{}.orders", stage.role);
    raw.startup(V3_0, &[("user", &user), ("options", "access=read-only")]);
    assert_eq!(raw.authenticate(PASSWORD).sqlstate(), "57P03");
}

//! TLS: negotiation, SNI, ALPN, channel binding, certificates.

use std::io::{Read as _, Write as _};

use super::raw::{Raw, SSL_REQUEST, V3_0};
use super::stage::{PASSWORD, Stage, certificates, psql, stdout};

#[test]
fn psql_verifies_the_certificate_and_binds_to_it() {
    let stage = Stage::usual();
    for rest in ["", "&channel_binding=require"] {
        let out = psql(&stage.uri(rest), "SELECT current_user");
        assert_eq!(stdout(&out), stage.role, "{rest}");
    }
}

/// A Postern with a certificate of this kind.
fn with_certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> (Stage, String) {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let stage = Stage::usual();
    let own = stage.directory.path().join("own.crt");
    std::fs::write(&own, &pem).unwrap();
    super::stage::write_private(&stage.directory.path().join("own.key"), &key.serialize_pem());
    let shared = certificates().display().to_string();
    stage.edit_configuration(|text| {
        text.replace(&format!("{shared}/server.crt"), "own.crt")
            .replace(&format!("{shared}/server.key"), "own.key")
    });
    stage.block_on(stage.postern().reload()).unwrap();
    let uri = stage.uri("").replace(&format!("{shared}/ca.crt"), own.to_str().unwrap());
    drop(dir);
    (stage, uri)
}

#[test]
fn a24_channel_binding_with_every_kind_of_certificate() {
    for (algorithm, binds) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, true),
        (&rcgen::PKCS_ECDSA_P384_SHA384, true),
        (&rcgen::PKCS_RSA_SHA256, true),
        (&rcgen::PKCS_RSA_SHA512, true),
        (&rcgen::PKCS_ED25519, false),
    ] {
        let (_stage, uri) = with_certificate(algorithm);
        let required = psql(&format!("{uri}&channel_binding=require"), "SELECT 1");
        assert_eq!(required.status.success(), binds, "{algorithm:?}");
        assert_eq!(stdout(&psql(&uri, "SELECT 1")), "1", "{algorithm:?}");
    }
}

#[test]
fn a32_direct_tls_demands_alpn() {
    let stage = Stage::usual();
    let direct = |alpn: &[&[u8]]| Raw::connect(stage.session_port).start_tls("localhost", alpn);
    let mut without = direct(&[]).unwrap();
    let _ = without.try_send(&super::raw::startup_packet(V3_0, &[("user", "bob.orders")]));
    assert!(without.read_rest().is_empty());
    assert!(direct(&[b"http/1.1"]).is_err());
    let mut with = direct(&[b"http/1.1", b"postgresql"]).unwrap();
    with.startup(V3_0, &[("user", "bob.orders")]);
    assert_eq!(with.read().kind, b'R');
}

#[test]
fn a32_alpn_is_checked_if_it_is_offered_after_sslrequest() {
    let stage = Stage::usual();
    let after_request = |alpn: &[&[u8]]| {
        let mut raw = Raw::connect(stage.session_port);
        raw.send(&SSL_REQUEST);
        assert_eq!(raw.read_byte().unwrap(), b'S');
        raw.start_tls("localhost", alpn)
    };
    assert!(after_request(&[b"http/1.1"]).is_err());
    assert!(after_request(&[]).is_ok());
}

#[test]
fn e13_the_server_name_routes() {
    let stage = Stage::usual();
    let log_in = |name: &str, user: &str| {
        let mut raw = Raw::connect(stage.session_port).request_tls(name);
        raw.startup(V3_0, &[("user", user), ("database", &stage.role)]);
        raw.authenticate(PASSWORD)
    };
    for name in ["orders.db.example.com", "ORDERS.db.example.com", "orders-pooler.db.example.com"] {
        assert_eq!(log_in(name, &stage.role).kind, b'R', "{name}");
    }
    let by_user = format!("{}.orders", stage.role);
    assert_eq!(log_in("localhost", &by_user).kind, b'R');
    for (name, user) in [("localhost", stage.role.as_str()), ("missing.db.example.com", &by_user)] {
        assert_eq!(log_in(name, user).sqlstate(), "28000", "{name}");
    }
}

#[test]
fn e12_unix_sockets_take_no_tls_and_need_none() {
    let stage = Stage::with(&[("tls", "plain_from = []")]);
    let dir = stage.directory.path().display();
    let (role, port) = (&stage.role, stage.session_port);
    for (mode, works) in [("disable", true), ("prefer", true), ("require", true)] {
        let conninfo = format!(
            "host={dir} port={port} user={role}.orders dbname={role} password={PASSWORD} sslmode={mode}"
        );
        let out = psql(&conninfo, "SELECT 42");
        assert_eq!(out.status.success(), works, "{mode}: {out:?}");
    }
    // libpq does not ask for it there; PostgreSQL says no to those who do.
    let path = stage.directory.path().join(format!(".s.PGSQL.{port}"));
    let mut asking = std::os::unix::net::UnixStream::connect(path).unwrap();
    asking.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    asking.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    asking.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [b'N']);
}

#[test]
fn e12_every_sslmode_over_tcp() {
    let stage = Stage::usual();
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let uri = stage.uri("").replace("sslmode=verify-full", &format!("sslmode={mode}"));
        assert_eq!(stdout(&psql(&uri, "SELECT 42")), "42", "{mode}");
    }
    let wrong_name = stage.uri("").replace("@localhost", "@127.0.0.2");
    assert!(!psql(&wrong_name, "SELECT 42").status.success());
}

#[test]
fn a_certificate_is_replaced_without_dropping_anybody() {
    let (stage, uri) = with_certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
    let client = stage.block_on(stage.connect()).unwrap();
    let own = stage.directory.path().join("own.crt");
    let before = std::fs::read_to_string(&own).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(&own, params.self_signed(&key).unwrap().pem()).unwrap();
    super::stage::write_private(&stage.directory.path().join("own.key"), &key.serialize_pem());
    stage.block_on(stage.postern().reload()).unwrap();
    assert_ne!(std::fs::read_to_string(&own).unwrap(), before);
    assert_eq!(stdout(&psql(&uri, "SELECT 42")), "42");
    stage.block_on(client.simple_query("SELECT 1")).unwrap();
}

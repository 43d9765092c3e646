//! The configuration as a whole: files, every problem at once, reloads, and
//! texts that nobody would write.

use std::path::Path;

use proptest::prelude::*;

use super::fixture::{Directory, accepted, refused, service};
use super::{load, parse, reference};

#[test]
fn every_problem_is_reported_at_once() {
    refused(
        r#"
        [listen]
        session = ["127.0.0.1:5432", "localhost:5432", 5]
        [tls]
        mode = "on"
        modus = "require"
        [limits]
        max_clients = 0
        [timeouts]
        drain_timeout = 30
        [[services]]
        name = "orders"
        plan = "startup4"
        allowlist = ["everyone", "10.0.0.0/8"]
        nodes = ["db1:5432"]
        [[services]]
        name = "orders"
        "#,
        &[
            "listen.session[1]: expected \"IP:port\", \"[IPv6]:port\" or a socket directory and port such as \"/run/postern:5432\"; found \"localhost:5432\"",
            "listen.session[2]: expected \"IP:port\", \"[IPv6]:port\" or a socket directory and port such as \"/run/postern:5432\", found 5",
            "tls.mode: expected \"disable\", \"allow\" or \"require\", found \"on\"",
            "limits.max_clients: expected a number from 1 to 10000000, found 0",
            "timeouts.drain_timeout: expected a duration with its unit, such as \"30s\", \"1500ms\" or \"5m\", found 30",
            "services[0].plan: no plan \"startup4\" in the catalogue; is \"startup-4\" meant?",
            "services[0].allowlist[0]: an allowlist entry is an IP address, a CIDR block such as \"10.0.0.0/8\" or \"2001:db8::/32\", or \"local\"; found \"everyone\"",
            "services[0].management.user: is missing; expected a text that is not empty",
            "services[0].management.password_file: is missing; expected a path",
            "services[1].name: there is a service \"orders\" already",
            "services[1].plan: is missing; expected a text that is not empty",
            "services[1].nodes: is missing; expected a list in [ ]",
            "services[1].management.user: is missing; expected a text that is not empty",
            "services[1].management.password_file: is missing; expected a path",
            "tls.modus: unknown key; is \"mode\" meant?",
        ],
    );
}

#[test]
fn no_service_is_a_warning() {
    let settings = accepted("");
    assert_eq!(
        settings.warnings[0].to_string(),
        "services: no service is declared: every client will be refused"
    );
}

#[test]
fn a_reload_knows_what_needs_a_restart() {
    let old = accepted("");
    assert!(old.restart_needed(&old).is_empty());
    assert!(old.restart_needed(&accepted("[limits]\nmax_clients = 5")).is_empty());
    let new = accepted(
        r#"
        runtime.workers = 3
        listen = { session = ["[::1]:5432"], transaction = [], proxy_protocol_from = ["10.0.0.1"] }
        auth.secret_file = "secret"
        topology.state_file = "state.json"
        metrics.listen = ""
        admin.socket = "admin.sock"
        log = { format = "json", level = "debug" }
        "#,
    );
    assert_eq!(
        old.restart_needed(&new),
        [
            "runtime.workers",
            "listen.session",
            "listen.transaction",
            "listen.proxy_protocol_from",
            "auth.secret_file",
            "topology.state_file",
            "metrics.listen",
            "admin.socket",
            "log.format",
            "log.level",
        ]
    );
}

#[test]
fn a_file_is_found_beside_its_configuration() {
    let directory = reference::directory();
    directory.file("postern.toml", service(""), 0o644);
    let settings = load(&directory.path().join("postern.toml")).unwrap();
    assert_eq!(settings.services[0].management.password.expose(), "secret");
    let missing = directory.path().join("none.toml");
    assert_eq!(
        load(&missing).unwrap_err().to_string(),
        format!("cannot open {}: No such file or directory (os error 2)", missing.display())
    );
    directory.file("postern.toml", b"# \xff", 0o644);
    let refused = load(&directory.path().join("postern.toml")).unwrap_err();
    assert!(refused.to_string().ends_with("byte 2 is not UTF-8"));
}

#[test]
fn a_file_of_more_than_16_mib_is_refused() {
    let directory = Directory::new();
    directory.file("postern.toml", vec![b'\n'; 16 * 1024 * 1024 + 1], 0o644);
    let refused = load(&directory.path().join("postern.toml")).unwrap_err();
    assert!(refused.to_string().ends_with("it is larger than 16777216 bytes"));
}

#[test]
fn nesting_without_end_is_refused() {
    let many = 100_000;
    for text in [
        format!("a = {}", "[".repeat(many)),
        format!("a{} = 1", ".a".repeat(many)),
        format!("[a{}]", ".a".repeat(many)),
    ] {
        assert!(parse(&text, Path::new("/nonexistent")).is_err());
    }
}

/// Replaces parts of the reference by something else.
fn mutated() -> impl Strategy<Value = String> {
    let text = reference::uncommented();
    let value = prop_oneof![
        "\\PC{0,40}",
        Just("[]".to_owned()),
        Just("\n[[services]]\n".to_owned()),
        Just("= { a = [[1], {}] }\n".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("\"18446744073709551615years\"".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("nan".to_owned()),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..40, value);
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, length, value) in edits {
            let start = at.index(chars.len());
            let end = (start + length).min(chars.len());
            chars.splice(start..end, value.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), Path::new("/nonexistent"));
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "([a-z.]{1,8} = )?[\\[\\]{}\",=#.0-9a-z\n]{0,200}") {
        let _ = parse(&text, Path::new("/nonexistent"));
    }

    #[test]
    fn a_mutated_configuration_is_read_or_refused(text in mutated()) {
        match parse(&text, Path::new("/nonexistent")) {
            Ok(settings) => prop_assert!(settings.restart_needed(&settings).is_empty()),
            Err(problems) => prop_assert!(!problems.to_string().is_empty()),
        }
    }
}

//! `postern check --connect`, against servers that are well and servers that
//! are not.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::net::authority::Authority;

/// A configuration and the files that it names.
struct Declared {
    directory: tempfile::TempDir,
    text: String,
}

impl Declared {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, text: String::new() }
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn service(mut self, name: &str, nodes: &[String], role: (&str, &str), keys: &str) -> Self {
        let (user, password) = role;
        self.file(&format!("{name}.password"), password);
        let plan = if nodes.len() > 1 { "premium-4" } else { "hobbyist" };
        let text = format!(
            "[[services]]\nname = \"{name}\"\nplan = \"{plan}\"\nnodes = {nodes:?}\n\
             management = {{ user = \"{user}\", password_file = \"{name}.password\" }}\n{keys}"
        );
        writeln!(self.text, "{text}").unwrap();
        self
    }

    async fn findings(&self) -> Vec<String> {
        let settings = config::parse(&self.text, self.directory.path()).unwrap();
        inspect(&settings).await.iter().map(ToString::to_string).collect()
    }
}

fn address(cluster: &Cluster) -> String {
    cluster.address().to_string()
}

/// Each expected text is in a finding of its own, and there are no others.
fn assert_findings(found: &[String], expected: &[&str]) {
    for text in expected {
        let hits = found.iter().filter(|finding| finding.contains(text)).count();
        assert_eq!(hits, 1, "{text:?} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_well_has_no_findings() {
    let installations = Installations::find().unwrap();
    let vector = managed(installations.vector().unwrap()).start().unwrap();
    let authority = Authority::new("nodes").unwrap();
    let issued = authority.issue(&["localhost"]).unwrap();
    let encrypted = managed(&installation())
        .tls(issued.certificate, issued.key)
        .hba("hostnossl all all all reject")
        .start()
        .unwrap();
    let socket = format!("{}:{}", vector.socket_dir().display(), vector.port());
    let role = ("postern", PASSWORD);
    let verified = "node_tls = \"verify-full\"\nnode_ca = \"ca.crt\"";
    let localhost = format!("localhost:{}", encrypted.port());
    let declared = Declared::new()
        .service("search", &[address(&vector)], role, "kind = \"vector\"")
        .service("local", &[socket], (vector.superuser(), vector.password()), "")
        .service("orders", &[localhost], role, verified);
    declared.file("ca.crt", authority.certificate());
    assert_findings(&declared.findings().await, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_with_a_node_is_said_at_once() {
    let cluster = Cluster::builder(&installation())
        .durable(false)
        .max_connections(20)
        .hba("host all some 127.0.0.1/32 ident")
        .hba("host all all 127.0.0.1/32 password")
        .sql(
            "postgres",
            "CREATE ROLE weak LOGIN CONNECTION LIMIT 1 PASSWORD 'weak';
             CREATE ROLE chief LOGIN SUPERUSER PASSWORD 'chief';
             CREATE ROLE bare LOGIN;
             SET password_encryption = md5;
             CREATE ROLE old_1 LOGIN PASSWORD 'x'; CREATE ROLE old_2 LOGIN PASSWORD 'x';",
        )
        .start()
        .unwrap();
    let vector = "kind = \"vector\"";
    let found = Declared::new()
        .service("orders", &[address(&cluster)], ("weak", "weak"), vector)
        .findings()
        .await;
    let mut expected = vec![
        "max_connections is 20, plan \"hobbyist\" needs 31",
        "may not look verifiers up",
        "cannot see which backends are there: GRANT pg_monitor TO \"weak\"",
        "GRANT pg_signal_backend TO \"weak\"",
        "CONNECTION LIMIT 1",
        "pg_hba.conf could not be checked",
    ];
    if !installation().has_pgvector() {
        expected.push("pgvector is not installed");
    }
    assert_findings(&found, &expected);
    let subject = format!("problem: services.orders node {}: ", address(&cluster));
    assert!(found.iter().any(|finding| finding.starts_with(&subject)), "{found:#?}");

    let found = Declared::new()
        .service("orders", &[address(&cluster)], ("chief", "chief"), "")
        .findings()
        .await;
    let expected = [
        "max_connections is 20",
        "2 roles (old_1, old_2) with a password kept as MD5",
        "1 role (bare) without a password",
        "asks some in all for \"ident\"",
        "asks every role that comes from here for \"password\"",
    ];
    assert_findings(&found, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_cannot_be_reached_say_what_to_do() {
    let role = ("postern", PASSWORD);
    let gone = managed(&installation()).start().unwrap();
    gone.stop(crate::cluster::StopMode::Fast).unwrap();
    let found = Declared::new()
        .service("gone", &[address(&gone)], role, "")
        .service("plain", &[address(shared())], role, "node_tls = \"require\"")
        .service("wrong", &[address(shared())], ("postern", "hunter2"), "")
        .findings()
        .await;
    let expected = [
        "Connection refused (os error 111): is the server running",
        "does not offer TLS, which node_tls demands: set ssl = on",
        "password authentication failed for user \"postern\" (SQLSTATE 28P01): password_file does",
    ];
    assert_findings(&found, &expected);
    assert!(!found.join("").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_are_one_too_many() {
    let other = managed(&installation()).start().unwrap();
    let nodes = [address(shared()), address(&other)];
    let found = Declared::new()
        .service("orders", &nodes, (shared().superuser(), shared().password()), "")
        .service("twins", &nodes, ("postern", PASSWORD), "")
        .findings()
        .await;
    let twins = found.iter().filter(|finding| finding.contains("services.twins:"));
    let twins: Vec<_> = twins.collect();
    assert_eq!(twins.len(), 1, "{found:#?}");
    assert!(twins[0].contains("2 of its nodes take writes"));
}

//! Vector services: pgvector on every node, or nobody is routed there.

use super::raw::{Raw, V3_0};
use postern::cluster::Installations;

use super::stage::{PASSWORD, Stage, Wanted, psql, start_server, stdout, vector_server};

#[test]
fn vectors_are_inserted_and_searched() {
    let stage =
        Stage::new(&Wanted { kind: "vector", server: Some(vector_server()), ..Wanted::default() });
    vector_server().psql_in(&stage.role, "CREATE EXTENSION vector").unwrap();
    let sql = "CREATE TABLE items (v vector(3)); \
        INSERT INTO items VALUES ('[1,2,3]'), ('[4,5,6]'); \
        SELECT v FROM items ORDER BY v <-> '[4,5,5]' LIMIT 1";
    assert_eq!(stdout(&psql(&stage.uri(""), sql)), "[4,5,6]");
}

#[test]
fn a_node_without_pgvector_is_not_routed_to_and_is_named() {
    let installations = Installations::find().unwrap();
    let without = installations.iter().find(|found| !found.has_pgvector() && found.has_tls());
    let without =
        without.expect("a PostgreSQL without pgvector, as Debian's own is: scripts/install");
    let server = start_server(without);
    let stage = Stage::new(&Wanted {
        kind: "vector",
        server: Some(&server),
        settings: &[("timeouts", "failover_wait = \"300ms\"")],
        ..Wanted::default()
    });
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    let refused = raw.authenticate(PASSWORD);
    assert_eq!(refused.sqlstate(), "57P03");
    let detail = refused.field(b'D').unwrap();
    let node = server.address().to_string();
    assert!(detail.contains("pgvector") && detail.contains(&node), "{detail}");
    let series = format!("postern_node_without_pgvector{{node=\"{node}\",service=\"orders\"}}");
    assert_eq!(stage.metric(&series), 1);
}

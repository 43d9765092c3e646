//! Vector services: pgvector on every node, or nobody is routed there.

use super::raw::{Raw, V3_0};
use super::stage::{PASSWORD, Stage, Wanted, make_role, psql, server, stdout, vector_server};

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
    let has = server().psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'");
    if has.unwrap().trim() != "0" {
        // This host's newest server has pgvector: then nothing lacks it.
        return;
    }
    let stage = Stage::new(&Wanted {
        kind: "vector",
        settings: &[("timeouts", "failover_wait = \"300ms\"")],
        ..Wanted::default()
    });
    make_role(server());
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    let refused = raw.authenticate(PASSWORD);
    assert_eq!(refused.sqlstate(), "57P03");
    let detail = refused.field(b'D').unwrap();
    let node = server().address().to_string();
    assert!(detail.contains("pgvector") && detail.contains(&node), "{detail}");
    let series = format!("postern_node_without_pgvector{{node=\"{node}\",service=\"orders\"}}");
    assert_eq!(stage.metric(&series), 1);
}

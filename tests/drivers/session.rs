//! Each driver through the session endpoint, unchanged.

use std::process::Command;

use super::clients::{OF_SQLALCHEMY, Tools, assert_works, script};
use super::demo::demo;

/// A script with a database of its own on a service.
fn on(service: &str, database: &str, file: &str) -> Command {
    let mut command = script(file);
    command.env("URI", demo().database(service, database)).env("ENDPOINT", "session");
    command
}

#[test]
fn psql_does_everything_it_can_do() {
    for tools in Tools::both() {
        let mut expected = vec![
            "every sslmode, with and without a ticket for GSSAPI",
            "channel binding",
            "the server's name names the service",
            "options beside the service",
            "copy in and out",
            "a result in portions",
            "large objects",
            "notifications and notices",
            "a cancelled query",
            "the server's own refusals",
        ];
        if tools.major >= 17 {
            expected.push("direct TLS");
        }
        if tools.major >= 18 {
            expected.push("protocol 3.2");
        }
        let database = format!("psql_{}", tools.major);
        let mut psql = on("SEARCH", &database, "psql_session.sh");
        psql.env("PSQL", tools.program("psql")).env("MAJOR", tools.major.to_string());
        assert_works(&mut psql, &expected);
    }
}

#[test]
fn psycopg_works() {
    let expected = [
        "channel binding is required and given",
        "direct TLS",
        "parameters and prepared statements",
        "transactions and savepoints",
        "a pipeline",
        "a pipeline with an error",
        "a cursor on the server",
        "copy both ways",
        "notifications",
        "cancel",
        "an asynchronous connection",
        "fifty megabytes in one value",
        "the server's process id",
    ];
    assert_works(&mut on("ORDERS", "psycopg", "psycopg_session.py"), &expected);
}

#[test]
fn asyncpg_works() {
    let expected = [
        "the URI as it stands",
        "a context of TLS, direct",
        "prepared statements",
        "copy both ways",
        "notifications",
        "a cursor",
        "a query that takes too long",
        "a pool",
    ];
    assert_works(&mut on("ORDERS", "asyncpg", "asyncpg_session.py"), &expected);
}

#[test]
fn django_works() {
    let expected = [
        "migrations",
        "objects",
        "atomic blocks",
        "a query in portions",
        "a lock on a row",
        "persistent connections",
    ];
    assert_works(&mut on("ORDERS", "django", "django_orm.py"), &expected);
}

#[test]
fn sqlalchemy_works() {
    let mut sqlalchemy = on("ORDERS", "sqlalchemy", "sqlalchemy_orm.py");
    assert_works(&mut sqlalchemy, &OF_SQLALCHEMY);
}

#[test]
fn node_postgres_works() {
    let expected = [
        "channel binding and direct TLS",
        "parameters",
        "a named statement",
        "a transaction",
        "an error",
        "notifications and notices",
        "a pool",
        "a large parameter",
        "cancel",
    ];
    assert_works(&mut on("ORDERS", "node", "node_session.js"), &expected);
}

#[test]
fn jdbc_works() {
    let expected = [
        "every way to connect that the driver knows",
        "a statement prepared on the server",
        "a batch",
        "rows in portions",
        "copy both ways",
        "a large object of 8 MB",
        "notifications",
        "cancel",
    ];
    assert_works(&mut on("ORDERS", "jdbc", "JdbcSession.java"), &expected);
}

#[test]
fn pgbench_of_both_versions_loses_no_transaction() {
    let expected = ["initialised", "simple", "extended", "prepared", "select only", "reconnecting"];
    for tools in Tools::both() {
        let database = format!("pgbench_{}", tools.major);
        let mut pgbench = on("ORDERS", &database, "pgbench.sh");
        pgbench.env("PGBENCH", tools.program("pgbench")).env("PSQL", tools.program("psql"));
        assert_works(&mut pgbench, &expected);
    }
}

#[test]
fn a_dump_is_restored_into_another_database() {
    for (service, tools) in [("ORDERS", Tools::debian()), ("SEARCH", Tools::newest())] {
        let target = demo().database(service, "restored");
        let parallel = demo().database(service, "restored_in_parallel");
        let mut dump = on(service, "dumped", "dump_and_restore.sh");
        dump.env("BIN", &tools.bin).env("TARGET", target).env("PARALLEL", parallel);
        assert_works(&mut dump, &["piped", "in parallel"]);
    }
}

//! Drivers through the transaction endpoint.

use std::process::Command;

use super::clients::{OF_SQLALCHEMY, assert_works, script};
use super::demo::demo;

/// A script with a database of its own.
fn on(database: &str, file: &str) -> Command {
    let mut command = script(file);
    let uri = demo().pooled_database("ORDERS", database);
    command.env("URI", uri).env("ENDPOINT", "transaction");
    command
}

#[test]
fn pgvector_finds_the_nearest_neighbours() {
    let mut search = script("pgvector_pooled.py");
    search.env("URI", demo().variable("POSTERN_POOLED_URI_SEARCH"));
    assert_works(&mut search, &["vectors are stored", "exact search", "search by an index"]);
}

#[test]
fn django_works() {
    let expected =
        ["migrations", "objects", "atomic blocks", "a query in portions", "a lock on a row"];
    assert_works(&mut on("django_pooled", "django_orm.py"), &expected);
}

#[test]
fn sqlalchemy_works() {
    let mut sqlalchemy = on("sqlalchemy_pooled", "sqlalchemy_orm.py");
    assert_works(&mut sqlalchemy, &OF_SQLALCHEMY);
}

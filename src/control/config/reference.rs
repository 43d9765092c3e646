//! Proves that `config/postern.toml` tells the truth: it names exactly the
//! keys that the reader knows, shows the defaults they have, and loads.
//!
//! In that file a line that begins with `#` and no space is a key without a
//! default, or part of an example; taking these `#` away leaves a file with
//! every key there is.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

use super::fixture::Directory;
use super::reading::{KnownKey, Reading};
use super::{Settings, parse, plans, read, section};

const REFERENCE: &str = include_str!("../../../config/postern.toml");

/// The reference with its examples, `#` removed.
pub(super) fn uncommented() -> String {
    let example = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let lines = REFERENCE.lines();
    let lines = lines.map(|line| if example(&line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The files that the examples name.
pub(super) fn directory() -> Directory {
    let directory = Directory::new();
    for name in ["server.crt", "ca.crt", "other.crt", "nodes-ca.crt"] {
        directory.file(name, "", 0o644);
    }
    for name in ["server.key", "other.key", "orders.password", "patroni.password"] {
        directory.file(name, "secret\n", 0o600);
    }
    directory.file("plans.toml", include_str!("../../../config/plans.toml"), 0o644);
    directory
}

/// The keys of a file, as in `services[].name`.
fn keys(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect(&text.parse().unwrap(), "", &mut keys);
    keys
}

fn collect(table: &Table, path: &str, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = format!("{path}{name}");
        match value {
            Value::Table(table) => collect(table, &format!("{key}."), keys),
            Value::Array(list) if list.iter().any(Value::is_table) => {
                for table in list.iter().filter_map(Value::as_table) {
                    collect(table, &format!("{key}[]."), keys);
                }
            }
            _ => drop(keys.insert(key)),
        }
    }
}

fn known(which: impl Fn(&KnownKey) -> bool) -> BTreeSet<String> {
    let reading = Reading::survey();
    section::read_file(&reading, "", read);
    let chosen = reading.into_known().into_iter().filter(which);
    chosen.map(|known| known.pattern).collect()
}

fn settings(text: &str, base: &Path) -> Settings {
    parse(text, base).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    assert_eq!(keys(&uncommented()), known(|_| true));
}

#[test]
fn the_reference_shows_each_default_as_a_key_that_is_set() {
    let of_the_program = |key: &KnownKey| key.has_default && !key.pattern.contains("[]");
    assert_eq!(keys(REFERENCE), known(of_the_program));
}

#[test]
fn the_values_shown_are_the_defaults() {
    let nowhere = Path::new("/nonexistent");
    let shown = settings(REFERENCE, nowhere);
    let default = settings("", nowhere);
    assert_eq!(format!("{shown:#?}"), format!("{default:#?}"));
}

#[test]
fn the_service_shown_has_the_defaults_of_a_service() {
    let directory = directory();
    let shown = uncommented().replace("node_ca = ", "#node_ca = ").replace("\nca = ", "\n#ca = ");
    let mut shown = settings(&shown, directory.path());
    // Without the section there are no drills.
    shown.services.iter_mut().for_each(|service| service.canary = None);
    let default = r#"
        [[services]]
        name = "orders"
        plan = "startup-4"
        nodes = ["127.0.0.1:5433"]
        management = { user = "postern", password_file = "orders.password" }
    "#;
    let default = settings(default, directory.path());
    assert_eq!(format!("{:#?}", shown.services), format!("{:#?}", default.services));
}

#[test]
fn the_examples_load() {
    let directory = directory();
    let settings = settings(&uncommented(), directory.path());
    let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["services[0].node_ca: is used with node_tls = \"verify-ca\" or \"verify-full\" only"]
    );
    assert_eq!(settings.tls.further.len(), 1);
    assert!(settings.routing.default_service.is_some());
}

#[test]
fn the_shipped_catalogue_is_the_platforms() {
    let settings = settings("", Path::new("/nonexistent"));
    let rows = settings.plans.iter().map(|row| {
        let plan = &row.plan;
        let days = plan.backup_retention_days;
        let (connections, nodes) = (plan.max_connections.get(), plan.nodes);
        (&*plan.name, connections, nodes, days, plan.multi_az, row.availability.as_str())
    });
    let single = "single node, limited availability";
    let pair = "primary + standby, higher availability";
    let three = "primary + 2 standbys, highest availability";
    let expected = [
        ("hobbyist", 25, 1, 0, false, single),
        ("startup-4", 100, 1, 2, false, single),
        ("business-4", 100, 2, 14, true, pair),
        ("business-16", 400, 2, 14, true, pair),
        ("premium-4", 100, 3, 30, true, three),
        ("premium-8", 200, 3, 30, true, three),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[test]
fn the_shipped_catalogue_shows_every_key_of_a_plan() {
    let reading = Reading::survey();
    section::read_file(&reading, "", plans::read_catalogue);
    let known = reading.into_known().into_iter();
    let known: BTreeSet<String> = known.map(|key| key.pattern).collect();
    assert_eq!(keys(include_str!("../../../config/plans.toml")), known);
}

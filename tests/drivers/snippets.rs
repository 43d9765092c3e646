//! Everything that the demo prints to be pasted, exactly as it is printed, for
//! every service.

use std::env;
use std::process::Command;

use super::clients::{Tools, client, java, named_by, node, run, stdout};
use super::demo::demo;

/// A command in whose shell `psql` is one of these tools.
fn shell_with(tools: &Tools) -> Command {
    let mut path = vec![tools.bin.clone()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
    let mut shell = client("sh");
    shell.env("PATH", env::join_paths(path).unwrap());
    shell
}

#[test]
fn psql_of_both_versions_reaches_every_service() {
    for tools in Tools::both() {
        for service in demo().services() {
            let answer = |file| {
                let snippet = demo().snippet(service, file);
                stdout(&run(shell_with(&tools).arg(snippet)))
            };
            let version = answer("psql.sh");
            assert!(version.contains(" PostgreSQL "), "{service}, psql {}: {version}", tools.major);
            let user = answer("psql_by_user.sh");
            assert!(user.contains("\n app\n"), "{service}, psql {}: {user}", tools.major);
        }
    }
}

#[test]
fn every_uri_answers_as_it_stands() {
    for service in demo().services() {
        for prefix in ["POSTERN_URI", "POSTERN_POOLED_URI", "POSTERN_USER_URI"] {
            let uri = demo().variable(&format!("{prefix}_{service}"));
            let mut psql = client(Tools::debian().program("psql"));
            let answer = stdout(&run(psql.args(["-XAtc", "SELECT 6 * 7", uri])));
            assert_eq!(answer, "42", "{prefix}_{service}");
        }
    }
}

#[test]
fn django_takes_the_settings_of_every_service() {
    let query = "from django.db import connection as c\n\
                 with c.cursor() as cursor:\n    \
                     print(cursor.execute('SELECT 6 * 7').fetchone()[0])";
    for service in demo().services() {
        let settings = demo().snippet(service, "django_settings.py");
        let mut python = client(named_by("POSTERN_TEST_PYTHON"));
        python
            .args(["-B", "-c", query])
            .env("PYTHONPATH", settings.parent().unwrap())
            .env("DJANGO_SETTINGS_MODULE", "django_settings");
        assert_eq!(stdout(&run(&mut python)), "42", "{service}");
    }
}

#[test]
fn node_postgres_queries_every_service() {
    for service in demo().services() {
        let answer = stdout(&run(&mut node(&demo().snippet(service, "query.js"))));
        assert_eq!(answer, "42", "{service}");
    }
}

#[test]
fn jdbc_queries_every_service() {
    for service in demo().services() {
        let answer = stdout(&run(&mut java(&demo().snippet(service, "Query.java"))));
        assert_eq!(answer, "42", "{service}");
    }
}

//! Settings, role and session authorization: replayed exactly (decision 23).

use super::*;
use crate::pooled_client::{bind, execute, parse, send, sync, value};
use crate::raw::message;
use crate::stage::{Audit, Wanted};

/// What is asked of a client, and of one that is connected directly.
fn same_as_direct(stage: &Stage, further: &[(&str, &str)], texts: &[&str]) {
    let mut pooled_client = pooled_with(stage, further);
    let mut other = pooled_with(stage, further);
    let mut direct = direct_with(stage, further);
    for text in texts {
        let expected = answers(&mut direct, text);
        assert_eq!(answers(&mut pooled_client, text), expected, "{text}");
        if expected.last().unwrap() == "Z I" {
            // Somebody else uses the connection in between.
            assert_eq!(ask(&mut other, "SELECT 'other'"), "other");
        }
    }
}

fn direct_with(stage: &Stage, further: &[(&str, &str)]) -> Raw {
    use crate::raw::V3_0;
    let mut raw = Raw::connect(server().port());
    let mut parameters = vec![("user", stage.role.as_str()), ("database", stage.role.as_str())];
    parameters.extend(further);
    raw.startup(V3_0, &parameters);
    raw.authenticate(crate::stage::PASSWORD);
    raw.read_until(b'Z');
    raw
}

/// Every answer to a text: rows, tags, errors, the status.
fn answers(raw: &mut Raw, sql: &str) -> Vec<String> {
    raw.query(sql);
    let told = |message: Message| match message.kind {
        b'E' => format!("E {} {}", message.sqlstate(), message.field(b'M').unwrap()),
        kind => format!("{} {}", char::from(kind), String::from_utf8_lossy(&message.body)),
    };
    let messages = raw.read_until(b'Z').into_iter();
    messages.filter(|m| !matches!(m.kind, b'S' | b'N')).map(told).collect()
}

#[test]
fn every_setting_follows_its_client_and_no_other() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let first = ask(&mut two, "SHOW work_mem");
    run(&mut one, "SET work_mem = '7MB'");
    run(&mut one, "SET my.tenant = 'blue'");
    run(&mut one, "SET search_path = 'x y', public");
    assert_eq!(ask(&mut two, "SHOW work_mem"), first);
    assert_eq!(ask(&mut two, "SHOW search_path"), "\"$user\", public");
    assert_eq!(ask(&mut two, "SELECT coalesce(current_setting('my.tenant', true), '')"), "");
    assert_eq!(ask(&mut one, "SHOW work_mem"), "7MB");
    assert_eq!(ask(&mut one, "SHOW my.tenant"), "blue");
    assert_eq!(ask(&mut one, "SHOW search_path"), "\"x y\", public");
    assert_eq!(backend(&mut one), backend(&mut two), "nobody is pinned");
}

#[test]
fn d23_what_is_rolled_back_or_local_does_not_stay() {
    let stage = narrow();
    let show = "SELECT current_setting('work_mem'), current_setting('search_path'), \
                coalesce(current_setting('a.b', true), ''), current_user";
    same_as_direct(
        &stage,
        &[],
        &[
            "BEGIN; SET work_mem = '7MB'; SET a.b = 'x'; ROLLBACK",
            show,
            "BEGIN",
            "SET work_mem = '8MB'",
            "SAVEPOINT s",
            "SET work_mem = '9MB'; SET search_path = a; SET a.b = 'y'",
            "ROLLBACK TO s",
            show,
            "COMMIT",
            show,
            "BEGIN; SET LOCAL work_mem = '10MB'; SET LOCAL a.b = 'z'",
            show,
            "COMMIT",
            show,
            "SET work_mem = '11MB'; SELECT 1/0",
            show,
            "SET search_path = b; SET work_mem = 'nonsense'",
            show,
            "BEGIN; SET search_path = c",
            "SELECT 1/0",
            "COMMIT",
            show,
            "SET search_path = d",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SHOW transaction_isolation",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SHOW transaction_isolation",
            "RESET default_transaction_isolation",
            "SHOW transaction_isolation",
            show,
            "RESET ALL",
            show,
            "SET work_mem = '12MB'",
            "BEGIN; RESET work_mem",
            show,
            "ROLLBACK",
            show,
            "DISCARD ALL",
            show,
        ],
    );
}

#[test]
fn d24_values_arrive_as_they_were_set() {
    let stage = narrow();
    let mut texts = Vec::new();
    for setting in ["search_path", "application_name", "my.value"] {
        for value in
            ["''", "'a b', c", "'it''s'", "'\\'", "E'\\\\\\n'", "'\"$user\"'", "'ä'", "'$1'"]
        {
            if setting != "search_path" && value.contains(", ") {
                continue;
            }
            texts.push(format!("SET {setting} = {value}"));
            texts.push(format!("SHOW {setting}"));
        }
        texts.push(format!("SELECT set_config('{setting}', '\"a b\", c, \\', false)"));
        texts.push(format!("SHOW {setting}"));
    }
    texts.push("SET standard_conforming_strings = off".to_owned());
    texts.push("SET client_encoding = 'LATIN1'".to_owned());
    texts.push("SHOW my.value".to_owned());
    texts.push("SET work_mem = 4096".to_owned());
    texts.push("SHOW work_mem".to_owned());
    texts.push(
        "SET work_mem = '1GB'; SET seq_page_cost = 1.5; SET statement_timeout = '90s'".to_owned(),
    );
    texts.push("SHOW seq_page_cost; SHOW statement_timeout; SHOW work_mem".to_owned());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    same_as_direct(&stage, &[("application_name", "first")], &texts);
}

#[test]
fn a_reset_returns_to_what_the_client_began_with() {
    let stage = narrow();
    let began =
        [("application_name", "mine"), ("options", "-c work_mem=5MB"), ("TimeZone", "Asia/Tokyo")];
    let show = "SELECT current_setting('application_name'), current_setting('work_mem'), \
                current_setting('TimeZone')";
    same_as_direct(
        &stage,
        &began,
        &[
            show,
            "SET application_name = 'x'; SET work_mem = '6MB'; SET timezone = 'UTC'",
            show,
            "RESET ALL",
            show,
            "SET application_name = 'x'",
            "RESET application_name",
            show,
            "SET application_name = 'x'; SET work_mem = '6MB'",
            "DISCARD ALL",
            show,
            "SET application_name TO 'y'",
            "BEGIN",
            "RESET ALL",
            show,
            "ROLLBACK",
            show,
            "RESET ALL; SET application_name = 'z'",
            show,
        ],
    );
}

#[test]
fn the_role_follows_its_client() {
    let stage = narrow();
    let role = &stage.role;
    server().psql(&format!("CREATE ROLE {role}_app; GRANT {role}_app TO {role}")).unwrap();
    let show = "SELECT current_user, session_user, current_setting('role')";
    let set = format!("SET ROLE {role}_app");
    let set_in_block = format!("BEGIN; SET ROLE {role}_app; SET search_path = x");
    same_as_direct(
        &stage,
        &[],
        &[
            show,
            &set,
            show,
            "RESET ROLE",
            show,
            &set_in_block,
            show,
            "ROLLBACK",
            show,
            &set,
            "SET SESSION AUTHORIZATION DEFAULT",
            show,
            &set,
            "RESET ALL",
            show,
            "DISCARD ALL",
            show,
        ],
    );
}

#[test]
fn d27_settings_that_fail_are_their_clients_own_trouble() {
    let stage = narrow();
    let role = &stage.role;
    server().psql(&format!("CREATE ROLE {role}_gone; GRANT {role}_gone TO {role}")).unwrap();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, &format!("SET ROLE {role}_gone"));
    run(&mut one, "SET work_mem = '7MB'");
    assert_eq!(ask(&mut two, "SELECT current_user"), *role);
    server().psql(&format!("DROP ROLE {role}_gone")).unwrap();
    for _ in 0..3 {
        // Nothing runs under another role than the one that was asked for.
        let error = refused(&mut one, "CREATE TABLE leaked (n integer)");
        assert_eq!(error.sqlstate(), "22023");
        assert_eq!(error.field(b'S').unwrap(), "ERROR");
        assert_eq!(ask(&mut two, "SELECT count(*) FROM pg_class WHERE relname = 'leaked'"), "0");
    }
    let messages = send(&mut one, &[parse("", "SELECT 1"), bind(""), execute(), sync()]);
    assert_eq!(messages[0].sqlstate(), "22023");
    run(&mut one, "RESET ROLE");
    assert_eq!(ask(&mut one, "SELECT current_user"), *role);
    assert_eq!(ask(&mut one, "SHOW work_mem"), "7MB");
}

#[test]
fn settings_by_parameters_follow_too() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let bound = |name: &str, value: &str| {
        let mut body = b"\0set\0\0\0\0\x02".to_vec();
        for text in [name, value] {
            body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            body.extend(text.as_bytes());
        }
        body.extend(b"\0\0");
        message(b'B', &body)
    };
    send(&mut one, &[parse("set", "SELECT set_config($1, $2, false)"), sync()]);
    for (name, value) in [("work_mem", "7MB"), ("my.tenant", "blue"), ("work_mem", "9MB")] {
        let answer = self::value(&send(&mut one, &[bound(name, value), execute(), sync()]));
        assert_eq!(answer, value);
        assert_ne!(
            ask(&mut two, &format!("SELECT coalesce(current_setting('{name}', true), '')")),
            value
        );
        assert_eq!(ask(&mut one, &format!("SHOW {name}")), value);
    }
    assert_eq!(backend(&mut one), backend(&mut two));
}

#[test]
fn a_client_that_leaves_takes_its_settings_along() {
    let stage = narrow();
    let mut first = pooled(&stage);
    for sql in ["SET work_mem = '7MB'", "SET search_path = x", "SET my.tenant = 'blue'"] {
        let mut raw = pooled(&stage);
        raw.send(&[message(b'Q', &[sql.as_bytes(), b"\0"].concat()), message(b'X', b"")].concat());
        raw.read_rest();
    }
    assert_ne!(ask(&mut first, "SHOW work_mem"), "7MB");
    assert_eq!(ask(&mut first, "SHOW search_path"), "\"$user\", public");
    assert_eq!(ask(&mut first, "SELECT coalesce(current_setting('my.tenant', true), '')"), "");
}

#[test]
fn d25_equal_settings_are_not_set_again() {
    let settings = &[("services", "pool_size = 1")];
    let stage = Stage::new(&Wanted { settings, audit: Audit::Off, ..Wanted::default() });
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    for raw in [&mut one, &mut two] {
        run(raw, "SET search_path = x");
        run(raw, "SET work_mem = '7MB'");
    }
    // The last query that the server has run tells whether there was another.
    let last = "SELECT query FROM pg_stat_activity WHERE pid = ";
    let mut spy = direct(&stage);
    for _ in 0..5 {
        for raw in [&mut one, &mut two] {
            let pid = backend(raw);
            assert_eq!(ask(&mut spy, &format!("{last}{pid}")), "SELECT pg_backend_pid()");
        }
    }
}

#[test]
fn settings_of_pgvector_follow_before_and_after_it_is_loaded() {
    let server = crate::stage::vector_server();
    let stage = Stage::new(&Wanted {
        kind: "vector",
        server: Some(server),
        settings: &[("services", "pool_size = 1")],
        audit: Audit::Clean,
        ..Wanted::default()
    });
    server.psql_in(&stage.role, "CREATE EXTENSION vector").unwrap();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "SET hnsw.ef_search = 77");
    let seen = "SELECT coalesce(current_setting('hnsw.ef_search', true), '')";
    assert_eq!(ask(&mut two, seen), "", "nobody knows it yet");
    assert_eq!(ask(&mut one, "SHOW hnsw.ef_search"), "77");
    assert_eq!(ask(&mut two, "SELECT '[1]'::vector"), "[1]");
    assert_eq!(ask(&mut two, "SHOW hnsw.ef_search"), "40");
    assert_eq!(ask(&mut one, "SHOW hnsw.ef_search"), "77");
    run(&mut one, "SET ivfflat.probes = 5");
    assert_eq!(ask(&mut two, "SHOW ivfflat.probes"), "1");
    assert_eq!(ask(&mut one, "SHOW ivfflat.probes"), "5");
    run(&mut one, "RESET hnsw.ef_search");
    assert_eq!(ask(&mut one, "SHOW hnsw.ef_search"), "40");
    assert_eq!(backend(&mut one), backend(&mut two), "nobody is pinned");
}

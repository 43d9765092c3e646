//! `session_reuse`: one session after the other on one server connection, and
//! nobody can tell, but for the server's own process id.

use std::time::Duration;

use super::cancel::{cancel_packet, key_of, request};
use super::pooled_client::{ask, run};
use super::raw::{Message, Raw, message, simple};
use super::stage::{PASSWORD, Stage, eventually, server};

fn reusing(further: &[(&str, &str)]) -> Stage {
    let mut settings = vec![("services", "session_reuse = true")];
    settings.extend(further);
    Stage::on_plan("hobbyist", &settings)
}

fn backends(stage: &Stage) -> u64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", stage.role);
    server().psql(&sql).unwrap().trim().parse().unwrap()
}

fn connections(stage: &Stage, used_as: &str) -> u64 {
    let node = server().address();
    let labels = format!("service=\"orders\",node=\"{node}\",state=\"{used_as}\"");
    stage.metric(&format!("postern_server_connections{{{labels}}}"))
}

fn log_in(stage: &Stage) -> (Raw, Vec<Message>) {
    Raw::log_in(stage, &[]).unwrap_or_else(|error| panic!("{error:?}"))
}

/// The process id that a client was told.
fn told(messages: &[Message]) -> String {
    key_of(messages).0.to_string()
}

/// Says Terminate, and waits until Postern is done with both connections.
fn leave(stage: &Stage, mut raw: Raw) {
    raw.send(&message(b'X', b""));
    assert!(raw.read_rest().is_empty());
    eventually("the connection to be closed, or ready for the next", || {
        connections(stage, "session") + connections(stage, "closing") == 0
            && connections(stage, "busy") == 0
    });
}

/// What a session can see of itself.
const SIGHT: &str = "SELECT pg_catalog.concat_ws('|', \
     (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
      WHERE source = 'session'), \
     current_setting('role'), session_user, current_user, current_setting('search_path'), \
     (SELECT count(*) FROM pg_prepared_statements), \
     (SELECT count(*) FROM pg_cursors), \
     (SELECT count(*) FROM pg_listening_channels()), \
     (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
     pg_my_temp_schema())";

/// The reports, in their order, and notices.
fn reports(messages: &[Message]) -> Vec<Message> {
    messages.iter().filter(|message| message.kind != b'K').cloned().collect()
}

#[test]
fn every_session_has_a_new_connection_unless_the_service_says_otherwise() {
    let stage = Stage::usual();
    let (raw, first) = log_in(&stage);
    leave(&stage, raw);
    assert_eq!(backends(&stage), 0);
    assert_ne!(told(&log_in(&stage).1), told(&first));
}

#[test]
fn nothing_of_a_session_is_seen_by_the_next() {
    let stage = reusing(&[]);
    let (mut raw, first) = log_in(&stage);
    run(&mut raw, "CREATE SEQUENCE s");
    let sight = ask(&mut raw, SIGHT);
    leave(&stage, raw);
    for left in [
        "SET work_mem = '9MB'; SET TimeZone = 'Asia/Tokyo'; SET search_path = pg_catalog",
        "SET client_encoding = 'LATIN1'; SET DateStyle = 'German'; SET application_name = 'x'",
        "SET default_transaction_read_only = on",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET SESSION AUTHORIZATION DEFAULT; SET ROLE NONE",
        "PREPARE p AS SELECT 'of another'",
        "LISTEN news; NOTIFY news",
        "SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "SELECT nextval('s')",
        "BEGIN; SELECT 1/0; ROLLBACK",
    ] {
        let (mut raw, _) = log_in(&stage);
        raw.query(left);
        raw.read_until(b'Z');
        if left.starts_with("BEGIN; SELECT 1/0") {
            run(&mut raw, "ROLLBACK");
        }
        leave(&stage, raw);
        let (mut raw, messages) = log_in(&stage);
        assert_eq!(told(&messages), told(&first), "it was not used again: {left}");
        assert_eq!(reports(&messages), reports(&first), "{left}");
        assert_eq!(ask(&mut raw, SIGHT), sight, "{left}");
        assert_eq!(ask(&mut raw, "SELECT pg_backend_pid()"), told(&first));
        for unknown in ["SELECT lastval()", "SELECT currval('s')"] {
            raw.query(unknown);
            assert_eq!(raw.read_until(b'E').pop().unwrap().sqlstate(), "55000", "{left}");
            raw.read_until(b'Z');
        }
        leave(&stage, raw);
    }
}

#[test]
fn the_unnamed_statement_ends_with_its_session() {
    let stage = reusing(&[]);
    let (mut raw, first) = log_in(&stage);
    raw.send(&message(b'P', b"\0SELECT 'of another'\0\0\0"));
    raw.send(&message(b'S', b""));
    raw.read_until(b'Z');
    leave(&stage, raw);
    let (mut raw, second) = log_in(&stage);
    assert_eq!(told(&second), told(&first));
    raw.send(&message(b'B', b"\0\0\0\0\0\0\0\0"));
    raw.send(&message(b'S', b""));
    assert_eq!(raw.read_until(b'E').pop().unwrap().sqlstate(), "26000");
}

#[test]
fn what_no_reset_ends_ends_the_connection() {
    let stage = reusing(&[]);
    server().psql(&format!("ALTER ROLE {} SUPERUSER", stage.role)).unwrap();
    for left in [
        "LOAD 'auto_explain'",
        "SET my.tenant = 'a'",
        "SELECT set_config('my.tenant', 'a', false)",
        "BEGIN; SET LOCAL my.tenant = 'a'; COMMIT",
        "SELECT setseed(0.5)",
        "CREATE TEMPORARY TABLE t (n int)",
        "DO $$ BEGIN EXECUTE 'CREATE TE' || 'MP TABLE t (n int)'; END $$",
        "CREATE EXTENSION dblink",
        "DROP EXTENSION dblink; CREATE TRUSTED LANGUAGE other HANDLER plpgsql_call_handler",
    ] {
        let (mut raw, first) = log_in(&stage);
        run(&mut raw, left);
        leave(&stage, raw);
        eventually("the connection to be gone", || backends(&stage) == 0);
        assert_ne!(told(&log_in(&stage).1), told(&first), "{left}");
        eventually("the connection to be gone", || connections(&stage, "session") == 0);
    }
    // A database with such a language has nothing to be used again.
    let (raw, _) = log_in(&stage);
    leave(&stage, raw);
    eventually("the connection to be gone", || backends(&stage) == 0);
}

#[test]
fn only_a_session_that_has_ended_well_leaves_its_connection() {
    let stage = reusing(&[]);
    let ends: [fn(&mut Raw); 5] = [
        |raw| raw.socket().shutdown(std::net::Shutdown::Write).unwrap(),
        |raw| {
            run(raw, "BEGIN");
            raw.send(&message(b'X', b""));
        },
        |raw| raw.send(&[simple("SELECT 1"), message(b'X', b"")].concat()),
        |raw| raw.send(&[message(b'P', b"\0SELECT 1\0\0\0"), message(b'X', b"")].concat()),
        |raw| raw.send(b"X\0\0\0\x08oh!!"),
    ];
    for (number, end) in ends.iter().enumerate() {
        let (mut raw, _) = log_in(&stage);
        end(&mut raw);
        eventually("its connection to be gone", || backends(&stage) == 0);
        assert_eq!(connections(&stage, "idle"), 0, "{number}");
    }
}

#[test]
fn a_terminate_in_pieces_and_what_follows_it_do_no_harm() {
    let stage = reusing(&[]);
    let (mut raw, first) = log_in(&stage);
    raw.send(&[message(b'X', b""), simple("SELECT 1/0")].concat());
    assert!(raw.read_rest().is_empty());
    eventually("the connection to be idle", || connections(&stage, "idle") == 1);
    let (mut raw, second) = log_in(&stage);
    assert_eq!(told(&first), told(&second));
    raw.send(b"X\0\0");
    std::thread::sleep(Duration::from_millis(100));
    raw.send(b"\0\x04");
    assert!(raw.read_rest().is_empty());
    eventually("the connection to be gone", || backends(&stage) == 0);
}

#[test]
fn startup_parameters_are_the_defaults_of_each_session() {
    let stage = reusing(&[]);
    let parameters = [
        [("application_name", "one")],
        [("application_name", "two")],
        [("options", "-c work_mem=7MB")],
    ];
    let mut first = Vec::new();
    for further in &parameters {
        let (mut raw, messages) = Raw::log_in(&stage, further).unwrap();
        run(&mut raw, "SET work_mem = '1MB'; SET application_name = 'mine'");
        first.push(told(&messages));
        leave(&stage, raw);
    }
    assert_eq!(backends(&stage), 3);
    for (further, pid) in parameters.iter().zip(&first) {
        let (mut raw, messages) = Raw::log_in(&stage, further).unwrap();
        assert_eq!(told(&messages), *pid);
        let (name, value) = further[0];
        let (name, value) = if name == "options" { ("work_mem", "7MB") } else { (name, value) };
        assert_eq!(ask(&mut raw, &format!("SHOW {name}")), value);
        run(&mut raw, &format!("SET {name} TO DEFAULT"));
        assert_eq!(ask(&mut raw, &format!("SHOW {name}")), value);
        leave(&stage, raw);
    }
}

#[test]
fn a_new_login_would_be_told_something_else() {
    let stage = reusing(&[]);
    let role = stage.role.clone();
    for (change, shown) in [
        (format!("ALTER ROLE {role} SET work_mem = '9MB'"), "9MB"),
        (format!("ALTER ROLE {role} IN DATABASE {role} SET work_mem = '8MB'"), "8MB"),
        (format!("ALTER ROLE {role} CREATEDB"), "8MB"),
    ] {
        let (raw, first) = log_in(&stage);
        leave(&stage, raw);
        assert_eq!(connections(&stage, "idle"), 1);
        server().psql(&change).unwrap();
        let (mut raw, second) = log_in(&stage);
        assert_ne!(told(&first), told(&second), "{change}");
        assert_eq!(ask(&mut raw, "SHOW work_mem"), shown);
        leave(&stage, raw);
    }
    server().psql(&format!("REVOKE CONNECT ON DATABASE {role} FROM PUBLIC, {role}")).unwrap();
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "42501");
}

#[test]
fn the_plan_is_exact_with_connections_that_wait_for_sessions() {
    let stage = reusing(&[]);
    let enter = |name| Raw::log_in(&stage, &[("application_name", name)]);
    let leave_all = |sessions: Vec<(Raw, Vec<Message>)>| {
        for (raw, _) in sessions {
            leave_soon(raw);
        }
        eventually("all to be idle", || connections(&stage, "idle") == 25);
    };
    let first: Vec<_> = (0..25).map(|_| enter("first").unwrap()).collect();
    assert_eq!(enter("first").err().unwrap().sqlstate(), "53300");
    let mut pids: Vec<_> = first.iter().map(|(_, messages)| told(messages)).collect();
    leave_all(first);
    assert_eq!(backends(&stage), 25);
    // The same again, and the others in their place.
    let again: Vec<_> = (0..25).map(|_| enter("first").unwrap()).collect();
    let mut pids_again: Vec<_> = again.iter().map(|(_, messages)| told(messages)).collect();
    pids.sort();
    pids_again.sort();
    assert_eq!(pids, pids_again);
    leave_all(again);
    let mut others = Vec::new();
    for _ in 0..25 {
        others.push(enter("other").unwrap_or_else(|error| panic!("{error:?}")));
        assert!(backends(&stage) <= 25);
    }
    assert_eq!(enter("first").err().unwrap().sqlstate(), "53300");
    // Pools get their share as well.
    leave_all(others);
    let (mut pooled, _) = Raw::enter(&stage, stage.transaction_port, &[]).unwrap();
    assert_eq!(ask(&mut pooled, "SELECT 1"), "1");
    assert_eq!(backends(&stage), 25);
}

fn leave_soon(mut raw: Raw) {
    raw.send(&message(b'X', b""));
    assert!(raw.read_rest().is_empty());
}

#[test]
fn a_changed_password_closes_what_waits_for_sessions() {
    let stage = reusing(&[]);
    let (open, _) = log_in(&stage);
    let (raw, _) = log_in(&stage);
    leave_soon(raw);
    eventually("the connection to be idle", || connections(&stage, "idle") == 1);
    server().psql(&format!("ALTER ROLE {} PASSWORD 'another'", stage.role)).unwrap();
    eventually("the idle connection to be gone", || backends(&stage) == 1);
    leave_soon(open);
    eventually("the other one to be gone", || backends(&stage) == 0);
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "28P01");
    server().psql(&format!("ALTER ROLE {} PASSWORD '{PASSWORD}'", stage.role)).unwrap();
}

#[test]
fn cancel_reaches_the_session_that_asks_on_a_connection_used_again() {
    let stage = reusing(&[]);
    let (raw, first) = log_in(&stage);
    leave(&stage, raw);
    let (mut raw, second) = log_in(&stage);
    assert_eq!(told(&first), told(&second));
    let packet = |messages: &[Message]| {
        let (process_id, key) = key_of(messages);
        cancel_packet(process_id, &key)
    };
    assert_ne!(packet(&first), packet(&second));
    raw.query("SELECT pg_sleep(30)");
    std::thread::sleep(Duration::from_millis(200));
    request(&stage, &packet(&first));
    std::thread::sleep(Duration::from_millis(200));
    let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", told(&second));
    assert_eq!(server().psql(&waits).unwrap().trim(), "PgSleep");
    request(&stage, &packet(&second));
    assert_eq!(raw.read_until(b'E').pop().unwrap().sqlstate(), "57014");
}

#[test]
fn what_waits_for_sessions_ages_and_is_given_up_by_a_reload() {
    let stage = reusing(&[("services", "server_idle_timeout = \"1s\"")]);
    let (raw, _) = log_in(&stage);
    leave(&stage, raw);
    assert_eq!(backends(&stage), 1);
    eventually("it to be idle for too long", || backends(&stage) == 0);
    let stage = reusing(&[]);
    let (raw, _) = log_in(&stage);
    let (other, _) = log_in(&stage);
    leave_soon(raw);
    eventually("the connection to be idle", || connections(&stage, "idle") == 1);
    stage.edit_configuration(|text| text.replace("session_reuse = true", ""));
    stage.block_on(stage.postern().reload()).unwrap();
    eventually("it to be given up", || backends(&stage) == 1);
    leave(&stage, other);
    eventually("the other, too", || backends(&stage) == 0);
}

#[test]
fn a_server_that_ends_an_idle_connection_is_not_met() {
    let stage = reusing(&[]);
    let (raw, first) = log_in(&stage);
    leave(&stage, raw);
    server().psql(&format!("SELECT pg_terminate_backend({}, 5000)", told(&first))).unwrap();
    let (mut raw, second) = log_in(&stage);
    assert_ne!(told(&first), told(&second));
    assert_eq!(ask(&mut raw, "SELECT 1"), "1");
}

#[test]
fn replication_is_never_used_again() {
    let stage = reusing(&[]);
    server().psql(&format!("ALTER ROLE {} REPLICATION", stage.role)).unwrap();
    let (raw, _) = Raw::log_in(&stage, &[("replication", "database")]).unwrap();
    leave(&stage, raw);
    eventually("it to be gone", || backends(&stage) == 0);
    assert_eq!(connections(&stage, "idle"), 0);
}

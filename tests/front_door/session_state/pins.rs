//! What cannot be carried keeps its connection, and no longer than it is there
//! (decision 27).

use std::time::Duration;

use super::*;
use crate::pooled_client::{bind, close, execute, parse, send, sync};
use crate::raw::message;
use crate::stage::eventually;

pub(super) fn pinned(stage: &Stage) -> u32 {
    stage.postern().door().slots.counts()[0].counts.pinned
}

/// Runs the texts; the connection is kept behind each but the last.
pub(super) fn keeps_until_the_last(stage: &Stage, texts: &[&str]) {
    let mut raw = pooled(stage);
    let (last, before) = texts.split_last().unwrap();
    for text in before {
        run(&mut raw, text);
        assert_eq!(pinned(stage), 1, "{text}");
    }
    run(&mut raw, last);
    eventually(last, || pinned(stage) == 0);
    assert_eq!(ask(&mut pooled(stage), "SELECT 'next'"), "next");
}

#[test]
fn d28_a_pin_ends_when_what_it_is_for_does() {
    let stage = narrow();
    let check = |texts: &[&str]| keeps_until_the_last(&stage, texts);
    check(&["LISTEN a", "LISTEN b", "UNLISTEN a", "SELECT 1", "UNLISTEN b"]);
    check(&["LISTEN a", "UNLISTEN *"]);
    check(&[
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_unlock(1)",
        "SELECT pg_advisory_unlock(1)",
    ]);
    check(&["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()"]);
    check(&["CREATE TEMP TABLE t (n int)", "INSERT INTO t VALUES (1)", "DROP TABLE t"]);
    check(&["SELECT 1 AS n INTO TEMP t", "DISCARD TEMP"]);
    check(&["CREATE TEMP SEQUENCE s", "DROP SEQUENCE s"]);
    check(&["CREATE FUNCTION pg_temp.f() RETURNS int RETURN 1", "DROP FUNCTION pg_temp.f"]);
    check(&["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "FETCH c", "CLOSE c"]);
    check(&["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL"]);
    check(&["PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p"]);
    check(&["PREPARE p AS SELECT 1", "PREPARE q AS SELECT 1", "DEALLOCATE ALL"]);
    check(&["SELECT setseed(0.5)", "DISCARD ALL"]);
    check(&["LISTEN a", "CREATE TEMP TABLE t (n int)", "DISCARD ALL"]);
    check(&["SELECT set_config('a' || '.b', 'c', false)", "RESET ALL"]);
}

#[test]
fn what_a_reload_refuses_is_refused_on_connections_that_are_open() {
    let stage = narrow();
    let mut raw = pooled(&stage);
    run(&mut raw, "LISTEN a");
    run(&mut raw, "UNLISTEN a");
    stage.edit_configuration(|text| {
        text.replacen("pool_size = 1", "pool_size = 1\nrefuse_state = [\"listen\"]", 1)
    });
    stage.block_on(stage.postern().reload()).unwrap();
    raw.query("LISTEN a");
    assert_eq!(raw.read_until(b'Z')[0].sqlstate(), "0A000");
}

#[test]
fn transactions_are_counted_by_what_becomes_of_the_connection() {
    let stage = narrow();
    let counted = |connection: &str| {
        let labels = format!("service=\"orders\",connection=\"{connection}\"");
        stage.metric(&format!("postern_pooled_transactions_total{{{labels}}}"))
    };
    let mut raw = pooled(&stage);
    // What Postern itself says to find out about settings is no transaction of
    // the client's, and a block is one.
    for sql in ["SELECT 1", "SET work_mem = '5MB'", "BEGIN", "SELECT 1", "COMMIT"] {
        run(&mut raw, sql);
    }
    assert_eq!((counted("shared"), counted("pinned")), (3, 0));
    for sql in ["LISTEN a", "SELECT 1"] {
        run(&mut raw, sql);
    }
    // Five in one write are five.
    raw.send(&message(b'Q', b"SELECT 1\0").repeat(5));
    (0..5).for_each(|_| drop(raw.read_until(b'Z')));
    assert_eq!((counted("shared"), counted("pinned")), (3, 7));
}

#[test]
fn d28_what_never_came_to_be_keeps_nothing() {
    let stage = narrow();
    let check = |texts: &[&str]| keeps_until_the_last(&stage, texts);
    check(&["BEGIN; LISTEN a; ROLLBACK"]);
    check(&["BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP; COMMIT"]);
    check(&["BEGIN; CREATE TEMP TABLE t (n int); ROLLBACK"]);
    check(&["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; ROLLBACK"]);
    check(&["SELECT pg_advisory_lock(1), pg_advisory_unlock(1)"]);
    let mut holder = direct(&stage);
    run(&mut holder, "SELECT pg_advisory_lock(7)");
    let mut raw = pooled(&stage);
    assert_eq!(ask(&mut raw, "SELECT pg_try_advisory_lock(7)"), "f");
    eventually("no pin without a lock", || pinned(&stage) == 0);
}

/// What Postern asks behind a LISTEN is answered at the same time.
#[test]
fn d29_no_notification_is_lost_while_postern_asks_for_itself() {
    const NEWS: usize = 300;
    let stage = Stage::with(&[("services", "pool_size = 2")]);
    let (mut listener, mut notifier) = (pooled(&stage), direct(&stage));
    run(&mut listener, "LISTEN news");
    let notifying = std::thread::spawn(move || {
        (0..NEWS).for_each(|n| run(&mut notifier, &format!("NOTIFY news, '{n}'")));
    });
    let mut heard = 0;
    while !notifying.is_finished() {
        listener.query("LISTEN news");
        heard += listener.read_until(b'Z').iter().filter(|m| m.kind == b'A').count();
    }
    notifying.join().unwrap();
    while heard < NEWS {
        assert_eq!(listener.read().kind, b'A', "{heard} of {NEWS} heard");
        heard += 1;
    }
}

#[test]
fn d29_notifications_arrive_while_the_client_is_idle() {
    let stage = Stage::with(&[("services", "pool_size = 2")]);
    let (mut listener, mut notifier) = (pooled(&stage), pooled(&stage));
    run(&mut listener, "LISTEN news");
    for n in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        run(&mut notifier, &format!("NOTIFY news, '{n}'"));
        let message = listener.read();
        assert_eq!(message.kind, b'A');
        assert!(message.body.ends_with(format!("news\0{n}\0").as_bytes()));
    }
    run(&mut listener, "UNLISTEN news");
    run(&mut notifier, "NOTIFY news, 'unheard'");
    assert_eq!(ask(&mut listener, "SELECT 'quiet'"), "quiet");
}

#[test]
fn d21_a_name_is_its_clients_whoever_prepares_it() {
    let stage = Stage::with(&[("services", "pool_size = 3")]);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "PREPARE p AS SELECT 'one'");
    run(&mut two, "PREPARE p AS SELECT 'two'");
    for _ in 0..3 {
        assert_eq!(ask(&mut one, "EXECUTE p"), "one");
        assert_eq!(ask(&mut two, "EXECUTE p"), "two");
    }
    assert_eq!(refused(&mut pooled(&stage), "EXECUTE p").sqlstate(), "26000");
}

#[test]
fn d21_sql_speaks_of_statements_of_the_protocol() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    send(&mut one, &[parse("s", "SELECT 'protocol'"), sync()]);
    for _ in 0..2 {
        assert_eq!(ask(&mut one, "EXECUTE s"), "protocol");
        assert_eq!(refused(&mut two, "EXECUTE s").sqlstate(), "26000");
        let messages = send(&mut one, &[parse("", "EXECUTE s"), bind(""), execute(), sync()]);
        assert_eq!(crate::pooled_client::value(&messages), "protocol");
        assert_eq!(refused(&mut two, "EXECUTE s").sqlstate(), "26000");
    }
    // The session goes on after a failed transaction block, too.
    run(&mut one, "BEGIN");
    assert_eq!(refused(&mut one, "SELECT 1/0").sqlstate(), "22012");
    assert_eq!(refused(&mut one, "EXECUTE s").sqlstate(), "25P02");
    run(&mut one, "ROLLBACK");
    assert_eq!(ask(&mut one, "EXECUTE s"), "protocol");
    send(&mut one, &[close("s"), sync()]);
    assert_eq!(refused(&mut one, "EXECUTE s").sqlstate(), "26000");
}

#[test]
fn what_a_prepared_statement_does_is_known_when_sql_runs_it() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let usual = ask(&mut two, "SHOW work_mem");
    run(&mut one, "PREPARE p AS SELECT set_config('work_mem', '7MB', false)");
    run(&mut one, "EXECUTE p");
    run(&mut one, "DEALLOCATE p");
    assert_eq!(ask(&mut two, "SHOW work_mem"), usual);
    assert_eq!(ask(&mut one, "SHOW work_mem"), "7MB");
    send(&mut one, &[parse("s", "SELECT set_config('work_mem', '8MB', false)"), sync()]);
    run(&mut one, "EXECUTE s");
    assert_eq!(ask(&mut two, "SHOW work_mem"), usual);
    assert_eq!(ask(&mut one, "SHOW work_mem"), "8MB");
    run(&mut one, "PREPARE p AS SELECT pg_advisory_lock(1)");
    run(&mut one, "EXECUTE p");
    run(&mut one, "DEALLOCATE p");
    assert_eq!(pinned(&stage), 1);
    run(&mut one, "SELECT pg_advisory_unlock(1)");
    assert_eq!(ask(&mut two, "SELECT 'next'"), "next");
}

#[test]
fn a_table_is_temporary_where_a_local_path_makes_it_so() {
    let stage = narrow();
    let check = |texts: &[&str]| keeps_until_the_last(&stage, texts);
    let made = "CREATE TABLE t (n int); COMMIT";
    check(&[&format!("BEGIN; SET LOCAL search_path = pg_temp, public; {made}"), "DROP TABLE t"]);
    check(&[&format!("BEGIN; SET LOCAL search_path TO \"pg_temp\"; {made}"), "DROP TABLE t"]);
    let called = "BEGIN; SELECT set_config('search_path', 'public, pg_temp', true)";
    check(&[&format!("{called}; CREATE TABLE pg_temp.t (n int); COMMIT"), "DROP TABLE t"]);
    let called = "BEGIN; SELECT set_config('search_path', 'pg_temp', true)";
    check(&[&format!("{called}; {made}"), "DROP TABLE t"]);
}

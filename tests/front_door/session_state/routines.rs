//! What functions and procedures leave on the connection is found in their
//! sources (decision 22).

use super::pins::{keeps_until_the_last, pinned};
use super::*;
use crate::pooled_client::{bind, execute, narrow_with, parse, send, sync};
use crate::stage::{Audit, eventually};

/// Runs a text by the extended protocol, as an unnamed statement.
fn run_extended(raw: &mut Raw, sql: &str) {
    let messages = send(raw, &[parse("", sql), bind(""), execute(), sync()]);
    assert!(messages.iter().all(|m| m.kind != b'E'), "{sql}: {messages:?}");
}

fn stage_with(routines: &[&str]) -> Stage {
    let stage = narrow();
    let mut owner = direct(&stage);
    for routine in routines {
        run(&mut owner, routine);
    }
    stage
}

const SETS: &str = "CREATE FUNCTION sets(path text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
    PERFORM set_config('search_path', path, false); END $$";
const TAKES: &str = "CREATE FUNCTION takes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
    PERFORM pg_advisory_lock(1); END $$";
const GIVES: &str = "CREATE FUNCTION gives() RETURNS boolean LANGUAGE sql \
    AS 'SELECT pg_advisory_unlock(1)'";
const CHOOSES: &str = "CREATE PROCEDURE chooses() LANGUAGE plpgsql AS $$ BEGIN \
    SET work_mem = '7MB'; END $$";
const PUTS_TOGETHER: &str = "CREATE PROCEDURE puts_together(size text) LANGUAGE plpgsql AS $$ \
    BEGIN EXECUTE format('SET work_mem = %L', size); END $$";
const UPDATES: &str = "CREATE FUNCTION updates() RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
    UPDATE notes SET note = ''; \
    PERFORM set_config('my.own', 'x', true); END $$";

#[test]
fn what_a_function_sets_follows_its_client_and_no_other() {
    let stage = stage_with(&[SETS]);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let runs: [fn(&mut Raw, &str); 2] = [run, run_extended];
    for (n, run) in runs.into_iter().enumerate() {
        run(&mut one, &format!("SELECT public.sets('one_{n}')"));
        assert_ne!(ask(&mut two, "SHOW search_path"), format!("one_{n}"));
        run(&mut two, &format!("SELECT \"sets\" ('two_{n}') FROM public.sets('x')"));
        assert_eq!(ask(&mut one, "SHOW search_path"), format!("one_{n}"));
        run(&mut two, "RESET search_path");
    }
    run(&mut one, "BEGIN; SELECT public.sets('gone'); ROLLBACK");
    assert_eq!(ask(&mut one, "SHOW search_path"), "one_1");
    assert_eq!(backend(&mut one), backend(&mut two), "nobody is pinned");
}

#[test]
fn what_a_procedure_sets_follows_its_client_or_keeps_its_connection() {
    let stage = stage_with(&[CHOOSES, PUTS_TOGETHER]);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let usual = ask(&mut two, "SHOW work_mem");
    run(&mut one, "CALL chooses()");
    assert_eq!(ask(&mut two, "SHOW work_mem"), usual);
    assert_eq!(ask(&mut one, "SHOW work_mem"), "7MB");
    run_extended(&mut two, "CALL chooses()");
    assert_eq!(ask(&mut two, "SHOW work_mem"), "7MB");
    assert_eq!(pinned(&stage), 0);
    keeps_until_the_last(&stage, &["CALL puts_together('8MB')", "SELECT 1", "RESET ALL"]);
}

#[test]
fn a_lock_that_a_function_takes_keeps_the_connection_until_one_gives_it_back() {
    let stage = stage_with(&[TAKES, GIVES]);
    keeps_until_the_last(&stage, &["SELECT takes()", "SELECT 1", "SELECT gives()"]);
    let mut raw = pooled(&stage);
    send(&mut raw, &[parse("take", "SELECT takes()"), parse("give", "SELECT gives()"), sync()]);
    assert_eq!(pinned(&stage), 0);
    send(&mut raw, &[bind("take"), execute(), sync()]);
    assert_eq!(pinned(&stage), 1);
    let seat = &stage.postern().door().roster.seats()[0];
    assert_eq!(format!("{:?}", seat.pins()), "{AdvisoryLock}");
    send(&mut raw, &[bind("give"), execute(), sync()]);
    assert_eq!(ask(&mut pooled(&stage), "SELECT 'next'"), "next");
}

#[test]
fn who_calls_such_a_function_is_like_it() {
    let stage = stage_with(&[
        TAKES,
        "CREATE FUNCTION \"Calls it\"() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT takes(); END",
        "CREATE FUNCTION calls() RETURNS void LANGUAGE sql AS 'SELECT Takes()'",
        "CREATE PROCEDURE outermost() LANGUAGE plpgsql AS $$ BEGIN PERFORM calls(); END $$",
    ]);
    for call in ["SELECT calls()", "CALL outermost()", "SELECT \"Calls it\"()"] {
        keeps_until_the_last(&stage, &[call, "SELECT pg_advisory_unlock(1)"]);
    }
}

#[test]
fn a_function_counts_from_when_it_is_defined_to_when_it_is_defined_otherwise() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "CREATE TABLE notes (note text)");
    run(&mut one, UPDATES);
    send(&mut two, &[parse("s", "SELECT updates()"), sync()]);
    let mut call = |pins: u32| {
        for way in 0..3 {
            match way {
                0 => run(&mut two, "SELECT updates()"),
                1 => run_extended(&mut two, "SELECT updates()"),
                _ => drop(send(&mut two, &[bind("s"), execute(), sync()])),
            }
            assert_eq!(pinned(&stage), pins, "{way}");
            run(&mut two, "SELECT pg_advisory_unlock_all()");
            eventually("nothing keeps the connection", || pinned(&stage) == 0);
        }
    };
    call(0);
    let or_replace =
        |sql: &str, name: &str| sql.replace("CREATE", "CREATE OR REPLACE").replace(name, "updates");
    run(&mut one, &or_replace(TAKES, "takes"));
    call(1);
    run(&mut one, &format!("BEGIN; {}; COMMIT", or_replace(UPDATES, "updates")));
    call(0);
}

#[test]
fn who_keeps_a_connection_hears_of_new_functions_too() {
    let stage = Stage::with(&[("services", "pool_size = 2")]);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "LISTEN a");
    run(&mut two, SETS);
    run(&mut one, "SELECT sets('mine')");
    run(&mut one, "UNLISTEN a");
    let mut others: Vec<_> = (0..2).map(|_| pooled(&stage)).collect();
    for other in &mut others {
        run(other, "BEGIN");
        assert_eq!(ask(other, "SHOW search_path"), "\"$user\", public");
    }
    drop(others);
    assert_eq!(ask(&mut one, "SHOW search_path"), "mine");
}

#[test]
fn a_long_source_is_read_to_its_end() {
    let padding = "    -- a comment: é\n".repeat(6000);
    let takes = TAKES.replace("BEGIN ", &format!("BEGIN\n{padding}"));
    let stage = stage_with(&[&takes, GIVES]);
    keeps_until_the_last(&stage, &["SELECT takes()", "SELECT gives()"]);
}

#[test]
fn what_is_defined_in_another_way_is_noticed_soon() {
    // Until then it is not seen, and an audit would find it.
    let stage = narrow_with(Audit::Off);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "SELECT 'routines are known'");
    run(&mut one, &format!("DO $do$ BEGIN {TAKES}; END $do$"));
    eventually("the function is known", || {
        run(&mut two, "SELECT takes()");
        let is_pinned = pinned(&stage) == 1;
        run(&mut two, "SELECT pg_advisory_unlock_all()");
        is_pinned
    });
}

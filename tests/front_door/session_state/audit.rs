//! The audit of decision 28, and what a service refuses instead of keeping.

use super::*;
use crate::pooled_client::narrow_with;
use crate::pooled_client::{bind, execute, parse, send, sync};
use crate::stage::Audit;

const CLEAN: &str = "postern_audits_total{outcome=\"clean\",service=\"orders\"}";
const MISMATCH: &str = "postern_audits_total{outcome=\"mismatch\",service=\"orders\"}";

/// A table whose trigger changes the session: no statement tells of it.
const HIDDEN: &str = "\
    CREATE FUNCTION hidden() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM set_config('search_path', 'evil', false); \
        PERFORM set_config('role', 'none', false); \
        PERFORM pg_advisory_lock(5); \
        RETURN NEW; END $$; \
    CREATE TABLE trap (n integer); \
    CREATE TRIGGER hidden BEFORE INSERT ON trap EXECUTE FUNCTION hidden()";

#[test]
fn d28_what_no_tracker_sees_is_caught_by_the_audit() {
    let stage = narrow_with(Audit::Found);
    run(&mut direct(&stage), HIDDEN);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let before = backend(&mut two);
    run(&mut one, "INSERT INTO trap VALUES (1)");
    assert_eq!(ask(&mut two, "SHOW search_path"), "\"$user\", public");
    assert_ne!(backend(&mut two), before, "its connection was closed");
    // Postern's own are in the database of its management role.
    let locks = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database \
        WHERE locktype = 'advisory' AND d.datname = current_database()";
    assert_eq!(ask(&mut two, locks), "0");
    assert_eq!(stage.metric(MISMATCH), 1);
    assert!(stage.metric(CLEAN) > 2);
    assert_eq!(ask(&mut one, "SELECT 'goes on'"), "goes on");
}

#[test]
fn without_the_audit_the_gap_is_as_it_is_told() {
    let stage = narrow_with(Audit::Off);
    run(&mut direct(&stage), HIDDEN);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "INSERT INTO trap VALUES (1)");
    assert_eq!(ask(&mut two, "SHOW search_path"), "evil");
}

#[test]
fn state_that_a_service_refuses_is_an_error_with_a_hint() {
    let settings = [
        ("services", "pool_size = 1"),
        ("services", "refuse_state = [\"advisory_lock\", \"listen\"]"),
    ];
    let stage = Stage::with(&settings);
    let mut raw = pooled(&stage);
    for _ in 0..2 {
        let error = refused(&mut raw, "SELECT pg_advisory_lock(1)");
        assert_eq!(error.sqlstate(), "0A000");
        assert_eq!(error.field(b'S').unwrap(), "ERROR");
        assert!(error.field(b'H').unwrap().contains("session endpoint"));
    }
    run(&mut raw, "BEGIN");
    assert_eq!(refused(&mut raw, "LISTEN a").sqlstate(), "0A000");
    assert_eq!(refused(&mut raw, "SELECT 1").sqlstate(), "25P02");
    run(&mut raw, "ROLLBACK");
    let messages = send(&mut raw, &[parse("", "LISTEN a"), bind(""), execute(), sync()]);
    assert_eq!(messages[0].sqlstate(), "0A000");
    run(&mut raw, "PREPARE p AS SELECT 1");
    let refusals = "postern_refusals_total{reason=\"state_refused\",service=\"orders\"}";
    assert_eq!(stage.metric(refusals), 4);
    let pins = "postern_pins_total{reason=\"sql_prepare\",service=\"orders\"}";
    assert_eq!(stage.metric(pins), 1);
    let seat = &stage.postern().door().roster.seats()[0];
    assert_eq!(format!("{:?}", seat.pins()), "{SqlPrepare}");
}

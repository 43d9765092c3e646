//! `currval` and `lastval`: what this session has done with sequences, or an
//! error, and never what others have done.

use super::*;
use crate::pooled_client::{bind, execute, parse, send, sync, value};

const NOT_YET: &str = "55000";

fn with_sequence(stage: &Stage) {
    run(&mut direct(stage), "CREATE SEQUENCE s; CREATE TABLE t (id serial, n integer)");
}

#[test]
fn nobody_hears_what_others_have_drawn() {
    let stage = narrow();
    with_sequence(&stage);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    assert_eq!(ask(&mut one, "SELECT nextval('s')"), "1");
    assert_eq!(ask(&mut two, "SELECT nextval('s')"), "2");
    for sql in ["SELECT currval('s')", "SELECT lastval()"] {
        let mut fresh = pooled(&stage);
        assert_eq!(refused(&mut fresh, sql).sqlstate(), NOT_YET);
    }
    assert_eq!(refused(&mut one, "SELECT currval('s')").sqlstate(), NOT_YET);
    assert_eq!(ask(&mut one, "SELECT nextval('s')"), "3", "it is pinned from now on");
    assert_eq!(ask(&mut one, "SELECT currval('s')"), "3");
    run(&mut one, "DISCARD SEQUENCES");
    let texts = [parse("last", "SELECT lastval()"), bind("last"), execute(), sync()];
    assert_eq!(send(&mut two, &texts)[2].sqlstate(), NOT_YET);
    let texts = [bind("last"), execute(), sync()];
    assert_eq!(send(&mut two, &texts)[1].sqlstate(), NOT_YET);
    assert_eq!(ask(&mut two, "SELECT nextval('s')"), "4");
    assert_eq!(value(&send(&mut two, &texts)), "4");
}

#[test]
fn a_transaction_knows_what_it_has_drawn_itself() {
    let stage = narrow();
    with_sequence(&stage);
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut two, "INSERT INTO t (n) VALUES (0)");
    run(&mut one, "BEGIN; INSERT INTO t (n) VALUES (1)");
    assert_eq!(ask(&mut one, "SELECT lastval()"), "2");
    run(&mut one, "COMMIT");
    run(&mut one, "DISCARD ALL");
    run(&mut two, "INSERT INTO t (n) VALUES (0)");
    assert_eq!(ask(&mut one, "INSERT INTO t (n) VALUES (1); SELECT lastval()"), "4");
}

#[test]
fn whoever_is_alone_with_a_connection_knows_all_of_it() {
    let stage = narrow();
    with_sequence(&stage);
    let mut one = pooled(&stage);
    run(&mut one, "INSERT INTO t (n) VALUES (1)");
    assert_eq!(ask(&mut one, "SELECT currval('t_id_seq')"), "1");
}

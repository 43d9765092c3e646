//! Prepared statements of the protocol on the transaction endpoint: named and
//! unnamed, evicted, displaced, skipped, and gone wrong (decision 26).

use super::pooled_client::{
    ask, bind, close, describe, direct, execute, kinds, narrow, parse, pooled, run, send, sync,
    value,
};
use super::raw::{Message, Raw, message};
use super::stage::Stage;

#[test]
fn prepared_statements_work_on_whatever_connection() {
    let stage =
        Stage::with(&[("services", "pool_size = 3"), ("services", "max_prepared_statements = 2")]);
    let mut clients: Vec<_> = (0..6).map(|_| pooled(&stage)).collect();
    for (n, raw) in clients.iter_mut().enumerate() {
        let name = "same";
        let messages =
            send(raw, &[parse(name, &format!("SELECT 'client {n}'")), describe(name), sync()]);
        assert_eq!(kinds(&messages), "1tTZ");
    }
    std::thread::scope(|scope| {
        for (n, raw) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for round in 0..40 {
                    let messages = send(raw, &[bind("same"), execute(), sync()]);
                    assert_eq!(kinds(&messages), "2DCZ", "{messages:?}");
                    assert_eq!(value(&messages), format!("client {n}"));
                    let name = format!("other {round}");
                    let sql = format!("SELECT {round}");
                    let messages = send(
                        raw,
                        &[parse(&name, &sql), bind(&name), execute(), close(&name), sync()],
                    );
                    assert_eq!(kinds(&messages), "12DC3Z", "{messages:?}");
                }
            });
        }
    });
}

#[test]
fn fewer_prepared_statements_are_kept_after_a_reload() {
    let stage =
        Stage::with(&[("services", "pool_size = 1"), ("services", "max_prepared_statements = 6")]);
    let mut raw = pooled(&stage);
    let prepare = |raw: &mut Raw, name: &str| {
        let messages = send(raw, &[parse(name, &format!("SELECT '{name}'")), sync()]);
        assert_eq!(kinds(&messages), "1Z");
    };
    let kept = |raw: &mut Raw| {
        ask(raw, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'postern%'")
    };
    for n in 0..8 {
        prepare(&mut raw, &format!("s{n}"));
    }
    assert_eq!(kept(&mut raw), "6");
    let few = "max_prepared_statements = 2";
    stage.edit_configuration(|text| text.replace("max_prepared_statements = 6", few));
    stage.block_on(stage.postern().reload()).unwrap();
    prepare(&mut raw, "one more");
    assert_eq!(kept(&mut raw), "2");
    let messages = send(&mut raw, &[bind("s0"), execute(), sync()]);
    assert_eq!(value(&messages), "s0");
}

#[test]
fn statements_go_wrong_as_they_do_on_postgresql() {
    let stage = narrow();
    let (mut pooled, mut direct) = (pooled(&stage), direct(&stage));
    run(&mut direct, "CREATE TABLE things (n integer)");
    let good = parse("good", "SELECT n FROM things");
    let bad = parse("bad", "SELEC");
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("a good one", vec![good.clone(), sync()]),
        ("its name again", vec![good.clone(), bind("good"), sync()]),
        ("still there", vec![bind("good"), execute(), sync()]),
        ("a bad one", vec![bad.clone(), bind("bad"), sync()]),
        ("not there", vec![bind("bad"), execute(), sync()]),
        ("behind an error", vec![bad.clone(), parse("late", "SELECT 1"), close("good"), sync()]),
        ("so it is not there", vec![bind("late"), execute(), sync()]),
        ("and not closed", vec![bind("good"), execute(), sync()]),
        ("closed", vec![close("good"), close("never was"), sync()]),
        ("gone", vec![bind("good"), execute(), sync()]),
        ("prepared again", vec![good.clone(), describe("good"), bind("good"), execute(), sync()]),
        ("unnamed", vec![parse("", "SELECT 1"), sync()]),
        ("unnamed, later", vec![bind(""), execute(), sync()]),
        ("unnamed, ended by a query", vec![message(b'Q', b"SELECT 2\0")]),
        ("unnamed, gone", vec![bind(""), execute(), sync()]),
        ("deallocated by SQL", vec![message(b'Q', b"DEALLOCATE good\0")]),
        ("gone by SQL", vec![bind("good"), execute(), sync()]),
        ("deallocated twice", vec![message(b'Q', b"DEALLOCATE good\0")]),
        ("prepared a third time", vec![good.clone(), sync()]),
        ("all of them", vec![message(b'Q', b"DEALLOCATE ALL\0")]),
        ("none left", vec![bind("good"), execute(), sync()]),
        ("guessed", vec![bind("postern_00"), sync()]),
    ];
    for (what, messages) in cases {
        let strip = |messages: Vec<Message>| -> Vec<(u8, Vec<u8>)> {
            let told = |m: Message| match m.kind {
                b'E' => (m.kind, [m.sqlstate(), m.field(b'M').unwrap()].concat().into_bytes()),
                _ => (m.kind, m.body),
            };
            messages.into_iter().map(told).collect()
        };
        let expected = strip(send(&mut direct, &messages));
        let answered = strip(send(&mut pooled, &messages));
        if what == "guessed" {
            assert_eq!(answered.len(), expected.len());
        } else {
            assert_eq!(answered, expected, "{what}");
        }
    }
}

#[test]
fn d22_a_changed_table_is_seen_after_one_error_at_most() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    run(&mut one, "CREATE TABLE wide (a integer)");
    let prepared = [parse("s", "SELECT * FROM wide"), sync()];
    send(&mut one, &prepared);
    send(&mut one, &[bind("s"), execute(), sync()]);
    run(&mut two, "ALTER TABLE wide ADD COLUMN b integer");
    let first = send(&mut one, &[bind("s"), execute(), sync()]);
    let second = send(&mut one, &[bind("s"), execute(), sync()]);
    assert!(kinds(&first).contains('E') || kinds(&first) == "2CZ");
    assert_eq!(kinds(&second), "2CZ");
}

/// PostgreSQL analyses a statement when it is parsed, so one that was parsed
/// before the table has changed is no answer to a Parse behind it.
#[test]
fn d11_a_parse_behind_a_change_of_the_schema_is_analysed_anew() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let types = |client: &mut Raw, name: &str| -> Vec<u8> {
        let text = "INSERT INTO changing VALUES ($1)";
        let answer = send(client, &[parse(name, text), describe(name), sync()]);
        answer.into_iter().find(|message| message.kind == b't').expect("its parameters").body
    };
    let of_type = |oid: u32| [&1u16.to_be_bytes()[..], &oid.to_be_bytes()].concat();
    run(&mut one, "CREATE TABLE changing (v integer)");
    assert_eq!(types(&mut one, "first"), of_type(23));
    run(&mut two, "ALTER TABLE changing ALTER v TYPE text");
    assert_eq!(types(&mut one, "second"), of_type(25));
    assert_eq!(types(&mut two, "first"), of_type(25));
    run(&mut two, "BEGIN");
    run(&mut two, "ALTER TABLE changing ALTER v TYPE boolean USING false");
    assert_eq!(types(&mut two, "inside"), of_type(16));
    run(&mut two, "ROLLBACK");
    assert_eq!(types(&mut one, "third"), of_type(25));
    assert_eq!(types(&mut two, "behind"), of_type(25));
    run(&mut one, "DO $$ BEGIN EXECUTE 'ALTER TABLE changing ADD w text'; END $$");
    run(&mut one, "ALTER TABLE changing ALTER v TYPE date USING now()");
    assert_eq!(types(&mut two, "last"), of_type(1082));
}

#[test]
fn the_unnamed_statement_belongs_to_its_client() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    send(&mut one, &[parse("", "SELECT 'one'"), sync()]);
    send(&mut two, &[parse("", "SELECT 'two'"), sync()]);
    assert_eq!(value(&send(&mut one, &[bind(""), execute(), sync()])), "one");
    assert_eq!(value(&send(&mut two, &[bind(""), execute(), sync()])), "two");
    let mut three = pooled(&stage);
    assert_eq!(send(&mut three, &[bind(""), execute(), sync()])[0].sqlstate(), "26000");
}

/// How it was read nobody knows, so that no other connection gets it.
#[test]
fn an_unnamed_statement_behind_a_set_in_its_batch_is_not_prepared_again() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let set = [parse("", "SET datestyle = 'ISO, DMY'"), bind(""), execute()].concat();
    let date = parse("", "SELECT '02/03/2024'::date::text");
    let run = || [bind(""), execute(), sync()];
    assert_eq!(value(&send(&mut one, &[[set, date].concat(), run().concat()])), "2024-03-02");
    send(&mut two, &[parse("", "SELECT 'two'"), sync()]);
    for _ in 0..2 {
        let other = send(&mut one, &run());
        assert_eq!(other[0].sqlstate(), "26000", "{other:?}");
    }
    send(&mut one, &[parse("", "SELECT 'one'"), sync()]);
    send(&mut two, &[parse("", "SELECT 'two'"), sync()]);
    assert_eq!(value(&send(&mut one, &run())), "one");
}

#[test]
fn an_unnamed_statement_that_was_skipped_is_nobodys() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    for _ in 0..3 {
        send(&mut two, &[parse("", "SELECT 'secret of two'"), sync()]);
        let failed = [bind("missing"), parse("", "SELECT 'one'"), sync()];
        assert_eq!(kinds(&send(&mut one, &failed)), "EZ");
        let messages = send(&mut one, &[bind(""), execute(), sync()]);
        assert_ne!(kinds(&messages), "2DCZ", "{messages:?}");
        send(&mut two, &[parse("", "SELECT 'secret of two'"), sync()]);
        assert_eq!(kinds(&send(&mut one, &[bind("missing"), close(""), sync()])), "EZ");
        let messages = send(&mut one, &[bind(""), execute(), sync()]);
        assert!(messages.iter().all(|m| m.kind != b'D'), "{messages:?}");
    }
}

/// What brings a client's statement to the server may be skipped, too: what is
/// pipelined behind it waits until that is known.
#[test]
fn what_is_pipelined_behind_an_error_finds_no_other_clients_statement() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    let group = || [bind(""), execute(), sync()];
    for (own, expected) in [(true, "one"), (false, "26000")] {
        if own {
            send(&mut one, &[parse("", "SELECT 'one'"), sync()]);
        } else {
            send(&mut one, &[close(""), sync()]);
        }
        send(&mut two, &[parse("", "SELECT 'secret of two'"), sync()]);
        one.send(&[[bind("missing")].as_slice(), &group(), &group()].concat().concat());
        assert_eq!(kinds(&one.read_until(b'Z')), "EZ");
        let messages = one.read_until(b'Z');
        if own {
            assert_eq!(value(&messages), expected);
        } else {
            assert_eq!(messages[0].sqlstate(), expected);
        }
    }
}

/// Whoever goes, or says that nothing more comes, while something is held.
#[test]
fn an_unnamed_statement_of_any_length_is_the_one_that_is_bound() {
    let stage = narrow();
    let (mut one, mut two) = (pooled(&stage), pooled(&stage));
    send(&mut one, &[parse("", "SELECT 'short'"), sync()]);
    send(&mut two, &[parse("", "SELECT 'secret of two'"), sync()]);
    let long = parse("", &format!("SELECT 'long' /* {} */", "x".repeat(100_000)));
    // So little that the name is not there yet.
    one.send(&long[..5]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let rest = [&long[5..], &bind(""), &execute(), &sync()].concat();
    assert_eq!(value(&send(&mut one, &[rest])), "long");
}

/// What is skipped takes nothing away, and what fails does.
#[test]
fn an_unnamed_statement_that_is_skipped_leaves_the_one_before() {
    let stage = narrow();
    let group = || [bind(""), execute(), sync()].concat();
    for mut raw in [direct(&stage), pooled(&stage)] {
        for (messages, expected) in [
            ([bind("missing"), parse("", "SELECT 'new'")], "old"),
            ([bind("missing"), close("")], "old"),
            ([parse("", "SELECT 'new'"), bind("missing")], "new"),
            ([bind(""), parse("", "SELEC")], "26000"),
            ([parse("", "SELEC"), parse("", "SELECT 'new'")], "26000"),
        ] {
            for pipelined in [false, true] {
                send(&mut raw, &[parse("", "SELECT 'old'"), sync()]);
                let failing = [messages.concat(), sync()].concat();
                let found = if pipelined {
                    raw.send(&[failing, group()].concat());
                    raw.read_until(b'Z');
                    raw.read_until(b'Z')
                } else {
                    send(&mut raw, &[failing]);
                    send(&mut raw, &[group()])
                };
                match found[0].kind {
                    b'E' => assert_eq!(found[0].sqlstate(), expected, "{messages:?}"),
                    _ => assert_eq!(value(&found), expected, "{messages:?}"),
                }
            }
        }
    }
}

//! What the look says about statements of every kind, and about every trick
//! that hides one or makes something else seem one.

use proptest::prelude::*;

use super::super::lexer::Lexer;
use super::super::statement_commands::Discard;
use super::*;

/// The verdict as one line: pins, settings, commands, and what may be over.
fn verdict(sql: &str) -> String {
    words_of(&look(sql.as_bytes(), true))
}

fn words_of(look: &Look) -> String {
    let pins = look.pins.iter().map(|reason| reason.label().to_owned());
    let all = look.touched.all_reset.then(|| "reset-all".to_owned());
    let name = look.touched.name_reset.then(|| "reset-name".to_owned());
    let settings = look.touched.names().iter().map(|name| format!("set:{name:?}"));
    let parameters = look.name_parameters.iter().map(|number| format!("set:${number}"));
    let commands = look.statements.iter().map(command);
    let ends = (look.ends != PinReason::ALL.into_iter().collect()).then_some(look.ends);
    let ends =
        ends.into_iter().flat_map(Pins::iter).map(|reason| format!("end:{}", reason.label()));
    let words = pins.chain(all).chain(name).chain(settings).chain(parameters);
    words.chain(commands).chain(ends).collect::<Vec<_>>().join(" ")
}

fn command(command: &StatementCommand) -> String {
    match command {
        StatementCommand::Prepare(name) => format!("prepare:{name:?}"),
        StatementCommand::Execute(name) => format!("execute:{name:?}"),
        StatementCommand::Deallocate(name) => format!("deallocate:{name:?}"),
        StatementCommand::DeallocateAll => "deallocate-all".to_owned(),
        StatementCommand::Discard(Discard::All) => "discard-all".to_owned(),
        StatementCommand::Discard(Discard::Plans) => "discard-plans".to_owned(),
        StatementCommand::Discard(Discard::Sequences) => "discard-sequences".to_owned(),
        StatementCommand::Discard(Discard::Temporary) => "discard-temporary".to_owned(),
    }
}

fn check(table: &[(&str, &str)]) {
    for (sql, expected) in table {
        assert_eq!(verdict(sql), *expected, "{sql}");
    }
}

const NOTHING: &[&str] = &[
    "",
    " ",
    ";",
    ";;; ;",
    "SELECT 1",
    "SELECT abalance FROM pgbench_accounts WHERE aid = 123;",
    "BEGIN",
    "COMMIT; BEGIN",
    "ROLLBACK",
    "SAVEPOINT a; RELEASE a",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    "UPDATE t SET a = 1",
    "UPDATE settings SET pg_settings = 1",
    "SELECT setting FROM pg_settings WHERE name = 'work_mem' FOR UPDATE",
    "BEGIN; UPDATE t SET a = 1; COMMIT",
    "UPDATE t\nSET\na = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    "ALTER TABLE t ALTER c SET DEFAULT 1",
    "ALTER TABLE t SET (fillfactor = 70)",
    "ALTER ROLE r SET search_path = a",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "ALTER DATABASE d RESET ALL",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS 'SELECT 1'",
    "CREATE FUNCTION f() RETURNS int AS $$ SET x = 1; LISTEN a; SELECT set_config('a', 'b', false) $$",
    "CREATE TABLE t (set int, listen int, temp int)",
    "CREATE UNLOGGED TABLE t (a int)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TABLE temp (a int)",
    "CREATE TABLE temporary AS SELECT 1",
    "CREATE TRIGGER a BEFORE INSERT ON t EXECUTE FUNCTION f()",
    "CREATE VIEW v AS SELECT 1 AS execute FROM t",
    "GRANT EXECUTE ON FUNCTION f() TO r",
    "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT 1",
    "SELECT listen, load, reset, \"set\", temp FROM set",
    "SELECT temp.a FROM temp",
    "INSERT INTO temp VALUES (1)",
    "INSERT INTO temp (a) SELECT 1",
    "INSERT INTO temp SELECT 1",
    "MERGE INTO temp USING s ON a = b WHEN MATCHED THEN DELETE",
    "SELECT * INTO temp FROM t",
    "SELECT a INTO b FROM t",
    "SELECT 'SET x = 1'",
    "SELECT '; SET x = 1; '",
    "SELECT ';', 'a''; SET x = 1; --'",
    "SELECT E'\\'; SET x = 1; --'",
    "SELECT E'a'\n'\\'; SET x = 1; --'",
    "SELECT E'a' -- b\n  '\\'; SET x = 1; --'",
    "SELECT $$; SET x = 1; $$",
    "SELECT $a$; $$; $b$; SET x = 1; $a$",
    "SELECT $ä$; SET x = 1; $ä$",
    "SELECT \"; SET x = 1; \"",
    "SELECT \"a\"\"; SET x = 1; \"",
    "SELECT U&'; SET x = 1; '",
    "SELECT U&'\\'; SELECT '; SET x = 1; '",
    "SELECT B'1', X'1F', N'; SET x = 1'",
    "SELECT 1 -- ; SET x = 1",
    "-- SET x = 1\nSELECT 1",
    "/* SET x = 1; */ SELECT 1",
    "/* a /* b */ ; SET x = 1 */ SELECT 1",
    "/* ; SET x = 1",
    "SELECT '; SET x = 1",
    "SELECT $q$; SET x = 1; $",
    "SELECT 1 /* ; */; /* SET x = 1 */ ; -- SET x = 1",
    "SET LOCAL search_path = a",
    "set local timezone to 'UTC'",
    "SET LOCAL ROLE r",
    "SET LOCAL SESSION AUTHORIZATION r",
    "SET LOCAL TIME ZONE 'UTC'",
    "SET TRANSACTION READ ONLY",
    "SET SESSION TRANSACTION READ ONLY",
    "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'",
    "SET CONSTRAINTS ALL DEFERRED",
    "SELECT set_config('search_path', 'a', true)",
    "SELECT set_config('request.jwt.claims', $1, TRUE), set_config('role', 'r', true)",
    "SELECT set_config('a.b', coalesce(x, (y)), true)",
    "SELECT pg_catalog.set_config('a.b', 'c', true)",
    "SELECT set_config FROM t",
    "SELECT 'set_config(1, 2, 3)'",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_try_advisory_xact_lock_shared(1, 2)",
    "SELECT 'pg_advisory_lock(1)'",
    "SELECT 1 /* pg_advisory_lock(1) */",
    "SELECT pg_advisory_locks(1)",
    "SELECT my_pg_advisory_lock(1)",
    "SELECT pg_advisory_lock FROM t",
    "SELECT \"PG_ADVISORY_LOCK\"(1)",
    "SELECT nextval('s'), setval('s', 1)",
    "SELECT currval FROM t",
    "SELECT last_value FROM s",
    "NOTIFY a, 'b'",
    "FETCH 10 FROM c; MOVE c",
    "SELECT set_config('search_path'::text, 'a', true)",
    "SELECT unlisten, close, drop FROM discard",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
    "DECLARE c CURSOR FOR WITH hold AS (SELECT 1) SELECT * FROM hold",
    "DECLARE c SCROLL CURSOR FOR SELECT 'WITH HOLD'",
    "LOCK TABLE t",
    "PREPARE TRANSACTION 'a'",
    "COMMIT PREPARED 'a'",
    "CALL p(1)",
    "COPY t FROM STDIN",
    "VACUUM; ANALYZE t",
    "EXPLAIN SELECT 1",
    "EXPLAIN (ANALYZE, BUFFERS) UPDATE t SET a = 1",
    "EXPLAIN ANALYZE VERBOSE SELECT 1",
    "DO 'BEGIN PERFORM 1; END'",
    "DO LANGUAGE plpgsql $$ BEGIN RAISE NOTICE 'settings, offset, template'; END $$",
    "SELECT template, temperature, contemporary, attempt FROM employees",
    "SELECT pg_temperature.a FROM pg_temperature",
    "SELECT pg_temp",
    "SELECT 'pg_temp.a'",
    "RESETX; SETX a = 1; SET_ a; LOADS; LISTENER",
    "SELECT u&b FROM t",
    "WITH set AS (SELECT 1) SELECT * FROM set",
    "(SELECT 1)",
    "VALUES (1), (2)",
    "CREATE TABLE t (a int DEFAULT 1); CREATE INDEX ON t (a)",
    "SELECT a FROM t WHERE b = $1 AND c = $2; -- done; \n",
    "SELECT 'caf&eacute;; set x; '",
];

#[test]
fn harmless_texts_leave_nothing() {
    for sql in NOTHING {
        assert_eq!(verdict(sql), "", "{sql}");
        assert!(look(sql.as_bytes(), true).is_nothing());
    }
}

#[test]
fn what_changes_how_literals_are_read_is_known() {
    for sql in [
        "SET datestyle = 'German'",
        "set LOCAL DateStyle TO german",
        "SET \"timezone\" = 'UTC'",
        "SET SESSION intervalstyle TO iso_8601",
        "SET standard_conforming_strings = off",
        "SET TIME ZONE LOCAL",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET SESSION TIME ZONE 'UTC'",
        "RESET TIME ZONE",
        "RESET timezone",
        "RESET ALL",
        "DISCARD ALL",
        "SELECT 1; SET datestyle = 'German'",
        "SELECT set_config('DateStyle', 'German', true)",
        "SELECT set_config('DateStyle', 'German', false)",
        "SELECT set_config($1, $2, true)",
        "SELECT set_config($1, $2, false)",
        "SELECT set_config(name, 'German', true)",
    ] {
        let look = look(sql.as_bytes(), true);
        assert!(look.changes_reading && !look.is_without_effect(), "{sql}");
    }
    for sql in [
        "SET work_mem = '1MB'",
        "SET LOCAL search_path = datestyle",
        "SET application_name = 'timezone'",
        "SET LOCAL my.timezone = 'UTC'",
        "RESET work_mem",
        "SELECT set_config('work_mem', 'timezone', true)",
        "SELECT 'SET datestyle'",
        "SET TRANSACTION READ ONLY",
    ] {
        assert!(!look(sql.as_bytes(), true).changes_reading, "{sql}");
    }
}

#[test]
fn settings_that_last_are_named() {
    check(&[
        ("SET search_path = a", "set:search_path"),
        ("set search_path to a, b", "set:search_path"),
        ("SET SESSION search_path = a", "set:search_path"),
        ("SeT sEsSiOn Work_Mem='1MB'", "set:work_mem"),
        ("SET a.b = 'c'", "set:a.b"),
        ("SET A . \"B\" TO 'c'", "set:a.b"),
        ("SET a.b.c = 1", "set:a.b.c"),
        ("SET hnsw.ef_search = 100", "set:hnsw.ef_search"),
        ("SET local.x = 1", "set:local.x"),
        ("SET session.x TO 1", "set:session.x"),
        ("SET timezone.x TO 1", "set:timezone.x"),
        ("SET SCHEMA 'a'", "set:search_path"),
        ("SET XML OPTION DOCUMENT", "set:xmloption"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "set:default_transaction_isolation set:default_transaction_read_only \
             set:default_transaction_deferrable",
        ),
        ("SET search_path FROM CURRENT", "set:search_path"),
        ("SET a = 1; SET b = 2; SET a = 3", "set:b set:a"),
        ("  \n\t SET x = 1", "set:x"),
        ("-- a\nSET x = 1", "set:x"),
        ("/* a */ SET x = 1", "set:x"),
        ("/* a /* b */ c */SET x = 1", "set:x"),
        ("/**/--\n/**/SET x = 1", "set:x"),
        (";SET x = 1", "set:x"),
        ("SELECT 1;SET x = 1", "set:x"),
        ("SELECT 1; /* a */ -- b\n SET x = 1;", "set:x"),
        ("SELECT ';'; SET x = 1", "set:x"),
        ("SELECT 'a\\'; SET x = 1; --'", "set:x"),
        ("SELECT 'a' /* b\n */ '\\'; SET x = 1; --'", "set:x"),
        ("SELECT E'a' '\\'; SET x = 1; --'", "set:x"),
        ("SELECT U&'\\'; SET x = 1; --'", "set:x"),
        ("SELECT E'\\\\'; SET x = 1", "set:x"),
        ("SELECT $$ $a$ $$; SET x = 1", "set:x"),
        ("SELECT a$b$; SET x = 1; SELECT a$b$", "set:x"),
        ("SELECT $1$a$; SET x = 1; $a$; SET y = 2", "set:y"),
        ("SELECT \"a'\"; SET x = 1; SELECT '", "set:x"),
        ("SELECT 1 -- '\n; SET x = 1", "set:x"),
        ("SELECT 1 - - 1; SET x = 1", "set:x"),
        ("SELECT 2 */* '*/ 3; SET x = 1", "set:x"),
        ("SELECT 1\r; -- a\rSET x = 1", "set:x"),
        ("SET/**/x/**/=/**/1", "set:x"),
        ("SET\"x\"=1", "set:x"),
        ("SELECT set_config('search_path', 'a', false)", "set:search_path"),
        ("SELECT set_config('Search_Path'::text, $1, false)", "set:search_path"),
        ("SELECT SET_CONFIG ( 'a.b' , 'c' , $1 )", "set:a.b"),
        ("SELECT pg_catalog.set_config('search_path', '', false)", "set:search_path"),
        ("SELECT \"set_config\"('a.b', 'c', false)", "set:a.b"),
        ("SELECT set_config(/* x */'a.b', 'c', not true)", "set:a.b"),
        ("SELECT set_config('a.b', f('c', true), false)", "set:a.b"),
        ("SELECT set_config('a.b', 'c', true and false)", "set:a.b"),
        ("SELECT set_config('a.b', 'c', 'true')", "set:a.b"),
        ("SELECT set_config($1, $2, false), set_config($3::text, $4, $5)", "set:$1 set:$3"),
        ("WITH a AS (SELECT set_config('a.b', 'c', false)) SELECT 1", "set:a.b"),
        ("BEGIN; SET x = 1; ROLLBACK", "set:x"),
        ("SET ROLE r", "set:role"),
        ("SET ROLE NONE", "set:role"),
        ("SET role = 'r'", "set:role"),
        ("SET role TO r", "set:role"),
        ("SET SESSION ROLE r", "set:role"),
        ("SET SESSION AUTHORIZATION r", "set:session_authorization set:role"),
        ("SET SESSION SESSION AUTHORIZATION r", "set:session_authorization set:role"),
        ("SET session_authorization = r", "set:session_authorization set:role"),
        ("SELECT set_config('role', 'r', false)", "set:role"),
        ("RESET search_path", "set:search_path"),
        ("RESET a.b", "set:a.b"),
        ("RESET ROLE", "set:role"),
        ("RESET SESSION AUTHORIZATION", "set:session_authorization set:role"),
        ("RESET ALL", "reset-all reset-name end:setting"),
        ("RESET ALL; SET x = 1", "reset-all reset-name set:x end:setting"),
    ]);
}

#[test]
fn settings_without_a_name_pin() {
    check(&[
        ("SELECT set_config(name, value, false) FROM t", "setting"),
        ("SELECT set_config('a.b'", "setting"),
        ("SELECT set_config('a' || 'b', 'c', false)", "setting"),
        ("SELECT set_config('it''s', 'c', false)", "setting"),
        ("SELECT set_config(E'a\\056b', 'c', false)", "setting"),
        ("SELECT set_config($99999, 'c', false)", "setting"),
        ("SELECT setseed(0.5)", "setting"),
        ("SET SEED TO 0.5", "setting"),
        ("UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'", "setting"),
        ("update only (PG_CATALOG.\"pg_settings\") set setting = 1", "setting"),
        ("WITH a AS (UPDATE pg_settings SET setting = 1 RETURNING 1) SELECT 1", "setting"),
        ("SET SOMETHING NEW", "setting"),
        (&format!("SET {} = 1", "x".repeat(200)), "setting"),
    ]);
}

#[test]
fn what_may_be_unset_is_told_from_an_assignment() {
    let resets = |sql: &str| look(sql.as_bytes(), true).touched.maybe_unset;
    for sql in [
        "RESET x",
        "SET x TO DEFAULT",
        "SET a.b = DEFAULT",
        "SELECT set_config('x', NULL, false)",
        "SET x = 1; RESET x",
        "PREPARE s AS SELECT set_config('x', 'y', false)",
        "SELECT CASE WHEN a THEN set_config('x', 'y', false) END FROM t",
    ] {
        assert!(resets(sql), "{sql}");
    }
    for sql in ["SET x = 1", "SET x = 'default'", "SET LOCAL x = 1"] {
        assert!(!resets(sql), "{sql}");
    }
}

#[test]
fn settings_that_are_reported_need_no_question() {
    check(&[
        ("SET application_name = 'SET x = 1; LISTEN a'", ""),
        ("SET SESSION Application_Name TO DEFAULT", "reset-name"),
        ("RESET application_name", "reset-name"),
        ("RESET application_name; SET application_name = 'a'", ""),
        ("SELECT set_config('application_name', NULL, false)", "reset-name"),
        ("SET client_encoding TO 'UTF8'", ""),
        ("SET NAMES 'UTF8'", ""),
        ("SET DateStyle TO ISO, MDY", ""),
        ("SET INTERVALSTYLE = iso_8601", ""),
        ("SET TIME ZONE 'UTC'", ""),
        ("SET TIME ZONE INTERVAL '1' HOUR", ""),
        ("SET SESSION TIME ZONE LOCAL", ""),
        ("SET \"TimeZone\" = 'UTC'", ""),
        ("SET standard_conforming_strings = on", ""),
        ("RESET TIME ZONE", ""),
        ("RESET timezone", ""),
        ("SELECT set_config('TimeZone', 'UTC', false)", ""),
        ("SET timezone = 'UTC'; SET datestyle = iso; SET search_path = a", "set:search_path"),
        ("SET transaction_isolation = 'serializable'", ""),
        ("RESET TRANSACTION ISOLATION LEVEL", ""),
    ]);
}

#[test]
fn what_may_be_over_is_asked_for() {
    check(&[
        ("UNLISTEN a", "end:listen"),
        ("unlisten *", "end:listen"),
        ("CLOSE c; FETCH d", "end:held_cursor"),
        ("DROP TABLE t", "end:temporary_object"),
        ("SELECT pg_advisory_unlock(1)", "end:advisory_lock"),
        ("SELECT pg_advisory_unlock_all()", "end:advisory_lock"),
        ("SELECT pg_advisory_unlock_shared(1, 2)", "end:advisory_lock"),
        ("SELECT pg_replication_origin_session_reset()", "end:replication_origin"),
        ("SELECT pg_drop_replication_slot('a')", "end:temporary_object"),
    ]);
}

#[test]
fn statements_prepared_by_sql_are_named() {
    check(&[
        ("PREPARE a AS SELECT 1", "sql_prepare prepare:\"a\""),
        ("prepare A(int, text) as select $1", "sql_prepare prepare:\"a\""),
        ("PREPARE \"A b\" AS UPDATE t SET a = 1", "sql_prepare prepare:\"A b\""),
        ("PREPARE transaction AS SELECT 1", "sql_prepare prepare:\"transaction\""),
        ("EXECUTE a", "execute:\"a\""),
        ("EXECUTE \"A\"(1, 'x')", "execute:\"A\""),
        ("EXPLAIN EXECUTE a(1)", "execute:\"a\""),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE a", "execute:\"a\""),
        ("EXPLAIN (ANALYZE, FORMAT json) EXECUTE a", "execute:\"a\""),
        ("CREATE TABLE t AS EXECUTE a(1)", "execute:\"a\""),
        ("CREATE TABLE t (x) WITH (fillfactor = 70) AS EXECUTE a WITH NO DATA", "execute:\"a\""),
        ("CREATE TEMP TABLE t AS EXECUTE a", "temporary_object execute:\"a\""),
        ("DEALLOCATE a", "deallocate:\"a\" end:sql_prepare"),
        ("DEALLOCATE PREPARE A", "deallocate:\"a\" end:sql_prepare"),
        ("DEALLOCATE PREPARE", "deallocate:\"prepare\" end:sql_prepare"),
        ("DEALLOCATE ALL", "deallocate-all end:sql_prepare"),
        ("deallocate prepare all;", "deallocate-all end:sql_prepare"),
        ("DEALLOCATE \"all\"", "deallocate:\"all\" end:sql_prepare"),
        ("DISCARD ALL", "reset-all reset-name set:session_authorization set:role discard-all"),
        ("discard plans", "discard-plans"),
        ("DISCARD SEQUENCES", "discard-sequences end:sequence"),
        ("DISCARD TEMP", "discard-temporary end:temporary_object"),
        ("DISCARD TEMPORARY;", "discard-temporary end:temporary_object"),
        (
            "PREPARE a AS SELECT 1; EXECUTE a; DEALLOCATE a",
            "sql_prepare prepare:\"a\" execute:\"a\" deallocate:\"a\" end:sql_prepare",
        ),
        ("EXECUTE U&\"\\0061\"", "unparsed execute:\"\\\\0061\""),
    ]);
}

#[test]
fn temporary_objects_pin() {
    check(&[
        ("CREATE TEMP TABLE t (a int)", "temporary_object"),
        ("CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1", "temporary_object"),
        ("create local temp table t ()", "temporary_object"),
        ("CREATE GLOBAL TEMPORARY TABLE t ()", "temporary_object"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "temporary_object"),
        ("CREATE TEMP SEQUENCE s", "temporary_object"),
        ("SET LOCAL search_path = pg_temp, public", "temporary_object"),
        ("SET LOCAL search_path TO public, \"pg_temp\"", "temporary_object"),
        ("SELECT set_config('search_path', 'a, PG_TEMP', true)", "temporary_object"),
        ("CREATE TEMP RECURSIVE VIEW v (a) AS SELECT 1", "temporary_object"),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "temporary_object"),
        ("CREATE /* a */ TEMP -- b\n TABLE t ()", "temporary_object"),
        ("CREATE TABLE pg_temp.t ()", "temporary_object"),
        ("CREATE TABLE \"pg_temp\".t ()", "temporary_object"),
        ("CREATE FUNCTION PG_TEMP . f() RETURNS int AS $$ SELECT 1 $$", "temporary_object"),
        ("SELECT pg_temp/**/.f()", "temporary_object"),
        ("SELECT * FROM pg_temp_12.t", "temporary_object"),
        ("SELECT 1 INTO TEMP t", "temporary_object"),
        ("SELECT 1 INTO TEMPORARY TABLE t", "temporary_object"),
        ("SELECT a INTO LOCAL TEMP t FROM s", "temporary_object"),
        ("SELECT a INTO TEMP \"T\" FROM s", "temporary_object"),
        ("WITH c AS (SELECT 1) SELECT * INTO TEMP t FROM c", "temporary_object"),
        ("SELECT 1INTO TEMP t", "temporary_object"),
        ("SELECT pg_create_logical_replication_slot('a', 'b', true)", "temporary_object"),
        ("SELECT pg_create_physical_replication_slot('a', true, true)", "temporary_object"),
    ]);
}

#[test]
fn everything_else_that_stays_pins() {
    check(&[
        ("LISTEN a", "listen"),
        ("listen \"A\";", "listen"),
        ("SELECT 1; LISTEN a; SELECT 2", "listen"),
        ("LISTEN a; NOTIFY a; UNLISTEN *", "listen end:listen"),
        ("LOAD 'auto_explain'", "load"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "held_cursor"),
        ("DECLARE c BINARY INSENSITIVE NO SCROLL CURSOR WITH/**/HOLD FOR SELECT 1", "held_cursor"),
        ("EXPLAIN ANALYZE DECLARE c CURSOR WITH HOLD FOR SELECT 1", "held_cursor"),
        ("SELECT pg_advisory_lock(1)", "advisory_lock"),
        ("SELECT pg_catalog.pg_advisory_lock_shared(1, 2)", "advisory_lock"),
        ("SELECT Pg_Try_Advisory_Lock (1)", "advisory_lock"),
        ("SELECT \"pg_try_advisory_lock_shared\"(1)", "advisory_lock"),
        ("SELECT \"pg_catalog\".\"pg_advisory_lock\"/* a */(1)", "advisory_lock"),
        ("UPDATE t SET a = 1 WHERE pg_try_advisory_lock(a)", "advisory_lock"),
        ("SELECT 'x', pg_advisory_lock(1), 'y'", "advisory_lock"),
        ("SELECT 1WHERE 1=1OR pg_try_advisory_lock(1)", "advisory_lock"),
        ("SELECT currval('s')", "sequence"),
        ("INSERT INTO t VALUES (1); SELECT lastval()", "sequence"),
        ("INSERT INTO t (a) VALUES (pg_catalog.currval('s'))", "sequence"),
        ("SELECT pg_replication_origin_session_setup('a')", "replication_origin"),
        ("SELECT pg_backup_start('a')", "backup"),
        ("SELECT pg_start_backup('a', false, false)", "backup"),
        ("SELECT U&\"pg_advisory\\005flock\"(1)", "unparsed"),
        (
            "SELECT pg_advisory_lock(1); SET search_path = a; LISTEN b",
            "listen advisory_lock set:search_path",
        ),
    ]);
}

#[test]
fn blocks_of_code_are_searched() {
    check(&[
        ("DO $$ BEGIN SET x = 1; END $$", "setting"),
        ("DO $$ BEGIN EXECUTE 'SET ' || a || ' = 1'; END $$", "setting"),
        ("DO $$ BEGIN UPDATE t SET a = 1; END $$", "setting"),
        ("DO 'BEGIN RESET x; END'", "setting"),
        ("DO $x$ BEGIN PERFORM set_config('a.b', 'c', true); END $x$", "setting"),
        ("DO LANGUAGE plpgsql $$ BEGIN PERFORM pg_advisory_lock(1); END $$", "advisory_lock"),
        ("DO $$ BEGIN CREATE TEMP TABLE t (); END $$ LANGUAGE plpgsql", "temporary_object"),
        ("DO $$ BEGIN CREATE TABLE pg_temp.t (); END $$", "temporary_object"),
        ("DO $$ BEGIN EXECUTE 'LISTEN a'; END $$", "listen"),
        ("DO $$ BEGIN EXECUTE $e$ LOAD 'a' $e$; END $$", "load"),
        ("DO $$ BEGIN EXECUTE 'PREPARE a AS SELECT 1'; END $$", "sql_prepare"),
        ("DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END $$", "held_cursor"),
        ("DO $$ BEGIN PERFORM currval('s'); END $$", "sequence"),
        ("DO E'BEGIN \\163et x = 1; END'", "unparsed"),
        ("DO LANGUAGE plpython3u $$ plpy.execute('set x = 1') $$", "setting"),
        ("SELECT 1; do $$ begin listen a; end $$; SELECT 2", "listen"),
    ]);
}

#[test]
fn the_table_is_long_enough_to_be_trusted() {
    assert!(NOTHING.len() >= 100);
}

#[test]
fn long_texts_are_not_read() {
    let long = |sql: &str| format!("{sql}{}", " ".repeat(LONGEST_READ));
    assert_eq!(verdict(&long("SELECT 'temp'")), "unparsed");
    assert_eq!(verdict(&long("SET x = 'a'")), "unparsed");
    assert_eq!(verdict(&long("SELECT 'a'; UPDATE t SET a = 1")), "");
}

#[test]
fn backslashes_in_plain_quotes_are_not_trusted_where_they_are_escapes() {
    let off = |sql: &str| words_of(&look(sql.as_bytes(), false));
    assert_eq!(off("SELECT '\\'; SET x = 1; --'"), "unparsed");
    assert_eq!(off("SELECT 'a'; SET x = 1"), "set:x");
    assert_eq!(off("SELECT '\\'"), "");
}

const SETTLED: &[&str] = &[
    "SET x = 1",
    "SET timezone = 'UTC'",
    "RESET",
    "SET",
    "SET LOCAL x = 1",
    "LISTEN a",
    "LOAD 'a'",
    "PREPARE a AS SELECT 1",
    "EXECUTE a",
    "DEALLOCATE",
    "DEALLOCATE a",
    "DEALLOCATE PREPARE",
    "DISCARD ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "CREATE TEMP TABLE t ()",
    "CREATE TABLE t AS EXECUTE a",
    "SELECT 1 INTO TEMP t",
    "SELECT set_config('a', 'b', false)",
    "SELECT set_config('a', 'b'",
    "SELECT lastval()",
    "DO $$ set $$",
    "EXPLAIN (ANALYZE",
    "EXPLAIN EXECUTE a",
    "SELECT U&\"a\"",
    "SELECT pg_temp.f()",
    "SELECT 1",
];

#[test]
fn a_harmless_statement_behind_or_before_never_removes_a_verdict() {
    for sql in SETTLED {
        let alone = look(sql.as_bytes(), true);
        for harmless in NOTHING.iter().filter(|other| !other.starts_with("/* ;")) {
            let behind = look(format!("{sql};{harmless}").as_bytes(), true);
            let before = look(format!("SELECT 1;{sql}; {harmless}").as_bytes(), true);
            for more in [behind, before] {
                assert!(more.makes_custom >= alone.makes_custom, "{sql};{harmless}");
                assert!(more.changes_reading >= alone.changes_reading, "{sql};{harmless}");
                let Look { changes_reading, makes_custom, .. } = alone;
                let more = Look { changes_reading, makes_custom, ..more };
                assert_eq!(more, alone, "{sql};{harmless}");
            }
        }
    }
}

/// Pieces that meet in no text a person writes.
const PIECES: &[&str] = &[
    "set",
    "SET ",
    "reset ",
    "local ",
    "session ",
    "timezone",
    " x",
    "=",
    " to ",
    ".",
    ";",
    "; ",
    "'",
    "''",
    "\"",
    "e'",
    "E'",
    "u&'",
    "U&\"",
    "b'",
    "\\",
    "$$",
    "$a$",
    "$",
    "$1",
    "1",
    "0x1f",
    "1e5",
    "1_",
    "--",
    "\n",
    "/*",
    "*/",
    " ",
    "(",
    ")",
    ",",
    "true",
    "set_config",
    "pg_advisory_lock",
    "pg_temp",
    "pg_temp_3",
    "temp",
    "temporary ",
    "create ",
    "into ",
    "insert ",
    "select ",
    "listen ",
    "load ",
    "prepare ",
    "execute ",
    "deallocate ",
    "discard ",
    "all",
    "declare ",
    "cursor ",
    "update ",
    "pg_settings ",
    "with ",
    "hold ",
    "do ",
    "explain ",
    "analyze ",
    "as ",
    "currval",
    "lastval(",
    "é",
    "\u{80}",
    "_",
    "a",
];

/// Whether what is appended is not swallowed by a quote or comment that is
/// still open; PostgreSQL refuses a text with one.
fn is_terminated(sql: &str) -> bool {
    let text = format!("{sql};");
    Lexer::new(text.as_bytes(), true).last().is_some_and(|last| last.is_symbol(b';'))
}

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200_000))]

    #[test]
    fn the_filter_never_hides_what_reading_finds(sql in pieces()) {
        prop_assert_eq!(look(sql.as_bytes(), true), read(sql.as_bytes(), true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..200), standard: bool) {
        let _ = look(&text, standard);
        let _ = read(&text, standard);
    }

    #[test]
    fn a_statement_more_never_removes_a_pin(sql in pieces()) {
        if is_terminated(&sql) {
            let alone = look(sql.as_bytes(), true);
            let more = look(format!("{sql};SELECT 1").as_bytes(), true);
            prop_assert!(more.pins.includes(alone.pins), "{alone:?} {more:?}");
            prop_assert!(more.touched.names().len() >= alone.touched.names().len());
            prop_assert!(more.statements.len() >= alone.statements.len());
        }
    }
}

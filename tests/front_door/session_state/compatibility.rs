//! The README's table of what becomes of each kind of session state: written
//! from what is seen here, and compared with what the README says.

use super::*;
use crate::stage::{Audit, Wanted, eventually};

/// One kind of state.
struct Kind {
    /// What it is called.
    name: &'static str,
    /// What makes it.
    made_by: &'static str,
    /// What shows it.
    seen_by: &'static str,
    /// What ends it, if anything that a session says does.
    ended_by: Option<&'static str>,
}

const fn kind(
    name: &'static str,
    made_by: &'static str,
    seen_by: &'static str,
    ended_by: Option<&'static str>,
) -> Kind {
    Kind { name, made_by, seen_by, ended_by }
}

const KINDS: [Kind; 20] = [
    kind("a setting", "SET work_mem = '7MB'", "SHOW work_mem", Some("RESET work_mem")),
    kind(
        "a setting, by a function",
        "SELECT set_config('search_path', 'mine', false)",
        "SHOW search_path",
        Some("RESET ALL"),
    ),
    kind(
        "a setting of an extension or one's own",
        "SET my.tenant = 'blue'",
        "SELECT coalesce(current_setting('my.tenant', true), '')",
        Some("SET my.tenant = ''"),
    ),
    kind(
        "a setting that is reported",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SHOW timezone",
        Some("SET TIME ZONE DEFAULT"),
    ),
    kind(
        "what transactions are like",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
        Some("RESET default_transaction_isolation"),
    ),
    kind("a role", "SET ROLE pg_monitor", "SELECT current_user", Some("RESET ROLE")),
    kind(
        "a session's role",
        "SET SESSION AUTHORIZATION pg_monitor",
        "SELECT session_user",
        Some("RESET SESSION AUTHORIZATION"),
    ),
    kind(
        "a setting that the text does not name",
        "UPDATE pg_settings SET setting = '7MB' WHERE name = 'work_mem'",
        "SHOW work_mem",
        Some("RESET ALL"),
    ),
    kind("the random seed", "SELECT setseed(0.5)", "SELECT 1", Some("RESET ALL")),
    kind(
        "a statement prepared by SQL",
        "PREPARE p AS SELECT 'p'",
        "SELECT coalesce(string_agg(name, ','), '') FROM pg_prepared_statements WHERE from_sql",
        Some("DEALLOCATE p"),
    ),
    kind(
        "a temporary table",
        "CREATE TEMP TABLE t (n integer)",
        "SELECT coalesce(to_regclass('pg_temp.t')::text, '')",
        Some("DROP TABLE t"),
    ),
    kind(
        "a temporary table for a transaction",
        "BEGIN; CREATE TEMP TABLE t (n integer) ON COMMIT DROP; COMMIT",
        "SELECT 1",
        None,
    ),
    kind(
        "a temporary function",
        "CREATE FUNCTION pg_temp.f() RETURNS integer RETURN 1",
        "SELECT coalesce(to_regproc('pg_temp.f')::text, '')",
        Some("DROP FUNCTION pg_temp.f"),
    ),
    kind(
        "a cursor beyond its transaction",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT coalesce(string_agg(name, ','), '') FROM pg_cursors",
        Some("CLOSE c"),
    ),
    kind(
        "an advisory lock of the session",
        "SELECT pg_advisory_lock(1)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        Some("SELECT pg_advisory_unlock(1)"),
    ),
    kind(
        "an advisory lock of the transaction",
        "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT",
        "SELECT 1",
        None,
    ),
    kind(
        "notifications",
        "LISTEN news",
        "SELECT coalesce(string_agg(c, ','), '') FROM pg_listening_channels() c",
        Some("UNLISTEN news"),
    ),
    kind(
        "the last value of a sequence",
        "SELECT nextval('s'); SELECT currval('s')",
        "SELECT 1",
        Some("DISCARD SEQUENCES"),
    ),
    kind("a library", "LOAD 'auto_explain'", "SELECT 1", None),
    kind(
        "settings within a transaction",
        "BEGIN; SET LOCAL work_mem = '7MB'; COMMIT",
        "SELECT 1",
        None,
    ),
];

const BEGIN: &str = "<!-- what becomes of session state -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_readme_says_what_becomes_of_each_kind_of_state() {
    let stage = Stage::new(&Wanted {
        settings: &[("services", "pool_size = 2")],
        audit: Audit::Clean,
        ..Wanted::default()
    });
    server().psql(&format!("ALTER ROLE {} SUPERUSER", stage.role)).unwrap();
    run(&mut direct(&stage), "CREATE SEQUENCE s");
    let rows: String = KINDS.iter().map(|kind| row(&stage, kind)).collect();
    let table = format!("| state | for example | what becomes of it |\n|---|---|---|\n{rows}");
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, behind) = readme.split_once(BEGIN).unwrap();
    let (said, _) = behind.split_once(END).unwrap();
    assert!(said == table, "the README should say:\n{table}");
}

/// Makes the state, and sees whether it is there on each connection that the
/// client gets, and for nobody else.
fn row(stage: &Stage, kind: &Kind) -> String {
    let (mut one, mut two) = (pooled(stage), pooled(stage));
    let before = ask(&mut two, kind.seen_by);
    run(&mut one, kind.made_by);
    let seen = ask(&mut one, kind.seen_by);
    for _ in 0..3 {
        assert_eq!(ask(&mut two, kind.seen_by), before, "{}", kind.name);
        assert_eq!(ask(&mut one, kind.seen_by), seen, "{}", kind.name);
    }
    let becomes = match (keeper(stage), kind.ended_by) {
        (None, _) if seen == before => "is over with its transaction".to_owned(),
        (None, _) => "follows the client".to_owned(),
        (Some(reason), None) => format!("keeps the connection (`{reason}`)"),
        (Some(reason), Some(end)) => format!("keeps the connection (`{reason}`) until `{end}`"),
    };
    if let Some(end) = kind.ended_by {
        run(&mut one, end);
        eventually(end, || keeper(stage).is_none());
        assert_eq!(ask(&mut one, kind.seen_by), before, "{}", kind.name);
    }
    drop((one, two));
    eventually("clients to be gone", || stage.postern().door().roster.is_empty());
    format!("| {} | `{}` | {becomes} |\n", kind.name, kind.made_by)
}

/// Why a client keeps its connection, if one does.
fn keeper(stage: &Stage) -> Option<&'static str> {
    let seats = stage.postern().door().roster.seats();
    seats.iter().find_map(|seat| Some(seat.pins().iter().next()?.label()))
}

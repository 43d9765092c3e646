//! Decisions 33 to 35, row by row: what a client hears whose server connection
//! is lost, and how it goes on.

use std::time::Duration;

use postern::cluster::Cluster;

use super::super::raw::{Raw, message, simple};
use super::super::stage::{Stage, Wanted, eventually, start_server};
use super::{ask, bind, execute, hear, parse, pooled, session, sync, value};

/// How a server process is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It says nothing; the server's other processes end, too, with 57P02.
    Killed,
    /// It says 57P01 first.
    Told,
}

const HOWS: [How; 2] = [How::Killed, How::Told];

struct Scene {
    stage: Stage,
    server: Cluster,
}

impl Scene {
    fn new() -> Self {
        let installation = postern::cluster::Installations::find().unwrap();
        let server = start_server(installation.postgresql().unwrap());
        let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
        let scene = Self { stage, server };
        scene.sql("CREATE TABLE t (n integer)");
        scene.sql(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql \
             AS $$BEGIN PERFORM pg_sleep(60); RETURN NULL; END$$",
        );
        scene.sql("CREATE TABLE slow (n integer)");
        scene.sql(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
        );
        scene.sql(&format!("GRANT ALL ON t, slow TO {}", scene.stage.role));
        // The server commits asynchronously, and is about to crash.
        scene.sql("CHECKPOINT");
        scene
    }

    fn sql(&self, sql: &str) -> String {
        self.server.psql_in(&self.stage.role, sql).unwrap()
    }

    /// The one process that serves a client now.
    fn process(&self) -> String {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity \
             WHERE usename = '{}' AND backend_type = 'client backend'",
            self.stage.role
        );
        let pids = self.sql(&sql);
        assert_eq!(pids.lines().count(), 1, "{pids:?}");
        pids
    }

    /// Ends the one process, when it is busy with this wait event or idle.
    fn end(&self, how: How, doing: &str) {
        let state = format!(
            "SELECT coalesce(wait_event, state) FROM pg_stat_activity WHERE usename = '{}'",
            self.stage.role
        );
        let mut found = String::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while found != doing {
            assert!(std::time::Instant::now() < deadline, "not {doing} but {found:?}");
            std::thread::sleep(Duration::from_millis(10));
            found = self.sql(&state);
        }
        let pid = self.process();
        match how {
            How::Told => {
                self.sql(&format!("SELECT pg_terminate_backend({pid})"));
                let slots = &self.stage.postern().door().slots;
                let busy = || slots.counts().iter().any(|node| node.counts.used() > 0);
                eventually("a connection that is known to be gone", || !busy());
            }
            How::Killed => {
                let recoveries = self.recoveries();
                let kill = std::process::Command::new("kill").args(["-9", &pid]).status();
                assert!(kill.unwrap().success());
                eventually("a recovery", || self.recoveries() > recoveries);
                eventually("a recovered server", || self.server.psql("SELECT 1").is_ok());
            }
        }
    }

    fn recoveries(&self) -> usize {
        self.server.log().unwrap().matches("reinitializing").count()
    }
}

/// The last of what is heard: a process that is told to end may have said a
/// part of its answer before.
fn outcome(raw: &mut Raw) -> String {
    hear(raw).rsplit(' ').next().unwrap().to_owned()
}

const SLEEPING: &str = "PgSleep";
const READING: &str = "ClientRead";

/// A pooled client goes through this script, is cut off at its end, and hears
/// this; then its session is as good as new.
fn goes_on(scene: &Scene, script: &[&str], doing: &str, expected: &[&str]) {
    for how in HOWS {
        let mut raw = pooled(&scene.stage);
        let (last, before) = script.split_last().unwrap();
        for sql in before {
            assert_eq!(ask(&mut raw, sql), "C:T", "{sql} {how:?}");
        }
        raw.query(last);
        if doing == READING {
            hear(&mut raw);
        }
        scene.end(how, doing);
        assert_goes_on(&mut raw, doing, expected, &format!("{script:?} {how:?}"));
    }
}

/// `expected`: what is heard of what is under way, then statements and their
/// answers, in turn.
fn assert_goes_on(raw: &mut Raw, doing: &str, expected: &[&str], what: &str) {
    let mut expected = expected.iter();
    if doing == SLEEPING {
        assert_eq!(outcome(raw), *expected.next().unwrap(), "{what}");
    }
    while let Some(sql) = expected.next() {
        assert_eq!(ask(raw, sql), *expected.next().unwrap(), "{what}: {sql}");
    }
    assert_eq!(ask(raw, "SELECT 'as good as new'"), "T D C:I", "{what}");
}

#[test]
fn c08_an_idle_client_hears_nothing_of_it() {
    let scene = Scene::new();
    goes_on(&scene, &["SELECT 1"], READING, &[]);
}

#[test]
fn a_statement_outside_a_block_is_unknown() {
    let scene = Scene::new();
    goes_on(&scene, &["SELECT pg_sleep(60)"], SLEEPING, &["08007:I"]);
    let many = "INSERT INTO t VALUES (1); SELECT pg_sleep(60)";
    goes_on(&scene, &[many], SLEEPING, &["08007:I"]);
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
    goes_on(&scene, &["DO 'BEGIN PERFORM pg_sleep(60); END'"], SLEEPING, &["08007:I"]);
}

#[test]
fn a_statement_inside_a_block_is_not_committed() {
    let scene = Scene::new();
    let begun = ["BEGIN", "INSERT INTO t VALUES (1)", "SELECT pg_sleep(60)"];
    // PostgreSQL itself answers what follows.
    let after = ["40001:E", "SELECT 1", "25P02:E", "ROLLBACK", "C:I"];
    goes_on(&scene, &begun, SLEEPING, &after);
    goes_on(&scene, &begun, SLEEPING, &["40001:E", "COMMIT", "C:I"]);
    goes_on(&scene, &begun, SLEEPING, &["40001:E", "rollback work", "C:I"]);
    goes_on(&scene, &["BEGIN; SELECT pg_sleep(60)"], SLEEPING, &["40001:E", "ABORT", "C:I"]);
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn an_idle_block_is_lost_when_the_client_goes_on_with_it() {
    let scene = Scene::new();
    let begun = ["BEGIN", "INSERT INTO t VALUES (1)"];
    let after = ["INSERT INTO t VALUES (2)", "40001:E", "SELECT 1", "25P02:E", "END", "C:I"];
    goes_on(&scene, &begun, READING, &after);
    goes_on(&scene, &begun, READING, &["COMMIT", "40001:I"]);
    goes_on(&scene, &begun, READING, &["ROLLBACK", "C:I"]);
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
    let failed = ["BEGIN", "SELECT 1/0"];
    goes_on(&scene, &failed, READING, &["SELECT 1", "25P02:E", "COMMIT", "C:I"]);
}

#[test]
fn an_unconfirmed_commit_is_unknown() {
    let scene = Scene::new();
    let begun = |end| ["BEGIN", "INSERT INTO slow VALUES (1)", end];
    for end in ["COMMIT", "end;", "SELECT 1; COMMIT", "PREPARE TRANSACTION 'x'"] {
        goes_on(&scene, &begun(end), SLEEPING, &["08007:I"]);
    }
    assert_eq!(scene.sql("SELECT count(*) FROM slow"), "0");
}

/// What is sent ahead in one go: each group is answered, and nothing of it
/// turns into autocommit (decision 29).
#[test]
fn every_group_of_a_pipeline_is_answered() {
    let scene = Scene::new();
    let sleep = "SELECT pg_sleep(60)";
    let batch = |sql: &str| [parse("", sql), bind(""), execute(), sync()].concat();
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        ("outside", [simple(sleep), simple("SELECT 1")].concat(), vec!["08007:I", "08007:I"]),
        (
            "a block, to its end",
            ["BEGIN", sleep, "COMMIT"].map(simple).concat(),
            vec!["C:T", "08007:E", "08007:I"],
        ),
        (
            "a block, to its middle",
            ["BEGIN", sleep, "INSERT INTO t VALUES (1)"].map(simple).concat(),
            vec!["C:T", "40001:E", "40001:E"],
        ),
        ("extended", [batch("BEGIN"), batch(sleep)].concat(), vec!["C:T", "40001:E"]),
        ("extended, outside", batch(sleep), vec!["08007:I"]),
        (
            "a batch that begins a block",
            [parse("", "BEGIN"), bind(""), execute(), batch(sleep)].concat(),
            vec!["40001:E"],
        ),
    ];
    for (what, bytes, expected) in cases {
        for how in HOWS {
            let mut raw = pooled(&scene.stage);
            raw.send(&bytes);
            scene.end(how, SLEEPING);
            for group in &expected {
                assert_eq!(outcome(&mut raw), *group, "{what} {how:?}");
            }
            if expected.last().unwrap().ends_with('E') {
                assert_eq!(ask(&mut raw, "ROLLBACK"), "C:I", "{what} {how:?}");
            }
            assert_eq!(ask(&mut raw, "SELECT 1"), "T D C:I", "{what} {how:?}");
        }
    }
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_batch_without_its_sync_is_skipped_up_to_it() {
    let scene = Scene::new();
    for how in HOWS {
        let mut raw = pooled(&scene.stage);
        raw.send(&[parse("", "SELECT pg_sleep(60)"), bind(""), execute()].concat());
        raw.send(&message(b'H', b""));
        scene.end(how, SLEEPING);
        assert_eq!(raw.read_until(b'E').pop().unwrap().sqlstate(), "40001");
        let insert = simple("INSERT INTO t VALUES (1)");
        raw.send(&[bind(""), insert, sync(), simple("SELECT 2")].concat());
        assert_eq!([hear(&mut raw), hear(&mut raw)], [":I", "T D C:I"]);
    }
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_copy_that_breaks_off_leaves_nothing_behind() {
    let scene = Scene::new();
    for how in HOWS {
        let mut raw = pooled(&scene.stage);
        raw.query("COPY t FROM STDIN");
        raw.read_until(b'G');
        raw.send(&message(b'd', b"1\n"));
        scene.end(how, READING);
        assert_eq!(hear(&mut raw), "08007:I");
        raw.send(&[message(b'd', b"2\n"), message(b'c', b"")].concat());
        assert_eq!(ask(&mut raw, "SELECT 1"), "T D C:I");
    }
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
}

/// A message of which the server had got only the beginning.
#[test]
fn half_a_message_is_answered_and_thrown_away() {
    let scene = Scene::new();
    let long = simple(&format!("INSERT INTO t VALUES (1); SELECT '{}'", "x".repeat(400_000)));
    let mut raw = pooled(&scene.stage);
    raw.send(&long[..350_000]);
    scene.end(How::Told, READING);
    // A text of this length pins: it was not read.
    let told = raw.last_words();
    assert_eq!(told.sqlstate(), "08007");
    let mut raw = pooled(&scene.stage);
    let bound = [&b"\0\0\0\0\0\x01"[..], &300_000_u32.to_be_bytes(), &vec![b'x'; 300_000], b"\0\0"];
    let long = message(b'B', &bound.concat());
    raw.send(&[simple("BEGIN"), parse("", "SELECT $1::text")].concat());
    raw.send(&long[..200_000]);
    assert_eq!(hear(&mut raw), "C:T");
    scene.end(How::Told, READING);
    raw.read_until(b'E');
    raw.send(&[&long[200_000..], &execute(), &sync()].concat());
    assert_eq!(hear(&mut raw), ":E");
    assert_eq!(ask(&mut raw, "ROLLBACK"), "C:I");
    assert_eq!(ask(&mut raw, "SELECT 1"), "T D C:I");
}

#[test]
fn prepared_statements_and_settings_outlive_their_connection() {
    let scene = Scene::new();
    let mut raw = pooled(&scene.stage);
    ask(&mut raw, "SET application_name = 'mine'");
    raw.send(&[parse("s", "SELECT current_setting('application_name')"), sync()].concat());
    assert_eq!(hear(&mut raw), "1:I");
    // The second is under way when its connection is lost: it was not prepared.
    raw.send(&[simple("BEGIN"), simple("SELECT pg_sleep(60)"), parse("late", "SELECT 2")].concat());
    scene.end(How::Killed, SLEEPING);
    raw.send(&sync());
    for expected in ["C:T", "40001:E"] {
        assert_eq!(hear(&mut raw), expected);
    }
    assert_eq!(raw.read_until(b'Z').last().unwrap().body, b"E");
    assert_eq!(ask(&mut raw, "ROLLBACK"), "C:I");
    raw.send(&[bind("s"), execute(), sync()].concat());
    let row = raw.read_until(b'Z').into_iter().find(|m| m.kind == b'D').unwrap();
    assert!(row.body.ends_with(b"mine"));
    raw.send(&[bind("late"), execute(), sync()].concat());
    assert_eq!(hear(&mut raw), "26000:I");
}

#[test]
fn a_pinned_client_is_ended_and_told_what_it_held() {
    let scene = Scene::new();
    let cases: [(&[&str], &str, How, &str, &str); 4] = [
        (&["LISTEN news"], READING, How::Killed, "57P01", "listen"),
        (&["LISTEN news", "BEGIN"], READING, How::Killed, "40001", "listen"),
        (
            &["CREATE TEMPORARY TABLE mine ()", "SELECT pg_sleep(60)"],
            SLEEPING,
            How::Told,
            "08007",
            "temporary object",
        ),
        (&["LISTEN news"], READING, How::Told, "57P01", ""),
    ];
    for (script, doing, how, sqlstate, state) in cases {
        let mut raw = pooled(&scene.stage);
        for sql in script {
            raw.query(sql);
            if *sql != "SELECT pg_sleep(60)" {
                hear(&mut raw);
            }
        }
        scene.end(how, doing);
        let told = raw.last_words();
        assert_eq!(told.sqlstate(), sqlstate, "{script:?}");
        let detail = told.field(b'D').unwrap_or_default();
        assert!(detail.contains(state), "{script:?}: {detail}");
        assert_eq!(state.is_empty(), told.field(b'M').unwrap().contains("administrator"));
    }
}

/// A FATAL about the client itself is its own: PostgreSQL would end it as well.
#[test]
fn a_timeout_of_the_servers_ends_the_session_in_its_own_words() {
    let scene = Scene::new();
    scene.sql(&format!(
        "ALTER ROLE {} SET idle_in_transaction_session_timeout = '200ms'",
        scene.stage.role
    ));
    let mut raw = pooled(&scene.stage);
    ask(&mut raw, "BEGIN");
    assert_eq!(raw.last_words().sqlstate(), "25P03");
}

#[test]
fn a_session_ends_with_what_is_known() {
    let scene = Scene::new();
    let slow = "INSERT INTO slow VALUES (1)";
    let sleep = "SELECT pg_sleep(60)";
    let cases: [(&[&str], &str, &str, &str); 6] = [
        (&["SELECT 1"], READING, "57P01", "57P01"),
        (&["BEGIN"], READING, "40001", "57P01"),
        (&["BEGIN", sleep], SLEEPING, "40001", "57P01"),
        (&[sleep], SLEEPING, "08007", "08007"),
        (&["BEGIN", slow, "COMMIT"], SLEEPING, "08007", "08007"),
        (&["BEGIN", slow, "SELECT 2; COMMIT"], SLEEPING, "08007", "08007"),
    ];
    for (script, doing, killed, told) in cases {
        for (how, sqlstate) in [(How::Killed, killed), (How::Told, told)] {
            let mut raw = session(&scene.stage);
            let (last, before) = script.split_last().unwrap();
            for sql in before {
                ask(&mut raw, sql);
            }
            raw.query(last);
            if doing == READING {
                hear(&mut raw);
            }
            scene.end(how, doing);
            let error = raw.last_words();
            assert_eq!(error.sqlstate(), sqlstate, "{script:?} {how:?}");
            let own = error.field(b'M').unwrap().contains("administrator command");
            assert_eq!(own, how == How::Told && sqlstate == "57P01", "{script:?} {how:?}");
        }
    }
}

/// C-4: whoever waits for a server that is starting up is served.
#[test]
fn c04_clients_wait_for_a_server_that_comes_back() {
    let scene = Scene::new();
    let mut clients: Vec<_> = (0..20).map(|_| pooled(&scene.stage)).collect();
    let pid = scene.server.pid().unwrap();
    scene.server.kill_9().unwrap();
    for raw in &mut clients {
        raw.query("SELECT 'served'");
    }
    std::thread::sleep(Duration::from_millis(500));
    scene.server.start().unwrap();
    assert_ne!(scene.server.pid().unwrap(), pid);
    for raw in &mut clients {
        assert_eq!(hear(raw), "T D C:I");
    }
    assert_eq!(value(&mut clients[0], "SELECT 1"), "1");
    assert!(
        scene.stage.metric("postern_hold_duration_seconds_count{endpoint=\"transaction\"}") >= 20
    );
}

//! The session itself: PostgreSQL's own semantics, through Postern.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::pooled_client::{ask, run};
use super::raw::{Message, Raw, message};
use super::stage::{Stage, Wanted, eventually, server};

/// A direct connection to the server, as a stage's role.
fn direct(stage: &Stage) -> Raw {
    let mut raw = Raw::connect(server().port());
    raw.startup(super::raw::V3_0, &[("user", &stage.role), ("database", &stage.role)]);
    assert_eq!(raw.authenticate(super::stage::PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    raw
}

fn proxied(stage: &Stage) -> Raw {
    Raw::log_in(stage, &[]).unwrap().0
}

/// The messages that answer these bytes, up to as many `ReadyForQuery`, from
/// the server directly and through Postern.
fn compare(stage: &Stage, what: &str, bytes: &[u8], answers: usize) {
    let ask = |mut raw: Raw| -> Vec<Message> {
        raw.send(bytes);
        let mut ready = 0;
        let mut messages = Vec::new();
        while ready < answers
            && let Ok(message) = raw.try_read()
        {
            ready += usize::from(message.kind == b'Z');
            messages.push(message);
        }
        messages
    };
    let expected = ask(direct(stage));
    let answered = ask(proxied(stage));
    assert_eq!(answered, expected, "{what}");
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn bind(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', &[portal.as_bytes(), b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

fn execute(rows: u32) -> Vec<u8> {
    message(b'E', &[&b"\0"[..], &rows.to_be_bytes()].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn copy_data(text: &str) -> Vec<u8> {
    message(b'd', text.as_bytes())
}

#[test]
fn d01_copy_from_stdin_goes_wrong_as_it_does_on_postgresql() {
    let stage = Stage::usual();
    let mut setup = proxied(&stage);
    setup.query("CREATE TABLE numbers (n integer)");
    setup.read_until(b'Z');
    let begin = query("COPY numbers FROM STDIN");
    let (done, fail) = (message(b'c', b""), message(b'f', b"no more\0"));
    let (good, bad) = (copy_data("1\n"), copy_data("x\n"));
    let next = query("SELECT 1");
    let extended = [parse("", "COPY numbers FROM STDIN"), bind("", ""), execute(0)].concat();
    let cases: Vec<(&str, Vec<Vec<u8>>, usize)> = vec![
        ("good data", vec![begin.clone(), good.clone(), done.clone(), next.clone()], 2),
        ("no data", vec![begin.clone(), done.clone(), next.clone()], 2),
        (
            "bad data, then more",
            vec![begin.clone(), bad.clone(), good.clone(), done.clone(), next.clone()],
            2,
        ),
        ("CopyFail", vec![begin.clone(), good.clone(), fail.clone(), next.clone()], 2),
        (
            "bad data, then CopyFail",
            vec![begin.clone(), bad.clone(), fail.clone(), next.clone()],
            2,
        ),
        (
            "a query in the data",
            vec![begin.clone(), good.clone(), next.clone(), done.clone(), next.clone()],
            2,
        ),
        (
            "Sync in the data",
            vec![begin.clone(), good.clone(), sync(), good.clone(), done.clone(), next.clone()],
            2,
        ),
        (
            "no such table",
            vec![query("COPY missing FROM STDIN"), good.clone(), done.clone(), next.clone()],
            2,
        ),
        (
            "extended, good",
            vec![extended.clone(), good.clone(), done.clone(), sync(), next.clone()],
            2,
        ),
        (
            "extended, Sync sent early",
            vec![extended.clone(), sync(), good.clone(), done.clone(), sync(), next.clone()],
            2,
        ),
        (
            "extended, bad",
            vec![extended.clone(), bad.clone(), good.clone(), done.clone(), sync(), next.clone()],
            2,
        ),
        ("extended, CopyFail", vec![extended.clone(), fail.clone(), sync(), next.clone()], 2),
        (
            "late CopyDone",
            vec![next.clone(), done.clone(), copy_data("late"), fail.clone(), next.clone()],
            2,
        ),
        (
            "twice",
            vec![begin.clone(), good.clone(), done.clone(), begin.clone(), bad, done, next],
            3,
        ),
    ];
    for (what, messages, answers) in cases {
        compare(&stage, what, &messages.concat(), answers);
    }
    let seat = &stage.postern().door().roster;
    eventually("every session to be idle and gone", || seat.len() == 1);
}

#[test]
fn d01_a_session_is_idle_again_after_any_copy() {
    let stage = Stage::usual();
    let mut raw = proxied(&stage);
    raw.query("CREATE TABLE numbers (n integer)");
    raw.read_until(b'Z');
    let extended =
        [parse("", "COPY numbers FROM STDIN"), bind("", ""), execute(0), sync()].concat();
    raw.send(&extended);
    raw.read_until(b'G');
    let idle = || {
        let seats = stage.postern().door().roster.seats();
        seats[0].activity() == postern::directory::roster::Activity::Idle
    };
    assert!(!idle());
    raw.send(&[copy_data("1\n"), message(b'c', b""), sync()].concat());
    raw.read_until(b'Z');
    eventually("the session to be idle", idle);
}

#[test]
fn d02_pipelines_that_nobody_reads_stall_and_then_go_on() {
    let stage = Stage::usual();
    let mut raw = proxied(&stage);
    let row = query("SELECT repeat('x', 1000000)");
    let writer = raw.socket().try_clone().unwrap();
    let many = row.repeat(100);
    let sender = std::thread::spawn(move || {
        use std::io::Write as _;
        (&writer).write_all(&many).unwrap();
    });
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..100 {
        let messages = raw.read_until(b'Z');
        assert_eq!(messages.iter().find(|m| m.kind == b'D').unwrap().body.len(), 1_000_006);
    }
    sender.join().unwrap();
}

#[test]
fn d03_impossible_lengths_are_postgresqls_to_answer() {
    let stage = Stage::usual();
    for length in [0u32, 3, 1 << 31, u32::MAX] {
        let bytes = [&[b'Q'][..], &length.to_be_bytes(), b"SELECT 1\0"].concat();
        let answer = |mut raw: Raw| {
            raw.send(&bytes);
            raw.read_rest()
        };
        assert_eq!(answer(proxied(&stage)), answer(direct(&stage)), "{length}");
    }
    let mut after = proxied(&stage);
    after.query("SELECT 1");
    after.read_until(b'Z');
}

#[test]
fn d03_unknown_messages_are_postgresqls_to_answer() {
    let stage = Stage::usual();
    for kind in [b'?', b'R', 0xff] {
        let answer = |mut raw: Raw| {
            raw.send(&message(kind, b"abc"));
            raw.read_rest()
        };
        assert_eq!(answer(proxied(&stage)), answer(direct(&stage)), "{kind}");
    }
}

#[test]
fn d04_every_kind_of_batch_answers_as_postgresql_does() {
    let stage = Stage::usual();
    let select = |n: u32| parse("", &format!("SELECT {n}"));
    let describe = message(b'D', b"P\0");
    let batch = [select(1), bind("", ""), describe, execute(0), sync()].concat();
    compare(&stage, "extended", &batch, 1);
    compare(&stage, "pipeline", &batch.repeat(5), 5);
    let failing = [select(1), parse("", "SELEC"), bind("", ""), execute(0), sync(), batch.clone()];
    compare(&stage, "an error in the middle", &failing.concat(), 2);
    compare(&stage, "mixed", &[batch.clone(), query("SELECT 2"), batch.clone()].concat(), 3);
    compare(&stage, "several statements", &query("SELECT 1; SELECT 2; SELEC"), 1);
    compare(&stage, "an empty query", &query(""), 1);
    compare(&stage, "two Syncs", &[batch.clone(), sync()].concat(), 2);
    let suspended = [
        parse("", "SELECT generate_series(1, 5)"),
        bind("", ""),
        execute(2),
        execute(2),
        execute(2),
        sync(),
    ];
    compare(&stage, "PortalSuspended", &suspended.concat(), 1);
    let unknown = [message(b'C', b"Snothing\0"), message(b'C', b"Pnothing\0"), sync()];
    compare(&stage, "Close of what is not there", &unknown.concat(), 1);
    let fastpath = message(b'F', &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    compare(&stage, "an unknown function", &fastpath, 1);
    compare(&stage, "COPY out", &query("COPY (SELECT generate_series(1, 1000)) TO STDOUT"), 1);
    compare(&stage, "a notice", &query("DO $$BEGIN RAISE NOTICE 'hear me'; END$$"), 1);
    compare(&stage, "a setting", &query("SET timezone = 'Asia/Tokyo'"), 1);
}

#[test]
fn d05_a_huge_row_is_streamed_and_its_client_may_go() {
    let stage = Stage::new(&Wanted { plan: "hobbyist", ..Wanted::default() });
    let mut raw = proxied(&stage);
    raw.query("SELECT repeat('x', 500000000)");
    let rss = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = rss();
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0usize;
    while read < 250_000_000 {
        use std::io::Read as _;
        read += raw.socket().read(&mut buffer).unwrap();
    }
    // Whoever does not stop the server now has the rest of the row in memory.
    std::thread::sleep(Duration::from_secs(2));
    let grown = rss().saturating_sub(before);
    println!("250 MB of a row read, resident memory grown by {grown} kB");
    assert!(grown < 64 * 1024, "the row is not kept: {grown} kB");
    drop(raw);
    eventually("the slot to be free", || {
        let counts = stage.postern().door().slots.counts()[0].counts;
        counts.used() == 0
    });
}

#[test]
fn the_backends_end_is_told_once_and_in_its_own_words() {
    let stage = Stage::usual();
    let terminate = |raw: &mut Raw| {
        let pid = ask(raw, "SELECT pg_backend_pid()");
        server().psql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        raw.read_rest()
    };
    let (mut through, mut without) = (proxied(&stage), direct(&stage));
    assert_eq!(terminate(&mut through), terminate(&mut without));
}

/// What the backend said before the client's statement came is the answer to
/// it: the statement has not been run, so that nothing is unknown.
#[test]
fn a_statement_behind_the_backends_end_hears_the_backends_words() {
    let stage = Stage::usual();
    let served = stage.serve();
    for (port, before) in [
        (served.session_port, "SELECT 1"),
        (served.session_port, "BEGIN"),
        (served.transaction_port, "LISTEN news"),
    ] {
        let (mut raw, _) = Raw::enter(&stage, port, &[]).unwrap();
        raw.query(before);
        raw.read_until(b'Z');
        let pid = ask(&mut raw, "SELECT pg_backend_pid()");
        // Postern finds both in its sockets at once.
        served.signal(Signal::STOP);
        let gone = server().psql(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
        raw.query("SELECT 1");
        served.signal(Signal::CONT);
        assert_eq!(gone.unwrap(), "t");
        let said = raw.last_words().field(b'M').unwrap();
        assert_eq!(said, "terminating connection due to administrator command", "{before}");
    }
}

/// An answer and the backend's end that come in one piece: the connection goes
/// to nobody any more, and the client goes on with another.
#[test]
fn a_backend_that_ends_right_behind_its_answer_is_given_to_nobody() {
    let stage = Stage::usual();
    let served = stage.serve();
    let (mut raw, _) = Raw::enter(&stage, served.transaction_port, &[]).unwrap();
    raw.query("SELECT pg_sleep(0.5)");
    let of_the_backend = |what: &str| {
        let sql = format!("SELECT {what} FROM pg_stat_activity WHERE usename = '{}'", stage.role);
        server().psql(&sql).unwrap()
    };
    eventually("the query to run", || of_the_backend("wait_event") == "PgSleep");
    served.signal(Signal::STOP);
    eventually("its end", || of_the_backend("state") == "idle");
    assert_eq!(of_the_backend("pg_terminate_backend(pid, 10000)"), "t");
    served.signal(Signal::CONT);
    let told: Vec<_> = raw.read_until(b'Z').iter().map(|message| message.kind).collect();
    assert_eq!(told, b"TDCZ");
    for sql in ["BEGIN", "SELECT 1", "COMMIT"] {
        run(&mut raw, sql);
    }
}

#[test]
fn notifications_and_parameter_reports_arrive_unasked() {
    let stage = Stage::usual();
    let mut listener = proxied(&stage);
    listener.query("LISTEN news");
    listener.read_until(b'Z');
    let mut notifier = proxied(&stage);
    notifier.query("NOTIFY news, 'extra'");
    notifier.read_until(b'Z');
    let notification = listener.read();
    assert_eq!(notification.kind, b'A');
    assert!(notification.body.ends_with(b"news\0extra\0"));
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let stage = Stage::usual();
    let mut raw = proxied(&stage);
    raw.query("SELECT pg_sleep(0.3), 'late'");
    raw.socket().shutdown(std::net::Shutdown::Write).unwrap();
    let rest = raw.read_rest();
    assert!(rest.windows(4).any(|w| w == b"late"));
}

#[test]
fn an_abandoned_query_is_cancelled_after_a_moment() {
    let stage = Stage::usual();
    let mut raw = proxied(&stage);
    raw.query("SELECT pg_sleep(60)");
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    raw.socket().shutdown(std::net::Shutdown::Write).unwrap();
    let rest = String::from_utf8_lossy(&raw.read_rest()).into_owned();
    assert!(rest.contains("C57014"), "{rest}");
    let took = started.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
}

/// A backend that is killed says nothing: then Postern does.
#[test]
fn a_killed_backend_is_told_apart_by_what_was_under_way() {
    let installation = postern::cluster::Installations::find().unwrap();
    for (before, expected) in [(None, "57P01"), (Some("BEGIN"), "40001")] {
        let server = super::stage::start_server(installation.postgresql().unwrap());
        let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
        let mut raw = proxied(&stage);
        if let Some(sql) = before {
            raw.query(sql);
            raw.read_until(b'Z');
        }
        let pid = ask(&mut raw, "SELECT pg_backend_pid()");
        let kill = std::process::Command::new("kill").args(["-9", &pid]).status();
        assert!(kill.unwrap().success());
        assert_eq!(raw.read().sqlstate(), expected, "{before:?}");
    }
}

#[test]
fn a_lost_server_is_told_apart_by_what_was_under_way() {
    let installation = postern::cluster::Installations::find().unwrap();
    let server = super::stage::start_server(installation.postgresql().unwrap());
    let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
    let mut idle = proxied(&stage);
    let mut busy = proxied(&stage);
    busy.query("SELECT pg_sleep(60)");
    std::thread::sleep(Duration::from_millis(300));
    server.kill_9().unwrap();
    let idle = idle.read();
    let busy = busy.read();

    assert!(["57P01", "57P02"].contains(&idle.sqlstate().as_str()), "{idle:?}");
    assert!(["08007", "57P02"].contains(&busy.sqlstate().as_str()), "{busy:?}");
}

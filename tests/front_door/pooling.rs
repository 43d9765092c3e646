//! The transaction endpoint: a server connection for each transaction, and
//! nothing lost or leaked by it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::pooled_client::{
    ask, bind, direct, execute, kinds, narrow, parse, pooled, pooled_with, run, send, sync,
    transaction_uri, value,
};
use super::raw::{Message, Raw, message};
use super::stage::{Stage, eventually, psql, server, stdout};

#[test]
fn many_clients_share_one_server_connection() {
    let stage = narrow();
    let mut clients: Vec<_> = (0..20).map(|_| pooled(&stage)).collect();
    let pids: HashSet<_> =
        clients.iter_mut().map(|raw| ask(raw, "SELECT pg_backend_pid()")).collect();
    assert_eq!(pids.len(), 1);
    std::thread::scope(|scope| {
        for (n, raw) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                for round in 0..50 {
                    let sql = format!("SELECT '{n}/{round}'");
                    assert_eq!(ask(raw, &sql), format!("{n}/{round}"));
                }
            });
        }
    });
    let node = server().address().to_string();
    let series =
        format!("postern_server_connections{{node=\"{node}\",service=\"orders\",state=\"idle\"}}");
    eventually("one idle connection", || stage.metric(&series) == 1);
}

#[test]
fn a_transaction_keeps_its_connection_and_others_wait() {
    let stage = narrow();
    let (mut first, mut second) = (pooled(&stage), pooled(&stage));
    run(&mut first, "BEGIN");
    run(&mut first, "CREATE TABLE mine (n integer)");
    second.query("SELECT 'waited'");
    second.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(second.try_read().is_err());
    second.socket().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    run(&mut first, "ROLLBACK");
    assert_eq!(value(&second.read_until(b'Z')), "waited");
}

#[test]
fn d34_whoever_waits_too_long_hears_it_and_goes_on() {
    let stage = Stage::with(&[
        ("services", "pool_size = 1"),
        ("services", "query_wait_timeout = \"300ms\""),
    ]);
    let (mut holder, mut waiter) = (pooled(&stage), pooled(&stage));
    run(&mut holder, "BEGIN");
    // Decision 29: a pipeline's every group is refused, not only its first.
    let pipeline = [
        message(b'Q', b"BEGIN\0"),
        message(b'Q', b"SELECT 'lost'\0"),
        parse("", "SELECT 2"),
        sync(),
    ];
    waiter.send(&pipeline.concat());
    for _ in 0..3 {
        let messages = waiter.read_until(b'Z');
        assert_eq!(kinds(&messages), "EZ");
        assert_eq!(messages[0].sqlstate(), "53300");
        assert_eq!(messages[0].field(b'S').unwrap(), "ERROR");
        assert_eq!(messages[1].body, b"I");
    }
    run(&mut holder, "COMMIT");
    assert_eq!(ask(&mut waiter, "SELECT 'alive'"), "alive");
}

/// A driver's client of the transaction endpoint.
async fn driver(stage: &Stage) -> tokio_postgres::Client {
    let config: tokio_postgres::Config = transaction_uri(stage).parse().unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What a query comes to that is cancelled when it has begun.
async fn cancelled(client: &tokio_postgres::Client, sql: &str) -> String {
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (query, ()) = tokio::join!(client.simple_query(sql), cancel);
    query.unwrap_err().code().unwrap().code().to_owned()
}

#[test]
fn b09_a_cancel_while_waiting_frees_the_place() {
    let stage = narrow();
    let mut holder = pooled(&stage);
    stage.block_on(async {
        let client = driver(&stage).await;
        run(&mut holder, "BEGIN");
        assert_eq!(cancelled(&client, "SELECT 1").await, "57014");
        let counts = stage.postern().door().slots.counts()[0].counts;
        assert_eq!(counts.waiting, 0);
    });
    run(&mut holder, "COMMIT");
}

#[test]
fn cancel_reaches_the_running_query_and_no_other() {
    let stage = narrow();
    let mut other = pooled(&stage);
    stage.block_on(async {
        let client = driver(&stage).await;
        assert_eq!(cancelled(&client, "SELECT pg_sleep(30)").await, "57014");
        let token = client.cancel_token();
        for _ in 0..50 {
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
            assert_eq!(ask(&mut other, "SELECT 'untouched'"), "untouched");
        }
    });
}

#[test]
fn settings_that_are_reported_follow_their_client() {
    let stage = narrow();
    let mut berlin = pooled(&stage);
    let mut tokyo = pooled_with(&stage, &[("application_name", "it's \\ tokyo")]);
    run(&mut berlin, "SET timezone = 'Europe/Berlin'");
    run(&mut berlin, "SET datestyle = 'German'");
    assert_eq!(ask(&mut tokyo, "SHOW timezone"), ask(&mut direct(&stage), "SHOW timezone"));
    assert_eq!(ask(&mut tokyo, "SHOW application_name"), "it's \\ tokyo");
    assert_eq!(ask(&mut berlin, "SHOW timezone"), "Europe/Berlin");
    assert_eq!(ask(&mut berlin, "SHOW datestyle"), "German, DMY");
    assert_eq!(ask(&mut berlin, "SHOW application_name"), "");
    run(&mut berlin, "BEGIN");
    run(&mut berlin, "SET timezone = 'UTC'");
    run(&mut berlin, "ROLLBACK");
    assert_eq!(ask(&mut tokyo, "SHOW datestyle"), "ISO, MDY");
    assert_eq!(ask(&mut berlin, "SHOW timezone"), "Europe/Berlin");
}

#[test]
fn settings_follow_their_client_through_the_queue() {
    let stage = narrow();
    let zones = ["UTC", "Europe/Berlin", "Asia/Tokyo", "America/Lima"];
    std::thread::scope(|scope| {
        for zone in zones {
            let mut raw = pooled(&stage);
            scope.spawn(move || {
                run(&mut raw, &format!("SET timezone = '{zone}'"));
                for _ in 0..100 {
                    assert_eq!(ask(&mut raw, "SHOW timezone"), zone);
                }
            });
        }
    });
}

#[test]
fn state_that_cannot_be_replayed_keeps_its_connection() {
    let stage = Stage::with(&[("services", "pool_size = 2")]);
    for (make, look, expected) in [
        ("SET work_mem = '7MB'", "SHOW work_mem", "7MB"),
        ("CREATE TEMP TABLE t AS SELECT 42 AS n", "SELECT n FROM t", "42"),
        ("PREPARE p AS SELECT 'prepared'", "EXECUTE p", "prepared"),
        (
            "SELECT pg_advisory_lock(42)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            "1",
        ),
        (
            "SELECT set_config('my.tenant', 'blue', false)",
            "SELECT current_setting('my.tenant')",
            "blue",
        ),
    ] {
        let mut keeper = pooled(&stage);
        let mut others: Vec<_> = (0..3).map(|_| pooled(&stage)).collect();
        keeper.query(make);
        keeper.read_until(b'Z');
        for _ in 0..4 {
            for other in &mut others {
                other.query(look);
                let messages = other.read_until(b'Z');
                let leaked =
                    messages.iter().any(|m| m.kind == b'D') && value(&messages) == expected;
                assert!(!leaked, "{make} leaked");
            }
            assert_eq!(ask(&mut keeper, look), expected, "{make}");
        }
    }
}

#[test]
fn d20_discard_all_ends_what_a_session_left() {
    let stage = narrow();
    let mut raw = pooled(&stage);
    run(&mut raw, "SET work_mem = '7MB'");
    send(&mut raw, &[parse("s", "SELECT 1"), sync()]);
    run(&mut raw, "DISCARD ALL");
    let mut other = pooled(&stage);
    assert_ne!(ask(&mut other, "SHOW work_mem"), "7MB");
    let messages = send(&mut raw, &[bind("s"), execute(), sync()]);
    assert_eq!(messages[0].sqlstate(), "26000");
    assert_eq!(messages[0].field(b'M').unwrap(), "prepared statement \"s\" does not exist");
    assert_eq!(ask(&mut raw, "SELECT 'goes on'"), "goes on");
}

#[test]
fn every_kind_of_batch_answers_as_postgresql_does() {
    let stage = narrow();
    let batch = |n: u32| {
        [parse("", &format!("SELECT {n}")), bind(""), message(b'D', b"P\0"), execute(), sync()]
            .concat()
    };
    let cases: Vec<(&str, Vec<u8>, usize)> = vec![
        ("pipeline", (0..20).flat_map(batch).collect(), 20),
        ("mixed", [batch(1), message(b'Q', b"SELECT 2\0"), batch(3)].concat(), 3),
        (
            "an error in the middle",
            [batch(1), message(b'Q', b"SELEC\0"), parse("", "SELEC"), bind(""), sync(), batch(2)]
                .concat(),
            4,
        ),
        ("a block", [message(b'Q', b"BEGIN\0"), batch(1), message(b'Q', b"COMMIT\0")].concat(), 3),
        ("COPY out", message(b'Q', b"COPY (SELECT generate_series(1, 10000)) TO STDOUT\0"), 1),
        (
            "COPY in",
            [
                message(b'Q', b"CREATE TABLE c (n integer)\0"),
                message(b'Q', b"COPY c FROM STDIN\0"),
                message(b'd', b"1\n2\n"),
                message(b'c', b""),
                message(b'Q', b"DROP TABLE c\0"),
            ]
            .concat(),
            3,
        ),
        (
            "COPY in, extended",
            [
                message(b'Q', b"CREATE TABLE c (n integer)\0"),
                parse("", "COPY c FROM STDIN"),
                bind(""),
                execute(),
                sync(),
                message(b'd', b"1\n"),
                message(b'c', b""),
                sync(),
                message(b'Q', b"DROP TABLE c\0"),
            ]
            .concat(),
            3,
        ),
        (
            "PortalSuspended",
            [
                parse("", "SELECT generate_series(1, 5)"),
                bind(""),
                message(b'E', b"\0\0\0\0\x02"),
                message(b'E', b"\0\0\0\0\x02"),
                sync(),
            ]
            .concat(),
            1,
        ),
        ("two Syncs", [sync(), sync()].concat(), 2),
    ];
    for (what, bytes, answers) in cases {
        let answer = |mut raw: Raw| -> Vec<Message> {
            raw.send(&bytes);
            (0..answers).flat_map(|_| raw.read_until(b'Z')).collect()
        };
        let expected = answer(direct(&stage));
        assert_eq!(answer(pooled(&stage)), expected, "{what}");
        let mut raw = pooled(&stage);
        for byte in &bytes {
            raw.send(&[*byte]);
        }
        let split: Vec<_> = (0..answers).flat_map(|_| raw.read_until(b'Z')).collect();
        assert_eq!(split, expected, "{what}, in single bytes");
    }
}

/// Simple queries in the middle of a batch, with an error at each place: the
/// answers are PostgreSQL's, and the connection is free afterwards.
#[test]
fn d16_mixed_batches_with_an_error_at_each_place() {
    let stage = narrow();
    let good = || {
        vec![
            parse("", "SELECT 1"),
            bind(""),
            execute(),
            message(b'Q', b"SELECT 2\0"),
            parse("", "SELECT 3"),
            bind(""),
            execute(),
            sync(),
        ]
    };
    let bad = |at: usize| {
        let mut messages = good();
        messages[at] = match at {
            0 | 4 => parse("", "SELEC"),
            1 | 5 => bind("missing"),
            3 => message(b'Q', b"SELEC\0"),
            _ => message(b'E', b"missing\0\0\0\0\0"),
        };
        messages
    };
    let (mut raw, mut without) = (pooled(&stage), direct(&stage));
    let mut other = pooled(&stage);
    for at in 0..7 {
        let until_idle = |raw: &mut Raw| -> String {
            raw.send(&[bad(at).concat(), message(b'Q', b"SELECT 'end'\0")].concat());
            let mut said = String::new();
            loop {
                let messages = raw.read_until(b'Z');
                said.push_str(&kinds(&messages));
                if messages.iter().any(|m| m.kind == b'D' && m.body.ends_with(b"end")) {
                    return said;
                }
            }
        };
        let expected = until_idle(&mut without);
        assert_eq!(until_idle(&mut raw), expected, "an error at {at}");
        assert_eq!(ask(&mut other, "SELECT 'free'"), "free", "an error at {at}");
    }
}

/// After an error the server skips a Parse of the unnamed statement: whose is
/// there then is not known, and nobody runs another's.
#[test]
fn d33_clients_that_close_while_something_is_held() {
    let stage = narrow();
    let group = || [bind(""), execute(), sync()].concat();
    let mut two = pooled(&stage);
    let lend_to = |two: &mut Raw, sql: &str| {
        let mut one = pooled(&stage);
        send(&mut one, &[parse("", sql), sync()]);
        send(two, &[parse("", "SELECT 'of two'"), sync()]);
        one
    };
    // Half closed, it hears everything.
    let mut one = lend_to(&mut two, "SELECT 'one', pg_sleep(0.5)");
    one.send(&[group(), group()].concat());
    std::thread::sleep(std::time::Duration::from_millis(200));
    one.socket().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(value(&one.read_until(b'Z')), "one");
    assert_eq!(value(&one.read_until(b'Z')), "one");
    // Gone, it leaves nothing that runs.
    let mut one = lend_to(&mut two, "SELECT pg_sleep(60)");
    one.send(&[group(), group()].concat());
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(one);
    let started = std::time::Instant::now();
    assert_eq!(ask(&mut two, "SELECT 'free'"), "free");
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// One that is too long to be shared takes the place of the one before, too.
#[test]
fn d20_what_is_sent_behind_discard_all_stays() {
    let stage = narrow();
    let mut raw = pooled(&stage);
    run(&mut raw, "LISTEN a");
    raw.send(&[message(b'Q', b"DISCARD ALL\0"), message(b'Q', b"LISTEN b\0")].concat());
    raw.read_until(b'Z');
    raw.read_until(b'Z');
    assert_eq!(ask(&mut raw, "SELECT pg_listening_channels()"), "b");
    let counts = stage.postern().door().slots.counts()[0].counts;
    assert_eq!(counts.pinned, 1);
}

#[test]
fn d30_clients_that_leave_in_the_middle_leave_nothing_behind() {
    let stage = narrow();
    for leave in 0..4 {
        let mut raw = pooled(&stage);
        match leave {
            0 => run(&mut raw, "BEGIN"),
            1 => raw.query("SELECT pg_sleep(30)"),
            2 => raw.send(&parse("", "SELECT 1")),
            _ => raw.send(&[message(b'Q', b"BEGIN\0"), message(b'X', b"")].concat()),
        }
        drop(raw);
        let mut next = pooled(&stage);
        assert_eq!(ask(&mut next, "SELECT 'next'"), "next");
        run(&mut next, "BEGIN");
        run(&mut next, "COMMIT");
    }
}

/// A client that says Terminate may wait for its end, whatever it has left
/// open: asyncpg does.
#[test]
fn d30_terminate_ends_a_session_whatever_is_open() {
    let stage = narrow();
    run(&mut pooled(&stage), "CREATE TABLE copied (n integer)");
    let flush = message(b'H', b"");
    let cases = [
        ("a batch", [parse("", "SELECT 1"), flush.clone()].concat(), Some(b'1')),
        ("a batch without Flush", parse("", "SELECT 1"), None),
        ("a batch that failed", [parse("", "SELEC"), flush].concat(), Some(b'E')),
        ("a block", message(b'Q', b"BEGIN\0"), Some(b'Z')),
        ("COPY", message(b'Q', b"COPY copied FROM STDIN\0"), Some(b'G')),
        ("a query", message(b'Q', b"SELECT pg_sleep(0.2)\0"), None),
    ];
    for (what, messages, answer) in cases {
        let mut raw = pooled(&stage);
        raw.send(&messages);
        if let Some(kind) = answer {
            raw.read_until(kind);
        }
        raw.send(&message(b'X', b""));
        let started = Instant::now();
        raw.read_rest();
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: {:?}", started.elapsed());
        assert_eq!(ask(&mut pooled(&stage), "SELECT 'next'"), "next", "{what}");
    }
}

#[test]
fn c08_connections_that_died_idle_are_not_handed_out() {
    let stage = Stage::usual();
    let mut raw = pooled(&stage);
    for _ in 0..5 {
        let pid = ask(&mut raw, "SELECT pg_backend_pid()");
        server().psql(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_ne!(ask(&mut raw, "SELECT pg_backend_pid()"), pid);
    }
}

#[test]
fn sessions_and_pools_share_the_plan() {
    let stage = Stage::on_plan("hobbyist", &[]);
    let mut clients: Vec<_> = (0..25).map(|_| pooled(&stage)).collect();
    for raw in &mut clients {
        run(raw, "BEGIN");
    }
    for raw in &mut clients {
        run(raw, "COMMIT");
    }
    let sessions: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "53300");
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", stage.role);
    assert_eq!(server().psql(&sql).unwrap().trim(), "25");
    drop(sessions);
    assert_eq!(ask(&mut clients[0], "SELECT 'back'"), "back");
}

#[test]
fn psql_works_on_the_transaction_endpoint() {
    let stage = Stage::usual();
    let uri = stage
        .uri("")
        .replace(&format!(":{}/", stage.session_port), &format!(":{}/", stage.transaction_port));
    assert_eq!(stdout(&psql(&uri, "SELECT current_user")), stage.role);
    let by_option = stage.uri("%20pool%3Dtransaction");
    assert_eq!(stdout(&psql(&by_option, "SELECT 1")), "1");
}

//! What clients of the transaction endpoint hear, beside what they hear from
//! PostgreSQL itself; most traps of the relay show here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::pooled_client::{
    ask, bind, close, describe, direct, execute, kinds, narrow, parse, pooled, run, send, sync,
    transaction_uri, value,
};
use super::raw::{Message, Raw, V3_0, message};
use super::stage::{PASSWORD, Stage, Wanted, eventually, server, start_server};

/// What of a message must be equal.
fn told(message: Message) -> (char, Vec<u8>) {
    let body = match message.kind {
        b'E' => [message.sqlstate(), message.field(b'M').unwrap()].concat().into_bytes(),
        _ => message.body,
    };
    (char::from(message.kind), body)
}

/// Says each of these to PostgreSQL itself and through the pool, and waits each
/// time for so many `ReadyForQuery`; another client uses the pool in between
/// where it can.
fn compare(stage: &Stage, what: &str, said: &[(Vec<Vec<u8>>, usize)]) {
    let (mut through, mut without, mut other) = (pooled(stage), direct(stage), pooled(stage));
    for (at, (messages, answers)) in said.iter().enumerate() {
        let say = |raw: &mut Raw| -> Vec<_> {
            raw.send(&messages.concat());
            let all = (0..*answers).flat_map(|_| raw.read_until(b'Z'));
            all.map(told).collect()
        };
        let expected = say(&mut without);
        assert_eq!(say(&mut through), expected, "{what}, {at}");
        let is_free = expected.last().is_none_or(|(_, status)| status == b"I");
        if is_free && *answers > 0 {
            send(&mut other, &[parse("", "SELECT 'other'"), bind(""), execute(), sync()]);
        }
    }
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

fn bind_portal(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', &[portal.as_bytes(), b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

fn execute_portal(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

fn close_portal(portal: &str) -> Vec<u8> {
    message(b'C', &[b"P", portal.as_bytes(), b"\0"].concat())
}

/// The backend that answers, asked in the middle of whatever is open.
fn backend(raw: &mut Raw) -> String {
    ask(raw, "SELECT pg_backend_pid()")
}

#[test]
fn d02_a_pooled_pipeline_that_nobody_reads_stalls_and_goes_on() {
    let stage = narrow();
    let mut raw = pooled(&stage);
    let writer = raw.socket().try_clone().unwrap();
    let many = query("SELECT repeat('x', 1000000)").repeat(60);
    let sender = std::thread::spawn(move || {
        use std::io::Write as _;
        (&writer).write_all(&many).unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..60 {
        assert_eq!(kinds(&raw.read_until(b'Z')), "TDCZ");
    }
    sender.join().unwrap();
}

#[test]
fn d07_large_results_arrive_whole_under_tls() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.transaction_port).request_tls("localhost");
    let user = format!("{}.orders", stage.role);
    raw.startup(V3_0, &[("user", &user), ("database", &stage.role)]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    for size in [1, 8_180, 8_192, 16_384, 16_385, 65_536, 1_000_000, 5_000_000] {
        raw.query(&format!("SELECT repeat('x', {size})"));
        let messages = raw.read_until(b'Z');
        assert_eq!(messages[1].body.len(), size + 6);
    }
}

#[test]
fn d12_a_cache_of_one_statement_serves_any_pipeline() {
    let stage =
        Stage::with(&[("services", "pool_size = 1"), ("services", "max_prepared_statements = 1")]);
    let [a, b, c] = ["a", "b", "c"].map(|name| parse(name, &format!("SELECT '{name}'")));
    let one = |name: &str| vec![bind(name), execute()];
    let all = [one("a"), one("b"), one("c"), one("a"), vec![sync()]].concat();
    compare(
        &stage,
        "one after the other",
        &[
            (vec![a.clone(), b.clone(), c.clone(), sync()], 1),
            (all.clone(), 1),
            (vec![describe("a"), describe("b"), sync()], 1),
            ([one("b"), vec![bind("missing")], one("c"), vec![sync()]].concat(), 1),
            (all.clone(), 1),
            (vec![close("a"), sync()], 1),
            (all, 1),
        ],
    );
    compare(
        &stage,
        "in one batch",
        &[(
            [vec![a, b, flush(), c], one("a"), one("c"), vec![sync()], one("b"), vec![sync()]]
                .concat(),
            2,
        )],
    );
}

#[test]
fn d13_many_clients_overflow_the_cache() {
    let stage =
        Stage::with(&[("services", "pool_size = 4"), ("services", "max_prepared_statements = 50")]);
    std::thread::scope(|scope| {
        for client in 0..16 {
            let mut raw = pooled(&stage);
            scope.spawn(move || {
                for n in 0..150 {
                    let (name, text) = (format!("s{n}"), format!("SELECT 'c{}/{n}'", client % 3));
                    let messages = [parse(&name, &text), bind(&name), execute(), sync()];
                    assert_eq!(value(&send(&mut raw, &messages)), format!("c{}/{n}", client % 3));
                    let (old, name) = (n / 2, format!("s{}", n / 2));
                    let messages = send(&mut raw, &[bind(&name), execute(), sync()]);
                    assert_eq!(value(&messages), format!("c{}/{old}", client % 3));
                }
            });
        }
    });
    let sql = "SELECT count(*) <= 50 FROM pg_prepared_statements";
    assert_eq!(ask(&mut pooled(&stage), sql), "t");
}

#[test]
fn d14_closing_what_is_there_and_what_is_not() {
    let stage = narrow();
    compare(
        &stage,
        "close",
        &[
            (vec![parse("s", "SELECT 1"), bind_portal("p", "s"), close_portal("p"), sync()], 1),
            (vec![bind("s"), execute(), close_portal("p"), close_portal(""), sync()], 1),
            (vec![close("never"), close_portal("never"), close("s"), close("s"), sync()], 1),
            (vec![bind("s"), sync()], 1),
        ],
    );
}

#[test]
fn d15_a_block_begun_by_a_query_takes_any_split() {
    let stage = narrow();
    let parts = [
        query("BEGIN"),
        parse("", "SELECT 1"),
        message(b'D', b"S\0"),
        sync(),
        bind(""),
        message(b'D', b"P\0"),
        execute(),
        sync(),
        query("COMMIT"),
    ];
    let answers = |parts: &[Vec<u8>]| parts.iter().filter(|m| matches!(m[0], b'Q' | b'S')).count();
    for at in 1..parts.len() {
        let (first, second) = parts.split_at(at);
        // What comes behind the last Sync is answered with the second half.
        let said = [(first.to_vec(), answers(first)), (second.to_vec(), answers(second))];
        compare(&stage, &format!("split at {at}"), &said);
    }
}

#[test]
fn d17_a_flush_without_a_sync_keeps_the_connection() {
    let stage = narrow();
    let (mut raw, mut other) = (pooled(&stage), pooled(&stage));
    raw.send(&[parse("", "SELECT 'mine'"), message(b'D', b"S\0"), flush()].concat());
    assert_eq!(kinds(&raw.read_until(b'T')), "1tT");
    other.query("SELECT 'other'");
    other.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(other.try_read().is_err(), "the connection is not free");
    other.socket().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(value(&send(&mut raw, &[bind(""), execute(), sync()])), "mine");
    assert_eq!(value(&other.read_until(b'Z')), "other");
}

#[test]
fn d18_open_portals_hold_the_transaction() {
    let stage = narrow();
    let rows = parse("", "SELECT generate_series(1, 5)");
    let some = || vec![execute_portal("c", 2), sync()];
    compare(
        &stage,
        "in a block",
        &[
            (vec![query("BEGIN")], 1),
            ([vec![rows.clone(), bind_portal("c", "")], some()].concat(), 1),
            (some(), 1),
            (some(), 1),
            (vec![query("COMMIT")], 1),
            (some(), 1),
        ],
    );
    compare(
        &stage,
        "without a block",
        &[([vec![rows, bind_portal("c", "")], some()].concat(), 1), (some(), 1)],
    );
}

#[test]
fn d19_function_calls_are_answered() {
    let stage = narrow();
    let call = |function: u32| {
        let argument = |n: u32| [4_u32.to_be_bytes(), n.to_be_bytes()].concat();
        let body = [
            &function.to_be_bytes()[..],
            &[0, 1, 0, 1, 0, 2],
            &argument(40),
            &argument(2),
            &[0, 1],
        ];
        message(b'F', &body.concat())
    };
    // 177 is int4pl; nothing has 1.
    compare(
        &stage,
        "function calls",
        &[
            (vec![call(177)], 1),
            (vec![call(1)], 1),
            (vec![query("BEGIN"), call(177), call(1)], 3),
            (vec![call(177)], 1),
            (vec![query("ROLLBACK")], 1),
            (vec![parse("", "SELECT 1"), sync(), call(177)], 2),
        ],
    );
}

#[test]
fn d31_a_killed_backend_is_told_once() {
    let stage = narrow();
    let kill = |raw: &mut Raw| {
        let pid = backend(raw);
        raw.query("SELECT pg_sleep(30)");
        eventually("the query to run", || {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
            );
            server().psql(&sql).unwrap().trim() == "1"
        });
        server().psql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    };
    let mut raw = Raw::log_in(&stage, &[]).unwrap().0;
    kill(&mut raw);
    let rest = raw.read_rest();
    assert_eq!(rest.windows(6).filter(|w| w == b"SFATAL").count(), 1);
    let mut raw = pooled(&stage);
    kill(&mut raw);
    let lost = raw.read_until(b'Z');
    assert_eq!(lost.iter().filter(|message| message.kind == b'E').count(), 1);
    raw.query("SELECT 'next'");
    let next = raw.read_until(b'Z');
    assert!(next.iter().all(|message| message.kind != b'E'));
    assert_eq!(value(&next), "next");
}

#[test]
fn d35_unnamed_statements_leave_nothing_on_the_server() {
    let stage = narrow();
    let (mut raw, mut other) = (pooled(&stage), pooled(&stage));
    for n in 0..300 {
        let text = format!("SELECT '{n}'");
        let messages = send(&mut raw, &[parse("", &text), bind(""), execute(), sync()]);
        assert_eq!(value(&messages), n.to_string());
        run(&mut other, "SELECT 1");
    }
    assert_eq!(ask(&mut raw, "SELECT count(*) FROM pg_prepared_statements"), "0");
    // Another type under the same text is another statement.
    let typed = |oid: u32| {
        message(b'P', &[b"\0SELECT pg_typeof($1)\0\0\x01", &oid.to_be_bytes()[..]].concat())
    };
    let null = || message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\0");
    compare(
        &stage,
        "types",
        &[
            (vec![typed(23), null(), execute(), sync()], 1),
            (vec![typed(25), null(), execute(), sync()], 1),
            (vec![null(), execute(), sync()], 1),
        ],
    );
}

#[test]
fn c06_every_waiter_is_served() {
    let stage = narrow();
    let uri = transaction_uri(&stage);
    stage.block_on(async {
        let clients = (0..150).map(|n| {
            let uri = uri.clone();
            tokio::spawn(async move {
                let (client, connection) =
                    tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                for round in 0..20 {
                    let sql = format!("SELECT {n} * 1000 + {round}");
                    let row = client.query_one(&sql, &[]);
                    let row = tokio::time::timeout(Duration::from_secs(30), row).await;
                    let number: i32 = row.expect("a stall").unwrap().get(0);
                    assert_eq!(number, n * 1000 + round);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    });
    eventually("nobody to wait", || stage.postern().door().slots.counts()[0].counts.waiting == 0);
}

#[test]
fn c15_what_closes_idle_connections_leaves_open_transactions_alone() {
    let stage = Stage::with(&[
        ("services", "server_idle_timeout = \"200ms\""),
        ("services", "server_lifetime = \"1s\""),
    ]);
    let (mut raw, mut other) = (pooled(&stage), pooled(&stage));
    run(&mut raw, "BEGIN");
    let pid = backend(&mut raw);
    let idle = backend(&mut other);
    std::thread::sleep(Duration::from_millis(1_700));
    stage.block_on(stage.postern().reload()).unwrap();
    assert_eq!(backend(&mut raw), pid);
    run(&mut raw, "COMMIT");
    assert_ne!(backend(&mut raw), pid, "it was too old to be used again");
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {idle}");
    assert_eq!(server().psql(&sql).unwrap().trim(), "0");
}

#[test]
fn c18_whoever_goes_before_its_turn_leaves_the_server_untouched() {
    let stage = narrow();
    let mut holder = pooled(&stage);
    run(&mut holder, "CREATE TABLE touched (n integer)");
    let pid = backend(&mut holder);
    for half in [1, 4, 5, 9, 20] {
        let mut raw = pooled(&stage);
        raw.send(&query("INSERT INTO touched VALUES (1)")[..half]);
        drop(raw);
    }
    run(&mut holder, "BEGIN");
    for _ in 0..5 {
        let mut waiter = pooled(&stage);
        waiter.query("INSERT INTO touched VALUES (2)");
        let waits = || stage.postern().door().slots.counts()[0].counts.waiting;
        eventually("it to wait", || waits() == 1);
        drop(waiter);
        eventually("its place to be free", || waits() == 0);
    }
    run(&mut holder, "COMMIT");
    assert_eq!(ask(&mut holder, "SELECT count(*) FROM touched"), "0");
    assert_eq!(backend(&mut holder), pid);
}

#[test]
fn c21_a_pipeline_of_several_syncs_has_one_owner() {
    let stage = narrow();
    let (mut raw, mut other) = (pooled(&stage), pooled(&stage));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(ask(&mut other, "SELECT 'other'"), "other");
            }
        });
        for round in 0..50 {
            let batch = |n| {
                let text = format!("SELECT '{round}/{n}'");
                [parse("", &text), bind(""), execute(), sync()].concat()
            };
            raw.send(&[batch(0), batch(1), batch(2)].concat());
            for n in 0..3 {
                assert_eq!(value(&raw.read_until(b'Z')), format!("{round}/{n}"));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn c22_what_an_idle_server_says_neither_closes_nor_dirties_it() {
    let own = start_server(postern::cluster::Installations::find().unwrap().postgresql().unwrap());
    let stage = Stage::new(&Wanted {
        server: Some(&own),
        settings: &[("services", "pool_size = 1")],
        ..Wanted::default()
    });
    let mut raw = pooled(&stage);
    let mut without = Raw::connect(own.port());
    without.startup(V3_0, &[("user", &stage.role), ("database", &stage.role)]);
    without.authenticate(PASSWORD);
    without.read_until(b'Z');
    let pid = backend(&mut raw);
    for style in ["iso_8601", "sql_standard", "postgres_verbose"] {
        own.psql(&format!("ALTER SYSTEM SET IntervalStyle = '{style}'")).unwrap();
        own.psql("SELECT pg_reload_conf()").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        let interval = "SELECT interval '1 day 2 hours'";
        assert_eq!(ask(&mut raw, interval), ask(&mut without, interval));
        assert_eq!(backend(&mut raw), pid);
    }
    // More of it than a few bytes.
    for (zone, style) in [("America/Argentina/ComodRivadavia", "SQL, DMY"), ("UTC", "German")] {
        own.psql(&format!("ALTER SYSTEM SET TimeZone = '{zone}'")).unwrap();
        own.psql(&format!("ALTER SYSTEM SET DateStyle = '{style}'")).unwrap();
        own.psql("ALTER SYSTEM SET IntervalStyle = 'postgres'").unwrap();
        own.psql("SELECT pg_reload_conf()").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        for sql in ["SHOW TimeZone", "SHOW DateStyle", "SHOW IntervalStyle"] {
            assert_eq!(ask(&mut raw, sql), ask(&mut without, sql));
        }
        assert_eq!(backend(&mut raw), pid);
    }
}

#[test]
fn c23_notices_at_login_reach_the_client_and_break_nothing() {
    // Triggers on login came with version 17.
    let own = start_server(postern::cluster::Installations::find().unwrap().major(18).unwrap());
    let stage = Stage::new(&Wanted { server: Some(&own), ..Wanted::default() });
    let sql = "CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS \
               $$ BEGIN RAISE NOTICE 'welcome'; END $$; \
               CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet(); \
               ALTER EVENT TRIGGER greet ENABLE ALWAYS";
    own.psql_in(&stage.role, sql).unwrap();
    let welcomed = |messages: &[Message]| {
        let notices = messages.iter().filter(|m| m.kind == b'N');
        notices.filter(|m| m.body.windows(7).any(|w| w == b"welcome")).count()
    };
    let (mut raw, messages) = Raw::log_in(&stage, &[]).unwrap();
    assert_eq!(welcomed(&messages), 1, "{messages:?}");
    assert_eq!(ask(&mut raw, "SELECT 'session'"), "session");
    for _ in 0..2 {
        let mut raw = pooled(&stage);
        assert_eq!(ask(&mut raw, "SELECT 'pooled'"), "pooled");
    }
}

#[test]
fn c25_bytes_are_counted_as_they_are_sent() {
    let stage = Stage::usual();
    let series = |name: &str| format!("{name}{{service=\"orders\"}}");
    let counted = || {
        let count = |name| stage.metric(&series(name));
        (count("postern_received_bytes_total"), count("postern_sent_bytes_total"))
    };
    let mut raw = pooled(&stage);
    let before = counted();
    let (mut sent, mut received) = (0, 0);
    for n in 0..100 {
        let message = query(&format!("SELECT repeat('x', {n}00)"));
        raw.send(&message);
        sent += message.len() as u64;
        received += raw.read_until(b'Z').iter().map(|m| m.body.len() as u64 + 5).sum::<u64>();
    }
    let after = counted();
    assert_eq!((after.0 - before.0, after.1 - before.1), (sent, received));
}

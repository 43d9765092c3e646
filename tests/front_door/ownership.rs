//! Whom Postern's idle connections may stand in the way of, and how soon they
//! and what vanished clients have left are given up.

use std::collections::HashSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::pooled_client::{
    ask, bind, execute, kinds, parse, pooled, pooled_with, run, send, session, sync,
};
use super::raw::{Message, Raw, V3_0};
use super::stage::{PASSWORD, Stage, Wanted, eventually, server};

/// Server processes of this role.
fn backends(role: &str) -> HashSet<String> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{role}'");
    server().psql(&sql).unwrap().lines().map(str::to_owned).collect()
}

/// A login on the transaction endpoint, and what is said to it.
fn pooled_login(stage: &Stage, role: &str, password: &str) -> Result<Raw, Message> {
    let parameters = [("user", &format!("{role}.orders")[..]), ("database", &stage.role)];
    Raw::enter_with(stage.transaction_port, &parameters, password).map(|(raw, _)| raw)
}

#[test]
fn idle_connections_are_given_up_for_commands_about_databases() {
    let stage = Stage::usual();
    let role = stage.role.clone();
    server().psql(&format!("ALTER ROLE {role} CREATEDB")).unwrap();
    for (n, log_in) in [session, pooled as fn(&Stage) -> Raw].into_iter().enumerate() {
        let mut raw = log_in(&stage);
        let [one, two, three] = ["a", "b", "c"].map(|name| format!("{role}_{n}{name}"));
        // Others use the database, and leave an idle connection to it.
        let others_use = |name: &str| {
            let mut others = [0; 3].map(|_| pooled_with(&stage, &[("database", name)]));
            for sql in ["BEGIN", "COMMIT"] {
                for other in &mut others {
                    run(other, sql);
                }
            }
            others
        };
        run(&mut raw, &format!("CREATE DATABASE {one}"));
        let started = Instant::now();
        let mut others = others_use(&one);
        run(&mut raw, &format!("ALTER DATABASE {one} RENAME TO {two}"));
        others[0].query("SELECT 1");
        assert_eq!(others[0].read_until(b'E').pop().unwrap().sqlstate(), "3D000");
        let _others = others_use(&two);
        run(&mut raw, &format!("/* a copy */ CREATE DATABASE {three} TEMPLATE {two}"));
        let _others = others_use(&two);
        let drop = parse("", &format!("DROP DATABASE {two}"));
        assert_eq!(kinds(&send(&mut raw, &[drop, bind(""), execute(), sync()])), "12CZ");
        run(&mut raw, &format!("DROP DATABASE {three}"));
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}

#[test]
fn a_changed_password_closes_the_pools_and_lets_transactions_finish() {
    let stage = Stage::usual();
    let role = stage.role.clone();
    let mut clients = [0; 3].map(|_| pooled(&stage));
    for raw in &mut clients {
        run(raw, "BEGIN");
    }
    for raw in &mut clients[1..] {
        run(raw, "COMMIT");
    }
    let before = backends(&role);
    assert_eq!(before.len(), 3);
    server().psql(&format!("ALTER ROLE {role} PASSWORD 'another'")).unwrap();
    let changed = Instant::now();
    eventually("the idle connections to be gone", || backends(&role).len() == 1);
    assert!(changed.elapsed() < Duration::from_secs(5), "{:?}", changed.elapsed());
    let [mut open, mut idle, _] = clients;
    assert_eq!(ask(&mut open, "SELECT 'in the middle'"), "in the middle");
    run(&mut open, "COMMIT");
    eventually("its connection to be gone", || backends(&role).is_empty());
    idle.query("SELECT 1");
    assert_eq!(idle.read_until(b'E').pop().unwrap().sqlstate(), "28P01");
    assert_eq!(pooled_login(&stage, &role, PASSWORD).err().unwrap().sqlstate(), "28P01");
    let mut new = pooled_login(&stage, &role, "another").ok().unwrap();
    assert_eq!(ask(&mut new, "SELECT 'new'"), "new");
}

#[test]
fn roles_that_may_not_log_in_any_more_lose_their_pools() {
    let stage = Stage::usual();
    let make = |n: usize| {
        let role = format!("{}_{n}", stage.role);
        server().psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).unwrap();
        role
    };
    let ways: [fn(&str) -> String; 3] = [
        |role| format!("ALTER ROLE {role} NOLOGIN"),
        |role| format!("ALTER ROLE {role} VALID UNTIL '2020-01-01'"),
        |role| format!("DROP ROLE {role}"),
    ];
    let roles: Vec<_> = (0..ways.len()).map(make).collect();
    let mut clients: Vec<_> =
        roles.iter().map(|role| pooled_login(&stage, role, PASSWORD).ok().unwrap()).collect();
    let mut unchanged = pooled(&stage);
    let pid = ask(&mut unchanged, "SELECT pg_backend_pid()");
    for raw in &mut clients {
        assert_eq!(ask(raw, "SELECT 1"), "1");
    }
    for (role, change) in roles.iter().zip(ways) {
        server().psql(&change(role)).unwrap();
    }
    let changed = Instant::now();
    for (role, raw) in roles.iter().zip(&mut clients) {
        eventually("its connection to be gone", || backends(role).is_empty());
        raw.query("SELECT 1");
        let refused = raw.read_until(b'E').pop().unwrap();
        assert!(refused.sqlstate().starts_with("28"), "{role}: {refused:?}");
    }
    assert!(changed.elapsed() < Duration::from_secs(6), "{:?}", changed.elapsed());
    assert_eq!(ask(&mut unchanged, "SELECT pg_backend_pid()"), pid);
    server().psql(&format!("ALTER ROLE {} LOGIN", roles[0])).unwrap();
    eventually("the role to get in again", || {
        pooled_login(&stage, &roles[0], PASSWORD)
            .is_ok_and(|mut raw| ask(&mut raw, "SELECT 1") == "1")
    });
}

#[test]
fn a_login_that_would_wait_for_sessions_hears_who_has_the_plan() {
    let stage = Stage::on_plan("hobbyist", &[]);
    let mut sessions: Vec<_> = (0..24).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let mut pooled_one = pooled(&stage);
    // A transaction ends, so a login for another pool waits for it.
    run(&mut pooled_one, "BEGIN");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pooled_with(&stage, &[("work_mem", "9MB")]));
        std::thread::sleep(Duration::from_millis(1_700));
        run(&mut pooled_one, "COMMIT");
        assert_eq!(ask(&mut waiting.join().unwrap(), "SHOW work_mem"), "9MB");
    });
    sessions.push(Raw::log_in(&stage, &[]).unwrap().0);
    let started = Instant::now();
    let mut raw = Raw::connect(stage.transaction_port);
    let user = format!("{}.orders", stage.role);
    raw.startup(V3_0, &[("user", &user), ("database", &stage.role), ("work_mem", "8MB")]);
    let refused = raw.authenticate(PASSWORD);
    assert_eq!(refused.sqlstate(), "53300");
    assert!(refused.field(b'D').unwrap().contains("25 of the 25 connections of plan hobbyist"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn d30_a_vanished_clients_pipeline_is_cut_short() {
    let stage = Stage::with(&[("services", "pool_size = 1")]);
    for log_in in [session, pooled as fn(&Stage) -> Raw] {
        for vanish in [
            |raw: Raw| drop(raw),
            |raw: Raw| {
                raw.socket().shutdown(Shutdown::Write).unwrap();
                std::thread::spawn(move || {
                    let mut raw = raw;
                    raw.read_rest()
                });
            },
        ] {
            let mut raw = log_in(&stage);
            for _ in 0..20 {
                raw.query("SELECT pg_sleep(5)");
            }
            vanish(raw);
            let started = Instant::now();
            eventually("its connection to be free", || {
                let counts = stage.postern().door().slots.counts();
                counts.iter().all(|node| node.counts.used() == node.counts.idle)
            });
            println!("free after {:?}", started.elapsed());
            assert_eq!(ask(&mut pooled(&stage), "SELECT 'next'"), "next");
        }
    }
}

#[test]
fn a_reload_changes_how_long_a_server_may_take_to_close() {
    let stage = Stage::with(&[("timeouts", "server_close_timeout = \"10m\"")]);
    stage.edit_configuration(|text| text.replace("\"10m\"", "\"500ms\""));
    stage.block_on(stage.postern().reload()).unwrap();
    let mut raw = pooled(&stage);
    // No cancel request ends this.
    raw.query(
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(1); \
         EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$",
    );
    eventually("the query to run", || {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND query LIKE 'DO%'",
            stage.role
        );
        server().psql(&sql).unwrap().trim() == "1"
    });
    drop(raw);
    eventually("the backend to be terminated", || backends(&stage.role).is_empty());
    // It may be gone before whoever had it ended hears of that.
    eventually("it to be counted", || stage.metric("postern_terminated_backends_total") == 1);
}

#[test]
fn names_are_cut_as_postgresql_cuts_them() {
    let stage = Stage::usual();
    let role = format!("{}_{}", stage.role, "r".repeat(63))[..63].to_owned();
    server().psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    let longer = format!("{role}rrrrrr");
    let mut raw = pooled_login(&stage, &longer, PASSWORD).ok().unwrap();
    assert_eq!(ask(&mut raw, "SELECT session_user"), role);
    let mut raw = Raw::connect(stage.session_port);
    let user = [longer.as_bytes(), b".orders"].concat();
    raw.startup(V3_0, &[("user", std::str::from_utf8(&user).unwrap()), ("database", &stage.role)]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    assert_eq!(raw.read_until(b'Z').last().unwrap().kind, b'Z');
}

#[test]
fn a_connection_that_was_reset_holds_its_slot_until_its_backend_is_gone() {
    let proxy = Proxy::start();
    let node = format!("127.0.0.1:{}", proxy.port);
    for log_in in [|stage: &Stage| Raw::log_in(stage, &[]).unwrap().0, pooled as fn(&Stage) -> Raw]
    {
        let stage = Stage::new(&Wanted { node: Some(node.clone()), ..Wanted::default() });
        let mut raw = log_in(&stage);
        run(&mut raw, "BEGIN");
        let pid = ask(&mut raw, "SELECT pg_backend_pid()");
        proxy.reset_all();
        let there = |pid: &str| backends(&stage.role).contains(pid);
        let counts = || stage.postern().door().slots.counts()[0].counts;
        eventually("its slot to be free", || {
            let (used, there) = (counts().used(), there(&pid));
            assert!(used == 1 || !there, "the slot was free before the backend was gone");
            used == 0
        });
    }
}

#[test]
fn c14_spare_connections_are_kept_while_there_is_a_client() {
    for (most, expected) in [(0, 3), (2, 2)] {
        let stage = Stage::with(&[
            ("services", "min_pool_size = 3"),
            ("services", "server_idle_timeout = \"500ms\""),
            ("services", &format!("pool_size = {most}")),
        ]);
        let mut raw = pooled(&stage);
        eventually("spare connections", || backends(&stage.role).len() == expected);
        let before = backends(&stage.role);
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(ask(&mut raw, "SELECT 'served'"), "served");
        }
        assert_eq!(backends(&stage.role), before, "none was closed, none was opened");
        let sql = format!("SELECT pg_terminate_backend({})", before.iter().next().unwrap());
        server().psql(&sql).unwrap();
        eventually("another in its place", || {
            let now = backends(&stage.role);
            now.len() == expected && now != before
        });
        drop(raw);
        eventually("none to be left", || backends(&stage.role).is_empty());
    }
}

#[test]
fn c14_spare_connections_stand_in_nobodys_way() {
    let stage = Stage::on_plan("hobbyist", &[("services", "min_pool_size = 20")]);
    let _pooled = pooled(&stage);
    eventually("spare connections", || backends(&stage.role).len() == 20);
    let sessions: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "53300");
    assert_eq!(backends(&stage.role).len(), 25);
    drop(sessions);
    eventually("spare connections again", || backends(&stage.role).len() == 20);
}

#[test]
fn parallel_guesses_wait_for_each_other() {
    let stage = Stage::usual();
    let guess = || pooled_login(&stage, &stage.role, "wrong").err().unwrap().sqlstate();
    let guesses = |count: usize| -> Vec<Duration> {
        let started = Instant::now();
        let timed = || {
            assert_eq!(guess(), "28P01");
            started.elapsed()
        };
        std::thread::scope(|scope| {
            let guesses: Vec<_> = (0..count).map(|_| scope.spawn(timed)).collect();
            guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
        })
    };
    guesses(8);
    let took = guesses(5);
    let (first, last) = (*took.iter().min().unwrap(), *took.iter().max().unwrap());
    assert!(last > first + Duration::from_secs(3), "{took:?}");
}

/// Forwards to the server, and can reset its clients while the server notices
/// nothing.
struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server().port())).unwrap();
                opened.lock().unwrap().push(client.try_clone().unwrap());
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        if std::io::copy(&mut from, &mut to).is_ok() {
                            let _ = to.shutdown(Shutdown::Write);
                        } else {
                            // Whoever is behind is told nothing.
                            std::mem::forget(to);
                        }
                    });
                }
            }
        });
        Self { port, open }
    }

    /// Resets every connection that is open now.
    fn reset_all(&self) {
        for client in self.open.lock().unwrap().drain(..) {
            let socket = socket2::SockRef::from(&client);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            // A disconnected socket sends its reset although others hold it.
            let _ = rustix::net::connect_unspec(&client);
        }
    }
}

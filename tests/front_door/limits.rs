//! The plan's limit, and slots that come back only when the server has let go.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pooled_client::ask;
use super::raw::{Raw, message};
use super::stage::{PASSWORD, Stage, Wanted, eventually, make_role, server, start_server};
use postern::cluster::Installations;

fn hobbyist() -> Stage {
    Stage::on_plan("hobbyist", &[])
}

/// Backends of a role, as PostgreSQL counts them.
fn backends(role: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    server().psql(&sql).unwrap().trim().parse().unwrap()
}

#[test]
fn c02_exactly_as_many_as_the_plan_says_get_in() {
    let stage = hobbyist();
    let mut sessions: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    assert_eq!(backends(&stage.role), 25);
    let refused = Raw::log_in(&stage, &[("application_name", "late")]).err().unwrap();
    assert_eq!(refused.sqlstate(), "53300");
    assert_eq!(refused.field(b'M').unwrap(), "sorry, too many clients already");
    let detail = refused.field(b'D').unwrap();
    assert!(
        detail.starts_with("25 of the 25 connections of plan hobbyist are in use: "),
        "{detail}"
    );
    assert!(detail.contains("from 127.0.0.1"), "{detail}");
    assert!(detail.contains("Refusal "), "{detail}");
    assert!(refused.field(b'H').unwrap().contains(&stage.transaction_port.to_string()));
    drop(sessions.pop());
    eventually("the slot to come back", || Raw::log_in(&stage, &[]).is_ok());
}

#[test]
fn c02_the_limit_holds_over_both_ports_and_for_superusers() {
    let stage = hobbyist();
    server().psql(&format!("ALTER ROLE {} SUPERUSER", stage.role)).unwrap();
    let _sessions: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let mut raw = Raw::connect(stage.transaction_port);
    let user = format!("{}.orders", stage.role);
    raw.startup(super::raw::V3_0, &[("user", &user), ("options", "pool=session")]);
    assert_eq!(raw.authenticate(PASSWORD).sqlstate(), "53300");
}

#[test]
fn c02_one_too_many_hears_it_at_once() {
    let stage = hobbyist();
    let _sessions: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "53300");
            started.elapsed()
        })
        .collect();
    times.sort();
    // Measured from the TCP connect on, so the answer to SASLResponse took less.
    println!("26th client: p50 {:?}, p99 {:?}", times[50], times[98]);
    assert!(times[98] < Duration::from_secs(1), "no queue may be waited for");
}

#[test]
fn a31_over_the_limit_tls_clients_hear_why_and_cancels_work() {
    let stage = hobbyist();
    let mut sessions: Vec<_> = (0..24).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let client = stage.block_on(stage.connect()).unwrap();
    let out = super::stage::psql(&stage.uri(""), "SELECT 1");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("sorry, too many clients already"), "{said}");
    let direct = Raw::connect(stage.session_port);
    let mut direct = direct.start_tls("localhost", &[b"postgresql"]).unwrap();
    direct.startup(super::raw::V3_0, &[("user", &format!("{}.orders", stage.role))]);
    assert_eq!(direct.authenticate(PASSWORD).sqlstate(), "53300");
    let token = client.cancel_token();
    let started = Instant::now();
    let query = stage.block_on(async {
        let query = client.simple_query("SELECT pg_sleep(30)");
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        tokio::join!(query, cancel).0
    });
    assert_eq!(query.unwrap_err().code().unwrap().code(), "57014");
    assert!(started.elapsed() < Duration::from_secs(5));
    sessions.clear();
}

#[test]
fn a31_a_refused_socket_is_gone_soon_whatever_its_client_does() {
    let stage = Stage::new(&Wanted { allowlist: "[]", ..Wanted::default() });
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(super::raw::V3_0, &[("user", "bob.orders")]);
    let started = Instant::now();
    assert_eq!(raw.read().sqlstate(), "28000");
    assert!(raw.read_rest().is_empty());
    eventually("Postern to let go", || stage.metric("postern_unauthenticated_connections") == 0);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn c01_logins_that_fail_at_any_step_leave_nothing_behind() {
    let stage = hobbyist();
    let other = make_role(server());
    for round in 0..60 {
        let mut raw = Raw::connect(stage.session_port);
        let user = format!("{}.orders", stage.role);
        match round % 6 {
            0 => drop(raw),
            1 => raw.startup(super::raw::V3_0, &[("user", &user)]),
            2 => {
                raw.startup(super::raw::V3_0, &[("user", &user)]);
                assert_eq!(raw.authenticate("wrong").kind, b'E');
            }
            3 => {
                raw.startup(super::raw::V3_0, &[("user", &user), ("database", "missing")]);
                assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
            }
            4 => {
                raw.startup(
                    super::raw::V3_0,
                    &[("user", &user), ("database", &stage.role), ("search_path", "a b c'")],
                );
                raw.authenticate(PASSWORD);
            }
            _ => {
                raw.startup(
                    super::raw::V3_0,
                    &[
                        ("user", &format!("{other}.orders")),
                        ("database", &stage.role),
                        ("work_mem", "never"),
                    ],
                );
                assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
            }
        }
    }
    let node = format!("{}", server().address());
    let series = |name: &str| format!("{name}{{node=\"{node}\",service=\"orders\"}}");
    eventually("all counts to be zero", || {
        stage.metric("postern_unauthenticated_connections") == 0
            && stage.metric(&series("postern_slots_used")) == 0
            && stage.metric(&series("postern_slots_closing")) == 0
            && stage.postern().door().roster.is_empty()
            && stage.postern().door().cancel_keys.is_empty()
    });
    let _all: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap()).collect();
}

/// Clients that vanish in the middle of everything, while the node is sampled
/// every 20 ms: never more than the plan, and none left in the end.
#[test]
fn c03_vanishing_clients_never_exceed_the_plan() {
    let stage = hobbyist();
    let (stop, samples, most) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(backends(&stage.role), Ordering::Relaxed);
                samples.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let clients: Vec<_> = (0..40)
            .map(|n| {
                let stage = &stage;
                scope.spawn(move || {
                    for round in 0..25 {
                        let Ok((mut raw, _)) = Raw::log_in(stage, &[]) else { continue };
                        match (n + round) % 3 {
                            0 => raw.query("SELECT pg_sleep(30)"),
                            1 => raw.query("SELECT repeat('x', 10000000)"),
                            _ => {}
                        }
                        // Dropped: no Terminate, perhaps unread data.
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} samples, at most {} backends", samples.into_inner(), most.load(Ordering::Relaxed));
    assert!(most.into_inner() <= 25);
    eventually("every backend to be gone", || backends(&stage.role) == 0);
    eventually("every slot to be free", || {
        let counts = stage.postern().door().slots.counts();
        counts.iter().all(|node| node.counts.used() == 0)
    });
}

/// Who says Terminate and closes has ended his backend himself.
#[test]
fn c03_sessions_that_end_well_are_not_ended_by_force() {
    let stage = hobbyist();
    for n in 0..30 {
        let Ok((mut raw, _)) = Raw::log_in(&stage, &[]) else { panic!("session {n}") };
        raw.query("SELECT 1");
        raw.read_until(b'Z');
        if n % 3 > 0 {
            raw.send(&message(b'X', b""));
        }
        drop(raw);
    }
    eventually("every slot to be free", || {
        stage.postern().door().slots.counts().iter().all(|slots| slots.counts.used() == 0)
    });
    assert_eq!(stage.metric("postern_terminated_backends_total"), 0);
}

#[test]
fn c03_killed_psqls_in_mid_query_give_their_slots_back() {
    let stage = hobbyist();
    let psql = Installations::find().unwrap().postgresql().unwrap().program("psql");
    for _ in 0..3 {
        let mut clients: Vec<_> = (0..25)
            .map(|_| {
                Command::new(&psql)
                    .args(["-X", &stage.plain_uri(""), "-c", "SELECT pg_sleep(60)"])
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        eventually("all queries to run", || backends(&stage.role) == 25);
        for client in &mut clients {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        eventually("every backend to be gone", || backends(&stage.role) == 0);
    }
    let _all: Vec<_> = (0..25).map(|_| Raw::log_in(&stage, &[]).unwrap()).collect();
}

#[test]
fn a21_running_out_of_clients_ends_nothing() {
    let stage = Stage::with(&[("limits", "max_clients = 10")]);
    let mut sessions: Vec<_> = (0..10).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    for _ in 0..50 {
        assert_eq!(Raw::log_in(&stage, &[]).err().unwrap().sqlstate(), "53300");
    }
    sessions.clear();
    eventually("clients to get in again", || Raw::log_in(&stage, &[]).is_ok());
}

/// The system takes the descriptors away from a Postern that runs.
#[test]
fn a21_running_out_of_descriptors_ends_nothing() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let stage = Stage::usual();
    let served = stage.serve();
    let pid = Pid::from_child(&served.process);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let none = Rlimit { current: Some(3), maximum };
    let before = prlimit(Some(pid), Resource::Nofile, none).unwrap();
    let waiting: Vec<_> = (0..5).map(|_| Raw::connect(served.session_port)).collect();
    eventually("accept() to fail", || served.log().contains("could not accept a connection"));
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    for mut raw in waiting {
        raw.startup(super::raw::V3_0, &[("user", &format!("{}.orders", stage.role))]);
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    }
}

#[test]
fn c03_a_server_that_does_not_close_keeps_its_slot_until_it_is_gone() {
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let stage = Stage::new(&Wanted {
        plan: "hobbyist",
        server: Some(&server),
        settings: &[("timeouts", "server_close_timeout = \"500ms\"")],
        ..Wanted::default()
    });
    let (mut raw, _) = Raw::log_in(&stage, &[]).unwrap();
    raw.query("SELECT pg_backend_pid()");
    raw.read_until(b'Z');
    server.freeze().unwrap();
    drop(raw);
    std::thread::sleep(Duration::from_millis(1_500));
    let counts = || stage.postern().door().slots.counts()[0].counts;
    let frozen = counts();
    server.thaw().unwrap();
    assert_eq!(frozen.used(), 1, "the frozen server holds its slot");
    eventually("the slot to be free", || counts().used() == 0);
}

/// A backend that is stopped in the middle of things: it neither closes nor
/// answers, while its server goes on.
fn stopped_backend(stage: &Stage, raw: &mut Raw) -> StoppedBackend {
    let pid = ask(raw, "SELECT pg_backend_pid()");
    assert_eq!(backends(&stage.role), 1);
    let backend = StoppedBackend(pid);
    backend.signal("-STOP");
    backend
}

struct StoppedBackend(String);

impl StoppedBackend {
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0]).status().unwrap().success());
    }
}

impl Drop for StoppedBackend {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[test]
fn c03_a_backend_that_does_not_close_after_its_client_is_terminated() {
    let stage = Stage::on_plan("hobbyist", &[("timeouts", "server_close_timeout = \"500ms\"")]);
    for under_way in [None, Some("SELECT pg_sleep(60)")] {
        let (mut raw, _) = Raw::log_in(&stage, &[]).unwrap();
        let backend = stopped_backend(&stage, &mut raw);
        if let Some(query) = under_way {
            raw.query(query);
        }
        let terminated = || stage.metric("postern_terminated_backends_total");
        let before = terminated();
        drop(raw);
        eventually("the backend to be told to end", || terminated() > before);
        let used = || stage.postern().door().slots.counts()[0].counts.used();
        assert_eq!(used(), 1, "its slot is free only when it is gone");
        drop(backend);
        eventually("the slot to be free", || used() == 0);
        assert_eq!(backends(&stage.role), 0);
    }
}

//! What a Postern that runs for months must stand: huge answers, clients that
//! vanish, its own limits, servers that say nothing.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::pooled_client::{ask, pooled};
use crate::raw::{Raw, V3_0, message, startup_packet};
use crate::stage::{PASSWORD, Served, Stage, Wanted, eventually, run, server, stdout};

/// A session through `postern serve`.
fn session(served: &Served, stage: &Stage) -> Raw {
    let mut raw = Raw::connect(served.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role)), ("database", &stage.role)]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    raw
}

impl Served {
    /// Resident memory, in kB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Duration::from_millis(ticks * 1000 / per_second)
    }
}

#[test]
fn d06_after_huge_rows_the_memory_is_what_it_was() {
    const CLIENTS: usize = 8;
    let stage = Stage::usual();
    let served = stage.serve();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| session(&served, &stage)).collect();
    for raw in &mut clients {
        assert_eq!(ask(raw, "SELECT 1"), "1");
    }
    let before = served.resident();
    std::thread::scope(|scope| {
        for raw in &mut clients {
            scope.spawn(move || {
                raw.query("SELECT repeat('x', 100000000)");
                let messages = raw.read_until(b'Z');
                let row = messages.iter().find(|message| message.kind == b'D').unwrap();
                assert_eq!(row.body.len(), 2 + 4 + 100_000_000);
            });
        }
    });
    for raw in &mut clients {
        assert_eq!(ask(raw, "SELECT 2"), "2");
    }
    let grown = served.resident().saturating_sub(before);
    println!("{CLIENTS} rows of 100 MB: resident memory grown by {grown} kB");
    assert!(grown < 24 * 1024, "grown by {grown} kB");
}

#[test]
fn d33_clients_that_vanish_anywhere_leave_nothing_that_runs() {
    let stage = Stage::usual();
    let served = stage.serve();
    let user = format!("{}.orders", stage.role);
    let startup = startup_packet(V3_0, &[("user", &user), ("database", &stage.role)]);
    let kept = session(&served, &stage);
    for round in 0..120_usize {
        if round % 3 == 0 {
            // In the middle of its login, down to the single byte.
            let mut stream = TcpStream::connect(("127.0.0.1", served.session_port)).unwrap();
            stream.write_all(&startup[..round * startup.len() / 120]).unwrap();
            leave(&stream, round);
            continue;
        }
        let mut raw = session(&served, &stage);
        let query = message(b'Q', b"SELECT repeat('x', 5000000)\0");
        raw.send(&query[..round * query.len() / 119]);
        let _ = raw.socket().set_read_timeout(Some(Duration::from_millis(1)));
        let _ = raw.socket().read(&mut vec![0; round * 100]);
        leave(raw.socket(), round);
    }
    let clients = || {
        let status = Command::new(crate::stage::POSTERN)
            .arg("status")
            .env("POSTERN_ADMIN_SOCKET", stage.directory.path().join("second.sock"))
            .output();
        String::from_utf8_lossy(&status.unwrap().stdout).into_owned()
    };
    eventually("one client to be left", || {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", stage.role);
        server().psql(&sql).unwrap() == "1"
    });
    let (before, began) = (served.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let (spent, took) = (served.cpu().checked_sub(before).unwrap(), began.elapsed());
    assert!(spent < took / 5, "{spent:?} of processor in {took:?}: {}", clients());
    drop(kept);
}

/// With a reset or in good order.
fn leave(stream: &TcpStream, round: usize) {
    if round.is_multiple_of(2) {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    } else {
        let _ = stream.shutdown(Shutdown::Write);
    }
}

#[test]
fn c19_too_many_logins_cost_nobody_who_is_in_his_session() {
    let settings = &[("limits", "max_clients = 10")];
    let stage = Stage::new(&Wanted { settings, ..Wanted::default() });
    let mut inside: Vec<_> = (0..10).map(|_| Raw::log_in(&stage, &[]).unwrap().0).collect();
    let refused = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..20).map(|_| scope.spawn(|| Raw::log_in(&stage, &[]))).collect();
        let tries = tries.into_iter().map(|tried| tried.join().unwrap());
        tries.filter(Result::is_err).count()
    });
    assert_eq!(refused, 20);
    for raw in &mut inside {
        assert_eq!(ask(raw, "SELECT 'in'"), "in");
    }
    drop(inside.pop());
    eventually("a place", || Raw::log_in(&stage, &[]).is_ok());
}

#[test]
fn c24_running_out_of_descriptors_is_no_fault_of_the_server() {
    let stage = Stage::usual();
    let served = stage.serve();
    let pid = served.process.id().to_string();
    let mut inside = session(&served, &stage);
    let limit = |soft: &str| {
        let hard = "4096";
        let arguments = ["--pid", &pid, &format!("--nofile={soft}:{hard}")];
        stdout(&run(Command::new("prlimit").args(arguments)));
    };
    let open: HashSet<u32> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let free: Vec<u32> = (0..).filter(|number| !open.contains(number)).take(2).collect();
    limit("4096");
    // Room for the client and for nothing behind it.
    limit(&free[1].to_string());
    std::thread::scope(|scope| {
        let held = scope.spawn(|| session(&served, &stage));
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(ask(&mut inside, "SELECT 'in'"), "in");
        limit("4096");
        assert_eq!(ask(&mut held.join().unwrap(), "SELECT 'held'"), "held");
    });
    let log = served.log();
    assert!(log.contains("Too many open files"), "{log}");
    assert!(!log.contains("no primary") && !log.contains("is down"), "{log}");
}

/// Stands in front of the server, and can leave whoever comes without a word.
struct Gate {
    port: u16,
    silent: Arc<AtomicBool>,
}

impl Gate {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = Arc::new(AtomicBool::new(false));
        let is_silent = Arc::clone(&silent);
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for client in listener.incoming().map(Result::unwrap) {
                if is_silent.load(Ordering::Relaxed) {
                    unanswered.push(client);
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", server().port())).unwrap();
                let ways =
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
                for (mut from, mut to) in ways {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, silent }
    }
}

#[test]
fn c17_a_server_that_says_nothing_is_given_up_in_time() {
    let gate = Gate::open();
    let timeouts = "server_connect_timeout = \"500ms\"\nfailover_wait = \"1s\"";
    let stage = Stage::new(&Wanted {
        node: Some(format!("127.0.0.1:{}", gate.port)),
        settings: &[("timeouts", timeouts)],
        ..Wanted::default()
    });
    let mut inside = pooled(&stage);
    gate.silent.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let refused = Raw::log_in(&stage, &[]).err().unwrap();
    assert_eq!(refused.sqlstate(), "57P03", "{refused:?}");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(ask(&mut inside, "SELECT 'in'"), "in", "an open connection goes on");
    gate.silent.store(false, Ordering::Relaxed);
    eventually("a login", || Raw::log_in(&stage, &[]).is_ok());
    eventually("the slots to be free", || {
        let counts = stage.postern().door().slots.counts();
        counts.iter().all(|node| node.counts.session == 0)
    });
}

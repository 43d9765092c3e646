//! Everything at once: many clients on few server connections, random queries,
//! prepares, transactions, cancels, disconnects, and backends that are killed.
//! Every result belongs to its asker, the plan is never exceeded, and nothing is
//! left in the end.
//!
//! The seed is printed; `POSTERN_STRESS_SEED` repeats what the clients do, if
//! not when. `scripts/stress` runs the long form.

use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postern::cluster::Installations;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, Statement};

use super::pooled_client::transaction_uri;
use super::random::Random;
use super::stage::{Stage, Wanted, eventually, start_server};

/// Server connections of the plan, and of those the pools'.
const PLAN: u64 = 25;
const POOL: &str = "pool_size = 20";
/// Clients with a connection of their own.
const SESSIONS: usize = 3;
/// The longest that any answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Errors that a killed backend or a long queue may cause, whatever was asked.
const EXPECTED: [&str; 5] = ["57P01", "40001", "08007", "08006", "53300"];

/// A setting of the run from the environment, or the short form's.
fn wanted<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    cancelled: AtomicU64,
    vanished: AtomicU64,
    lost: AtomicU64,
    killed: AtomicU64,
    samples: AtomicU64,
    most: AtomicU64,
}

/// What all clients share.
struct Run {
    port: u16,
    uri: String,
    session_uri: String,
    superuser_uri: String,
    role: String,
    stop: AtomicBool,
    counts: Counts,
    /// Logins side by side.
    logins: Semaphore,
}

impl Run {
    /// A connection to the server itself, without Postern.
    async fn superuser(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.superuser_uri, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// One client; its connection is gone when it is dropped.
struct Caller {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<u64, Statement>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Caller {
    async fn connect(run: &Run, uri: &str) -> Result<Self, Error> {
        let _turn = run.logins.acquire().await.unwrap();
        let (client, connection) = tokio_postgres::connect(uri, NoTls).await?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, connection, statements: HashMap::new() })
    }

    async fn simple(&self, sql: &str) -> Result<String, Error> {
        let rows = self.client.simple_query(sql).await?;
        let first = rows.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    }

    async fn prepared(&mut self, text: u64, tag: &str) -> Result<String, Error> {
        let sql = format!("SELECT '{text}:' || $1::text");
        let statement = match self.statements.get(&text) {
            Some(statement) => statement.clone(),
            None => self.client.prepare(&sql).await?,
        };
        let row = self.client.query_one(&statement, &[&tag]).await?;
        self.statements.insert(text, statement);
        Ok(row.get(0))
    }

    /// A transaction stays on one server connection.
    async fn transaction(&self, tag: &str, commit: bool) -> Result<(), Error> {
        self.simple("BEGIN").await?;
        let first = self.simple("SELECT pg_backend_pid()").await?;
        self.simple(&format!("SET LOCAL application_name = '{tag}'")).await?;
        assert_eq!(self.simple("SHOW application_name").await?, tag);
        assert_eq!(self.simple("SELECT pg_backend_pid()").await?, first);
        self.simple(if commit { "COMMIT" } else { "ROLLBACK" }).await?;
        Ok(())
    }

    /// Queries side by side go out as one pipeline.
    async fn pipeline(&self, tag: &str) -> Result<(), Error> {
        let sql: Vec<_> = (0..5).map(|n| format!("SELECT '{tag}/{n}'")).collect();
        let answers = sql.iter().map(|sql| self.simple(sql));
        for (n, answer) in futures_util::future::join_all(answers).await.into_iter().enumerate() {
            assert_eq!(answer?, format!("{tag}/{n}"));
        }
        Ok(())
    }

    /// Cancelled until it hears so: the first request may come too early. No
    /// request is under way any more when it is over, so none of this client's
    /// explains that another statement is cancelled.
    async fn cancel(&self, port: u16, after: Duration) -> Result<(), Error> {
        let (token, over) = (self.client.cancel_token(), AtomicBool::new(false));
        let cancelling = async {
            while !over.load(Ordering::Relaxed) {
                sleep(after).await;
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = token.cancel_query_raw(&mut stream, NoTls).await;
                // It is closed when the request has been dealt with.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        };
        let query = async {
            let ended = self.simple("SELECT pg_sleep(100)").await;
            over.store(true, Ordering::Relaxed);
            ended
        };
        match tokio::join!(query, cancelling).0 {
            Err(error) if sqlstate(&error) == Some("57014") => Ok(()),
            Err(error) => Err(error),
            Ok(answer) => panic!("the query ended with {answer:?}"),
        }
    }
}

fn sqlstate(error: &Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// One step of one client; whether it is still there.
async fn step(
    caller: &mut Caller,
    run: &Run,
    random: &mut Random,
    tag: &str,
) -> Result<bool, Error> {
    match random.below(100) {
        0..35 => assert_eq!(caller.simple(&format!("SELECT '{tag}'")).await?, tag),
        35..60 => {
            let text = random.below(40);
            assert_eq!(caller.prepared(text, tag).await?, format!("{text}:{tag}"));
        }
        60..72 => caller.transaction(tag, random.below(2) == 0).await?,
        72..82 => caller.pipeline(tag).await?,
        82..88 => {
            let zone = *random.pick(&["UTC", "Europe/Berlin", "Asia/Tokyo"]);
            caller.simple(&format!("SET timezone = '{zone}'")).await?;
            assert_eq!(caller.simple("SHOW timezone").await?, zone);
        }
        88..92 => {
            let error = caller.simple("SELECT 1/0").await.unwrap_err();
            if sqlstate(&error) != Some("22012") {
                return Err(error);
            }
        }
        92..95 => {
            caller.cancel(run.port, Duration::from_millis(5 + random.below(40))).await?;
            run.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        95..98 => {
            let text = "SELECT pg_sleep(20), repeat('x', 100000)";
            let leaving = timeout(Duration::from_millis(random.below(20)), caller.simple(text));
            let _ = leaving.await;
            run.counts.vanished.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        _ => return Ok(false),
    }
    run.counts.answers.fetch_add(1, Ordering::Relaxed);
    Ok(true)
}

/// A client until the end; it comes back whenever it has gone.
async fn live(run: Arc<Run>, number: usize, seed: u64) {
    let mut random = Random(seed ^ (number as u64) << 32);
    let uri = if number < SESSIONS { &run.session_uri } else { &run.uri };
    let mut caller = None;
    let mut round = 0_u64;
    while !run.stop.load(Ordering::Relaxed) {
        let mut there = match caller.take() {
            Some(there) => there,
            None => match Caller::connect(&run, uri).await {
                Ok(there) => there,
                Err(error) => {
                    tolerate(&error, &run);
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        round += 1;
        let tag = format!("{number}.{round}");
        let done = timeout(ANSWER_WITHIN, step(&mut there, &run, &mut random, &tag)).await;
        match done.unwrap_or_else(|_| panic!("client {number} waits for ever in round {round}")) {
            Ok(true) => caller = Some(there),
            Ok(false) => {}
            Err(error) => tolerate(&error, &run),
        }
    }
}

/// Panics unless a killed backend or a long queue explains the error.
fn tolerate(error: &Error, run: &Run) {
    let explained = error.is_closed()
        || std::error::Error::source(error)
            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
        || sqlstate(error).is_some_and(|code| EXPECTED.contains(&code));
    assert!(explained, "{error:?}");
    run.counts.lost.fetch_add(1, Ordering::Relaxed);
}

/// Looks every 20 ms how many server processes there are, on its own
/// connection.
async fn sample(run: Arc<Run>) {
    let client = run.superuser().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    let statement = client.prepare(sql).await.unwrap();
    while !run.stop.load(Ordering::Relaxed) {
        let count: i64 = client.query_one(&statement, &[&run.role]).await.unwrap().get(0);
        run.counts.most.fetch_max(count.unsigned_abs(), Ordering::Relaxed);
        run.counts.samples.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Kills a server process every now and then.
async fn kill(run: Arc<Run>) {
    let client = run.superuser().await;
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
               WHERE usename = $1 ORDER BY random() LIMIT 1) one";
    while !run.stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(300)).await;
        let killed: i64 = client.query_one(sql, &[&run.role]).await.unwrap().get(0);
        run.counts.killed.fetch_add(killed.unsigned_abs(), Ordering::Relaxed);
    }
}

/// Resident memory of this process, Postern and its clients, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn every_result_belongs_to_its_asker_whatever_happens() {
    let clients = wanted("POSTERN_STRESS_CLIENTS", 60_usize);
    let length = Duration::from_secs(wanted("POSTERN_STRESS_SECONDS", 8));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = wanted("POSTERN_STRESS_SEED", u64::from(now.subsec_nanos()));
    println!("seed {seed}, {clients} clients, {length:?}");
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let stage = Stage::new(&Wanted {
        plan: "hobbyist",
        server: Some(&server),
        settings: &[("services", POOL), ("services", "server_lifetime = \"5s\"")],
        ..Wanted::default()
    });
    let run = Arc::new(Run {
        port: stage.transaction_port,
        uri: transaction_uri(&stage),
        session_uri: stage.plain_uri(""),
        superuser_uri: format!(
            "postgresql://{}:{}@{}/postgres",
            server.superuser(),
            server.password(),
            server.address()
        ),
        role: stage.role.clone(),
        stop: AtomicBool::new(false),
        counts: Counts::default(),
        logins: Semaphore::new(50),
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let others = [tokio::spawn(sample(Arc::clone(&run))), tokio::spawn(kill(Arc::clone(&run)))];
        let lives = (0..clients).map(|number| tokio::spawn(live(Arc::clone(&run), number, seed)));
        let lives: Vec<_> = lives.collect();
        let memory = watch(&run, &lives, length).await;
        run.stop.store(true, Ordering::Relaxed);
        for task in lives.into_iter().chain(others) {
            task.await.unwrap();
        }
        let (half, end) = (memory[memory.len() / 2], *memory.last().unwrap());
        assert!(end < half + half / 4 + 65_536, "memory grows: {memory:?} KiB");
    });
    let Counts { answers, cancelled, vanished, lost, killed, samples, most } = &run.counts;
    println!(
        "{answers:?} answers, {cancelled:?} cancelled, {vanished:?} vanished, {lost:?} lost, \
         {killed:?} killed; at most {most:?} server processes in {samples:?} samples"
    );
    assert!(most.load(Ordering::Relaxed) <= PLAN, "{most:?} server processes");
    assert!(answers.load(Ordering::Relaxed) > clients as u64);
    assert!(killed.load(Ordering::Relaxed) > 0 && samples.load(Ordering::Relaxed) > 10);
    nothing_is_left(&stage);
}

/// Waits to the end, or to the first panic; what memory was used meanwhile.
async fn watch(run: &Run, lives: &[JoinHandle<()>], length: Duration) -> Vec<u64> {
    let started = Instant::now();
    let mut memory = Vec::new();
    while started.elapsed() < length && !lives.iter().any(JoinHandle::is_finished) {
        sleep(length / 16).await;
        memory.push(resident());
        println!("{:?}: {} KiB, {:?} answers", started.elapsed(), resident(), run.counts.answers);
    }
    memory
}

fn nothing_is_left(stage: &Stage) {
    let door = stage.postern().door();
    eventually("every client to be gone", || door.roster.is_empty() && door.cancel_keys.is_empty());
    eventually("every slot to be free or idle", || {
        let counts = door.slots.counts();
        counts.iter().all(|node| node.counts.used() == node.counts.idle && node.counts.waiting == 0)
    });
}

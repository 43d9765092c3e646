//! Three nodes under a real Patroni with a real etcd: a drill, a switchover, a
//! crash, an outage of the store, a frozen primary. Each takes as long as
//! Patroni's timings say, so they run in `scripts/test-failover`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use postern::cluster::{Installation, Installations};
use postern::control::api::client::{ApiClient, ClientError, Target};
use postern::control::api::model::DrillOrder;
use postern::control::drill::Drilled;
use postern::control::management::node_sql;

use super::etcd::Etcd;
use super::process::Process;
use super::*;
use crate::stage::{
    MANAGEMENT, MANAGEMENT_PASSWORD, PASSWORD, free_ports, http_get, write_private,
};

const NODES: usize = 3;
const SUPERUSER: &str = "superuser-secret";

/// How fast Patroni notices, in seconds.
#[derive(Clone, Copy)]
struct Timings {
    ttl: u32,
    loop_wait: u32,
    retry_timeout: u32,
}

const SHORT: Timings = Timings { ttl: 6, loop_wait: 1, retry_timeout: 2 };
const DEFAULT: Timings = Timings { ttl: 30, loop_wait: 10, retry_timeout: 10 };

struct Node {
    name: String,
    port: u16,
    rest: u16,
    process: Option<Process>,
}

struct Patroni {
    etcd: Etcd,
    nodes: Vec<Node>,
    installation: Installation,
    user: Option<&'static str>,
    timings: Timings,
    synchronous: bool,
    directory: tempfile::TempDir,
}

impl Patroni {
    fn start(timings: Timings, synchronous: bool) -> Self {
        let node = |n| {
            let [port, rest] = free_ports();
            Node { name: format!("n{n}"), port, rest, process: None }
        };
        let is_root = std::fs::metadata("/proc/self").unwrap();
        let is_root = std::os::unix::fs::MetadataExt::uid(&is_root) == 0;
        let mut patroni = Self {
            etcd: Etcd::start(),
            nodes: (0..NODES).map(node).collect(),
            installation: Installations::find().unwrap().postgresql().unwrap().clone(),
            user: is_root.then_some("postgres"),
            timings,
            synchronous,
            directory: tempfile::tempdir().unwrap(),
        };
        patroni.give(patroni.directory.path().to_owned());
        (0..NODES).for_each(|n| patroni.run(n));
        within(Duration::from_secs(120), "a leader and two standbys", || {
            patroni.leader().is_some() && patroni.streaming() == NODES - 1
        });
        patroni.make_roles();
        patroni
    }

    fn give(&self, path: PathBuf) {
        if let Some(user) = self.user {
            let id = |flag: &str| {
                let output = Command::new("id").args([flag, user]).output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
            };
            chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
        }
    }

    /// Starts a node's Patroni, which starts its PostgreSQL.
    fn run(&mut self, n: usize) {
        let config = self.path(&format!("{}.yml", self.nodes[n].name));
        std::fs::write(&config, self.configuration(&self.nodes[n])).unwrap();
        self.give(config.clone());
        let log = self.path(&format!("{}.log", self.nodes[n].name));
        let arguments = ["patroni", config.to_str().unwrap()];
        self.nodes[n].process = Some(Process::start(&arguments, self.user, &log));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configuration(&self, node: &Node) -> String {
        let Timings { ttl, loop_wait, retry_timeout } = self.timings;
        let Node { name, port, rest, .. } = node;
        let directory = self.directory.path().display();
        let mut hba = String::new();
        for database in ["all", "replication"] {
            let _ = writeln!(hba, "  - host {database} all 127.0.0.1/32 scram-sha-256");
            let _ = writeln!(hba, "  - local {database} all scram-sha-256");
        }
        format!(
            "scope: main\nname: {name}\n\
             restapi:\n  listen: 127.0.0.1:{rest}\n  connect_address: 127.0.0.1:{rest}\n\
             etcd3:\n  host: 127.0.0.1:{etcd}\n\
             bootstrap:\n  dcs:\n    ttl: {ttl}\n    loop_wait: {loop_wait}\n    \
             retry_timeout: {retry_timeout}\n    synchronous_mode: {synchronous}\n    \
             postgresql:\n      use_pg_rewind: true\n      parameters:\n        wal_log_hints: 'on'\n        max_connections: 300\n  \
             initdb:\n  - encoding: UTF8\n  - data-checksums\n  - auth: scram-sha-256\n\
             postgresql:\n  listen: 127.0.0.1:{port}\n  connect_address: 127.0.0.1:{port}\n  \
             data_dir: {directory}/{name}\n  bin_dir: {bin}\n  pgpass: {directory}/{name}.pgpass\n  \
             authentication:\n    superuser: {{username: postgres, password: {SUPERUSER}}}\n    \
             replication: {{username: replicator, password: {SUPERUSER}}}\n    \
             rewind: {{username: rewinder, password: {SUPERUSER}}}\n  \
             parameters:\n    unix_socket_directories: {directory}\n    password_encryption: scram-sha-256\n    log_connections: 'on'\n    fsync: 'off'\n  \
             pg_hba:\n{hba}",
            etcd = self.etcd.port,
            synchronous = self.synchronous,
            bin = self.installation.bin_dir().display(),
        )
    }

    fn make_roles(&self) {
        let leader = self.leader().unwrap();
        let sql = format!(
            "{}; ALTER ROLE {MANAGEMENT} PASSWORD '{MANAGEMENT_PASSWORD}'; \
             CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
            node_sql(MANAGEMENT)
        );
        self.psql(leader, "postgres", &sql).unwrap();
        self.psql(leader, "postgres", "CREATE DATABASE app OWNER app").unwrap();
        self.psql(leader, "app", "CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC").unwrap();
    }

    fn psql(&self, n: usize, database: &str, sql: &str) -> Option<String> {
        let port = self.nodes[n].port;
        let uri = format!(
            "postgresql://postgres:{SUPERUSER}@127.0.0.1:{port}/{database}?connect_timeout=2"
        );
        let output = psql(&uri, sql);
        output.status.success().then(|| stdout(&output))
    }

    /// Who takes writes and says so itself; a frozen node says nothing.
    fn leader(&self) -> Option<usize> {
        let writes = |n: &usize| {
            !self.is_frozen(*n)
                && self.psql(*n, "postgres", "SELECT pg_is_in_recovery()").as_deref() == Some("f")
        };
        (0..NODES).find(writes)
    }

    fn is_frozen(&self, n: usize) -> bool {
        let pid =
            std::fs::read_to_string(self.path(&format!("{}/postmaster.pid", self.nodes[n].name)));
        let pid = pid.unwrap_or_default();
        let pid = pid.lines().next().unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    }

    /// Somebody who reads the table on this node for half a minute.
    fn reader(&self, n: usize) -> Process {
        let port = self.nodes[n].port;
        let uri = format!("postgresql://postgres:{SUPERUSER}@127.0.0.1:{port}/app");
        let sql = "BEGIN; SELECT FROM t; SELECT pg_sleep(30)";
        let log = self.path(&format!("reader-{n}.log"));
        let reader = Process::start(&["psql", "-Xc", sql, &uri], None, &log);
        let reads = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        within(Duration::from_secs(10), "a reader", || {
            self.psql(n, "postgres", reads).as_deref() == Some("1")
        });
        reader
    }

    fn streaming(&self) -> usize {
        // A base backup that is being made streams, too.
        let sql = "SELECT count(*) FROM pg_stat_replication \
                   WHERE state = 'streaming' AND application_name ~ '^n[0-9]$'";
        let count = self.leader().and_then(|leader| self.psql(leader, "postgres", sql));
        count.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    fn settle(&self) {
        within(Duration::from_secs(180), "a leader and two standbys", || {
            self.streaming() == NODES - 1
        });
    }

    /// A Postern that asks etcd who leads, or Patroni's members; these are asked
    /// for switchovers in any case.
    fn stage(&self, by_etcd: bool) -> Stage {
        let nodes: Vec<_> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let members: Vec<_> =
            self.nodes.iter().map(|node| format!("\"http://127.0.0.1:{}\"", node.rest)).collect();
        let canary = self.path("canary.password");
        write_private(&canary, PASSWORD);
        let mut service = format!(
            "canary = {{ user = \"app\", password_file = {:?} }}\ntopology.patroni = [{}]",
            canary.display().to_string(),
            members.join(", ")
        );
        if by_etcd {
            let endpoint = format!("http://127.0.0.1:{}", self.etcd.port);
            let _ = write!(
                service,
                "\ntopology.etcd = {{ endpoints = [\"{endpoint}\"], scope = \"main\" }}"
            );
        }
        let mut stage = Stage::new(&Wanted {
            plan: "premium-4",
            node: Some(nodes.join("\", \"")),
            settings: &[("services", &service), ("timeouts", "failover_wait = \"60s\"")],
            ..Wanted::default()
        });
        "app".clone_into(&mut stage.role);
        stage
    }

    /// What the members say, for a failure.
    fn described(&self) -> String {
        let said = |node: &Node| {
            let cluster = http_get(node.rest, "/cluster");
            let log = std::fs::read_to_string(self.path(&format!("{}.log", node.name)));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            format!("{} says {cluster}, and its log:\n{last}\n", node.name)
        };
        self.nodes.iter().map(said).collect()
    }

    fn followed(&self, stage: &Stage) -> bool {
        let Some(leader) = self.leader() else { return false };
        let address = format!("127.0.0.1:{}", self.nodes[leader].port);
        stage.primary().is_ok_and(|node| node.address.to_string() == address)
    }

    /// How often clients have come to this node.
    fn logins(&self, n: usize) -> usize {
        let log = std::fs::read_to_string(self.path(&format!("{}.log", self.nodes[n].name)));
        log.unwrap_or_default().matches("connection authorized: user=app").count()
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                process.signal("CONT");
                drop(process);
            }
            // The postmaster is no child of Patroni.
            let file = self.directory.path().join(&node.name).join("postmaster.pid");
            let pid = std::fs::read_to_string(file).unwrap_or_default();
            if let Some(pid) = pid.lines().next() {
                let _ = Command::new("kill").args(["-s", "QUIT", pid]).output();
            }
        }
    }
}

impl Patroni {
    /// The processes of a node, its postmaster and backends included.
    fn signal(&self, n: usize, signal: &str) {
        let file = self.path(&format!("{}/postmaster.pid", self.nodes[n].name));
        let pid = std::fs::read_to_string(file).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let backends = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let backends = String::from_utf8(backends).unwrap();
        if let Some(process) = &self.nodes[n].process {
            process.signal(signal);
        }
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &pid]).args(backends.split_whitespace());
        let _ = kill.output();
    }
}

/// Writes one row after the other through Postern and remembers what was
/// acknowledged.
struct Writer {
    stop: std::sync::Arc<AtomicBool>,
    running: std::thread::JoinHandle<Written>,
}

#[derive(Debug, Default)]
struct Written {
    acknowledged: BTreeSet<i32>,
    failures: u32,
    longest: Duration,
}

impl Writer {
    fn start(stage: &Stage) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (config, told) = (stage.client_config(), std::sync::Arc::clone(&stop));
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(write_on(&config, &told))
        });
        Self { stop, running }
    }

    fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join().unwrap()
    }
}

async fn write_on(config: &tokio_postgres::Config, stop: &AtomicBool) -> Written {
    let (mut written, mut n, mut last) = (Written::default(), 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let connecting = config.connect(tokio_postgres::NoTls);
        let Ok(Ok((client, connection))) =
            tokio::time::timeout(Duration::from_secs(70), connecting).await
        else {
            written.failures += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection);
        while !stop.load(Ordering::Relaxed) && !client.is_closed() {
            n += 1;
            let insert = format!("INSERT INTO t VALUES ({n})");
            let inserting = client.batch_execute(&insert);
            match tokio::time::timeout(Duration::from_secs(70), inserting).await {
                Ok(Ok(())) => {
                    written.acknowledged.insert(n);
                    written.longest = written.longest.max(last.elapsed());
                    last = Instant::now();
                }
                _ => written.failures += 1,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    written
}

/// What the nodes have of what was acknowledged.
fn lost(patroni: &Patroni, written: &Written) -> usize {
    let leader = patroni.leader().unwrap();
    let rows = patroni.psql(leader, "app", "SELECT n FROM t").unwrap();
    let rows: BTreeSet<i32> = rows.lines().map(|row| row.parse().unwrap()).collect();
    written.acknowledged.difference(&rows).count()
}

/// One trouble, and what became of a client's writes.
fn through(patroni: &mut Patroni, stage: &Stage, what: &str, trouble: impl FnOnce(&mut Patroni)) {
    let leader = patroni.leader().unwrap();
    patroni.psql(leader, "app", "TRUNCATE t").unwrap();
    let writer = Writer::start(stage);
    std::thread::sleep(Duration::from_secs(2));
    trouble(patroni);
    within(Duration::from_secs(180), what, || patroni.followed(stage));
    std::thread::sleep(Duration::from_secs(2));
    let written = writer.stop();
    let lost = lost(patroni, &written);
    eprintln!(
        "{what}: {} acknowledged, {} failed, {lost} lost, longest pause {:?}",
        written.acknowledged.len(),
        written.failures,
        written.longest
    );
    assert!(written.acknowledged.len() > 100, "{what}: {written:?}");
    if patroni.synchronous {
        assert_eq!(lost, 0, "{what}: acknowledged and lost");
    }
}

fn order_drill(stage: &Stage) -> Result<Drilled, ClientError> {
    let api = ApiClient::new(Target::Socket(stage.directory.path().join("admin.sock")));
    let order = DrillOrder { writers: Some(16), ..DrillOrder::default() };
    let path = "/v1/services/orders/drill";
    stage.block_on(api.with_body(hyper::Method::POST, path, &order))
}

/// A drill, of which nobody but Patroni is asked for the promotion.
fn drill(patroni: &Patroni, stage: &Stage) {
    let drilled = order_drill(stage);
    let drilled = drilled.unwrap_or_else(|error| panic!("{error}\n{}", patroni.described()));
    eprintln!("drill: held for {:.3} s, lag {:?}\n{}", drilled.held, drilled.lag, drilled.canaries);
    assert!(drilled.passed && drilled.from != drilled.to, "{drilled:?}");
    assert!(patroni.followed(stage));
}

/// Standbys that lack something are not promoted on purpose, though Patroni
/// would.
fn refused_drill(patroni: &Patroni, stage: &Stage) {
    let leader = patroni.leader().unwrap();
    // A replay that was paused or delayed Patroni would let go on: a reader
    // holds it up that a TRUNCATE cannot wait for.
    let standbys = (0..NODES).filter(|n| *n != leader);
    let readers: Vec<_> = standbys.clone().map(|n| patroni.reader(n)).collect();
    patroni.psql(leader, "app", "TRUNCATE t").unwrap();
    let refused = order_drill(stage).unwrap_err().to_string();
    assert!(refused.contains("no standby of orders had everything"), "{refused}");
    assert_eq!(patroni.leader(), Some(leader), "it goes on as it was");
    assert_eq!(stdout(&psql(&stage.plain_uri(""), "SELECT pg_is_in_recovery()")), "f");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    standbys.for_each(|n| drop(patroni.psql(n, "postgres", end).unwrap()));
    drop(readers);
}

fn scenario(by_etcd: bool, timings: Timings, synchronous: bool) {
    let mut patroni = Patroni::start(timings, synchronous);
    let stage = patroni.stage(by_etcd);
    within(Duration::from_secs(20), "Patroni's leader", || patroni.followed(&stage));
    within(Duration::from_secs(20), "two standbys", || stage.topology().standbys.len() == 2);

    refused_drill(&patroni, &stage);
    drill(&patroni, &stage);
    patroni.settle();

    through(&mut patroni, &stage, "switchover", |patroni| {
        let leader = patroni.leader().unwrap();
        let config = patroni.path(&format!("{}.yml", patroni.nodes[leader].name));
        let mut patronictl = Command::new("patronictl");
        patronictl.arg("-c").arg(config).args(["switchover", "main", "--force"]);
        let output = patronictl.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        within(Duration::from_secs(60), "another leader", || {
            patroni.leader().is_some_and(|other| other != leader)
        });
    });
    patroni.settle();

    let mut crashed = 0;
    through(&mut patroni, &stage, "crash", |patroni| {
        crashed = patroni.leader().unwrap();
        patroni.signal(crashed, "KILL");
        patroni.nodes[crashed].process = None;
    });
    patroni.run(crashed);
    patroni.settle();

    through(&mut patroni, &stage, "an outage of etcd", |patroni| {
        patroni.etcd.kill();
        within(Duration::from_secs(120), "Patroni demotes", || patroni.leader().is_none());
        within(Duration::from_secs(10), "nobody leads", || stage.primary().is_err());
        patroni.etcd.run();
    });
    patroni.settle();

    let mut frozen = 0;
    through(&mut patroni, &stage, "a frozen primary", |patroni| {
        frozen = patroni.leader().unwrap();
        patroni.signal(frozen, "STOP");
    });
    let before = patroni.logins(frozen);
    // Without a watchdog Patroni may take the key back when it thaws, as 3.0.2
    // was seen to do, and lead the others back to the older timeline. Here it
    // is the server alone that comes back, with nobody to tell it anything.
    patroni.nodes[frozen].process = None;
    patroni.signal(frozen, "CONT");
    for _ in 0..40 {
        // While the old one still takes itself for the primary.
        let written = psql(&stage.plain_uri(""), "INSERT INTO t VALUES (0)");
        assert!(
            written.status.success(),
            "{written:?}\n{:?}\n{}",
            stage.topology(),
            patroni.described()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(patroni.logins(frozen), before, "no client came to the old primary");
    patroni.run(frozen);
    patroni.settle();
}

#[test]
#[ignore = "takes as long as Patroni's timings: scripts/test-failover"]
fn e01_e04_patroni_by_its_key_in_etcd() {
    scenario(true, SHORT, false);
}

#[test]
#[ignore = "takes as long as Patroni's timings: scripts/test-failover"]
fn patroni_by_its_rest_api_with_synchronous_mode() {
    scenario(false, SHORT, true);
}

#[test]
#[ignore = "takes as long as Patroni's timings: scripts/test-failover"]
fn patroni_with_default_timings() {
    scenario(true, DEFAULT, false);
}

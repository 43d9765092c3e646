//! Client pools of the field in a failover: they go on without a restart, and
//! on the transaction endpoint with the connections that they have.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::super::stage::{PASSWORD, Stage};
use super::crash::Pair;
use crate::clients::script;

/// Connections of each pool, and requests at a time.
const SIZE: u64 = 8;

/// What a pool's program says at its end.
#[derive(Debug, Deserialize)]
struct Told {
    ok: u64,
    failed: BTreeMap<String, u64>,
    recovered: bool,
}

struct Program {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(command: &mut Command, uri: &str) -> Self {
        command.env("URI", uri).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { process, output }
    }

    fn stop(mut self) -> Told {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(self.process.wait().unwrap().success(), "{line}");
        serde_json::from_str(&line).unwrap()
    }
}

fn sessions(stage: &Stage, endpoint: &str) -> u64 {
    let series = format!("postern_sessions_total{{service=\"orders\",endpoint=\"{endpoint}\"}}");
    stage.metric(&series)
}

/// A pool on each endpoint; the primary dies, the standby is promoted.
fn through_a_failover(file: &str, uri: impl Fn(&Stage, u16) -> String) {
    let pair = Pair::new(&[]);
    let stage = &pair.stage;
    let table = format!(
        "SET synchronous_commit = local; CREATE TABLE requests (n integer); \
         ALTER TABLE requests OWNER TO {}",
        stage.role
    );
    pair.primary.psql_in(&stage.role, &table).unwrap();
    pair.standby.wait_until_caught_up(&pair.primary).unwrap();
    let ports = [("transaction", stage.transaction_port), ("session", stage.session_port)];
    let programs = ports.map(|(_, port)| Program::start(&mut script(file), &uri(stage, port)));
    std::thread::sleep(Duration::from_secs(2));
    let before = ports.map(|(endpoint, _)| sessions(stage, endpoint));
    pair.primary.crash().unwrap();
    pair.standby.promote().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let told = programs.map(Program::stop);
    let after = ports.map(|(endpoint, _)| sessions(stage, endpoint));
    for (n, (endpoint, _)) in ports.iter().enumerate() {
        let (told, reconnects) = (&told[n], after[n] - before[n]);
        println!("{file}, {endpoint}: {told:?}, {reconnects} reconnects");
        let failed: u64 = told.failed.values().sum();
        assert!(told.recovered && told.ok > 100, "{told:?}");
        // Whoever was in the middle of something, and some pools then take a
        // connection for broken.
        assert!(failed <= 2 * SIZE, "{told:?}");
        if *endpoint == "transaction" {
            assert!(failed <= SIZE && reconnects <= failed, "{reconnects}: {told:?}");
            let known = |code: &String| code == "40001" || code == "08007";
            assert!(told.failed.keys().all(known), "{told:?}");
        }
    }
}

fn plain(stage: &Stage, port: u16) -> String {
    stage.plain_uri("").replace(&stage.session_port.to_string(), &port.to_string())
}

#[test]
fn the_pool_of_asyncpg_goes_on() {
    through_a_failover("pools/asyncpg_pool.py", plain);
}

#[test]
fn the_pool_of_node_postgres_goes_on() {
    through_a_failover("pools/pg_pool.js", plain);
}

#[test]
fn the_pool_of_psycopg_goes_on() {
    through_a_failover("pools/psycopg_connection_pool.py", plain);
}

#[test]
fn the_queue_pool_of_sqlalchemy_goes_on() {
    through_a_failover("pools/sqlalchemy_queue_pool.py", plain);
}

#[test]
fn persistent_connections_of_django_go_on() {
    through_a_failover("pools/django_persistent.py", plain);
}

#[test]
fn hikaricp_goes_on() {
    through_a_failover("pools/HikariPool.java", |stage, port| {
        let role = &stage.role;
        format!(
            "jdbc:postgresql://127.0.0.1:{port}/{role}?user={role}.orders&password={PASSWORD}\
             &sslmode=disable"
        )
    });
}

//! The primary dies and its standby is promoted: what clients of the
//! transaction endpoint go through.

use std::time::{Duration, Instant};

use postern::cluster::{Cluster, StopMode};
use postern::rehearsal::{Attempt, Load, Outcome, rows, without_tls};
use tokio_postgres::NoTls;

use super::super::stage::{Stage, Wanted, eventually, start_server};
use super::{ask, hear, pooled, session, value};

/// A service with a primary and a streaming standby.
pub struct Pair {
    pub stage: Stage,
    pub primary: Cluster,
    pub standby: Cluster,
}

impl Pair {
    pub fn new(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, "")
    }

    /// With further sections of the configuration.
    pub fn with(settings: &[(&str, &str)], further: &str) -> Self {
        let installation = postern::cluster::Installations::find().unwrap();
        let primary = start_server(installation.postgresql().unwrap());
        let standby = primary.standby().unwrap();
        let nodes = format!("{}\", \"{}", primary.address(), standby.address());
        let stage = Stage::new(&Wanted {
            plan: "business-4",
            server: Some(&primary),
            node: Some(nodes),
            settings,
            further,
            ..Wanted::default()
        });
        standby.wait_until_caught_up(&primary).unwrap();
        Self { stage, primary, standby }
    }

    /// A writer's way through Postern's transaction endpoint.
    pub fn load(&self, writers: u16) -> Load {
        let (session, transaction) = (self.stage.session_port, self.stage.transaction_port);
        let uri = self.stage.plain_uri("").replace(&session.to_string(), &transaction.to_string());
        let config: tokio_postgres::Config = uri.parse().unwrap();
        let connect = without_tls(config);
        Load { connect, writers, pause: Duration::from_millis(5) }
    }

    /// Plays the HA manager: once the service is held, the standby is promoted.
    pub fn promote_when_held(&self) {
        let service = "orders".parse().unwrap();
        let directory = &self.stage.postern().door().directory;
        eventually("a pause", || directory.is_paused(&service));
        let role = &self.stage.role;
        let busy = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state <> 'idle'"
        );
        eventually("no transaction", || self.primary.psql(&busy).unwrap() == "0");
        std::thread::sleep(Duration::from_millis(100));
        self.primary.stop(StopMode::Fast).unwrap();
        self.standby.promote().unwrap();
    }

    /// A direct connection to a node, as superuser.
    pub async fn direct(&self, node: &Cluster) -> Option<tokio_postgres::Client> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(node.port()).user(node.superuser());
        config.password(node.password()).dbname(&self.stage.role);
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }
}

/// When a write first succeeds on a node, tried every 5 ms.
async fn first_success(client: tokio_postgres::Client) -> Instant {
    while client.batch_execute("CREATE TABLE proof ()").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Instant::now()
}

/// The acceptance test: kill -9, promote. Returns how long after a direct
/// client the first one got through Postern.
fn crash(writers: u16) -> Duration {
    let pair = Pair::new(&[]);
    pair.stage.block_on(async {
        Load::prepare(&(pair.load(1).connect)().await.unwrap()).await.unwrap();
        let running = pair.load(writers).start().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let direct = tokio::spawn(first_success(pair.direct(&pair.standby).await.unwrap()));
        let crashed = tokio::task::block_in_place(|| {
            pair.primary.crash().unwrap();
            let crashed = Instant::now();
            pair.standby.promote().unwrap();
            crashed
        });
        let direct = direct.await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let account = running.stop().await;
        let there = rows(&pair.direct(&pair.standby).await.unwrap()).await.unwrap();
        let report = account.report(&there);
        println!("{report}");
        assert_eq!(report.disconnected, 0, "{report}");
        assert!(report.failed_in_all() + report.unknown <= usize::from(writers), "{report}");
        assert_eq!(report.failed_but_found, 0, "{report}");
        // Only what was acknowledged before the crash may be lost, by
        // asynchronous replication.
        let is_after = |attempt: &&Attempt| {
            attempt.began > crashed && attempt.outcome == Outcome::Acknowledged
        };
        assert!(account.all().filter(is_after).count() > 100, "{report}");
        assert!(account.all().filter(is_after).all(|attempt| there.contains(&attempt.row)));
        let through = account.first_success_after(crashed);
        let waited = account.all().filter(|a| a.ended > crashed && a.began < crashed);
        let waited = waited.filter(|a| a.outcome == Outcome::Acknowledged).map(|a| a.ended).min();
        let first = through.into_iter().chain(waited.filter(|at| *at > direct)).min().unwrap();
        first.saturating_duration_since(direct)
    })
}

#[test]
fn a_crash_costs_what_was_in_flight_and_no_connection() {
    let late = crash(64);
    println!("the first write through Postern came {late:?} after the first direct one");
    assert!(late < Duration::from_secs(5), "{late:?}");
}

/// From the moment another primary is published, the old one, which is up and
/// takes writes, hears nothing.
#[test]
fn e01_not_one_byte_reaches_a_primary_that_another_has_followed() {
    let pair = Pair::new(&[]);
    ask(&mut pooled(&pair.stage), "CREATE TABLE t (n integer)");
    pair.standby.wait_until_caught_up(&pair.primary).unwrap();
    let mut idle = pooled(&pair.stage);
    ask(&mut idle, "SELECT 1");
    let mut in_block = pooled(&pair.stage);
    ask(&mut in_block, "BEGIN");
    ask(&mut in_block, "INSERT INTO t VALUES (1)");
    let mut busy = pooled(&pair.stage);
    busy.query("INSERT INTO t SELECT 2 FROM pg_sleep(60)");
    let mut copying = pooled(&pair.stage);
    copying.query("COPY t FROM STDIN");
    copying.read_until(b'G');
    let mut alone = session(&pair.stage);
    ask(&mut alone, "BEGIN");
    let mut listening = pooled(&pair.stage);
    ask(&mut listening, "LISTEN news");
    pair.standby.promote().unwrap();
    // Told without having said a word: the publication has come.
    assert_eq!(alone.last_words().sqlstate(), "40001");
    assert_eq!(listening.last_words().sqlstate(), "57P01");
    assert_eq!(hear(&mut busy), "08007:I");
    assert_eq!(hear(&mut copying), "08007:I");
    assert_eq!(ask(&mut in_block, "INSERT INTO t VALUES (3)"), "40001:E");
    assert_eq!(ask(&mut in_block, "ROLLBACK"), "C:I");
    for raw in [&mut idle, &mut in_block, &mut busy, &mut copying] {
        assert_eq!(ask(raw, "INSERT INTO t VALUES (4)"), "C:I");
        assert_eq!(value(raw, "SELECT inet_server_port()"), pair.standby.port().to_string());
    }
    let role = &pair.stage.role;
    let count = |node: &Cluster| node.psql_in(role, "SELECT count(*) FROM t").unwrap();
    assert_eq!((count(&pair.primary), count(&pair.standby)), ("0".into(), "4".into()));
    // Its processes are gone, and it cost its clients no slot for long.
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    eventually("an old primary without clients", || pair.primary.psql(&left).unwrap() == "0");
}

/// D-26: what a client believes of the server is true after it has moved.
#[test]
fn d26_reports_are_true_after_a_failover() {
    let pair = Pair::new(&[]);
    let mut raw = pooled(&pair.stage);
    ask(&mut raw, "SET application_name = 'moving'");
    ask(&mut raw, "SET DateStyle = 'German'");
    pair.primary.crash().unwrap();
    pair.standby.promote().unwrap();
    assert_eq!(value(&mut raw, "SELECT current_setting('DateStyle')"), "German, DMY");
    assert_eq!(value(&mut raw, "SHOW application_name"), "moving");
    let (_, reports) = super::super::raw::Raw::log_in(&pair.stage, &[]).unwrap();
    let says = |name: &str, value: &str| {
        let body = [name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat();
        reports.iter().any(|m| m.kind == b'S' && m.body == body)
    };
    assert!(says("in_hot_standby", "off") && says("default_transaction_read_only", "off"));
}

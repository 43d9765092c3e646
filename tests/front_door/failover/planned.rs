//! Pausing a service, and switching it over, under load.

use std::time::{Duration, Instant};

use postern::control::admin::AdminClient;

use super::super::pooled_client::{bind, execute, parse, sync, value as first_value};
use super::super::raw::{Raw, message};
use super::super::stage::{PASSWORD, Stage, Wanted, eventually, run};
use super::crash::Pair;
use super::{ask, hear, pooled, value};

fn order(stage: &Stage, order: &str) -> Result<String, String> {
    let client = AdminClient::new(stage.directory.path().join("admin.sock"));
    let service = "orders".parse().unwrap();
    stage.block_on(client.order(&service, order)).map_err(|error| error.to_string())
}

#[test]
fn a_planned_switchover_under_pgbench_fails_no_transaction() {
    let pair = Pair::new(&[]);
    ask(&mut pooled(&pair.stage), "CREATE TABLE t (n integer)");
    let script = pair.stage.directory.path().join("script.sql");
    std::fs::write(&script, "BEGIN;\nINSERT INTO t VALUES (1);\nCOMMIT;\n").unwrap();
    let mut pgbench = pair.primary.installation().command("pgbench");
    pgbench
        .args(["-n", "-c", "8", "-T", "8", "-h", "127.0.0.1", "-M", "simple", "-f"])
        .arg(&script)
        .args(["-p", &pair.stage.transaction_port.to_string()])
        .args(["-U", &format!("{}.orders", pair.stage.role), &pair.stage.role])
        .env("PGPASSWORD", PASSWORD)
        .env("PGSSLMODE", "disable");
    let running = std::thread::spawn(move || run(&mut pgbench));
    std::thread::sleep(Duration::from_secs(2));
    let done = std::thread::scope(|scope| {
        let switchover = scope.spawn(|| order(&pair.stage, "switchover"));
        pair.promote_when_held();
        switchover.join().unwrap()
    });
    println!("{}", done.unwrap());
    let output = running.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("number of failed transactions: 0 "), "{said}");
    let processed = said
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let count = pair.standby.psql_in(&pair.stage.role, "SELECT count(*) FROM t").unwrap();
    assert_eq!(processed.unwrap(), count, "{said}");
}

#[test]
fn a_pause_holds_new_transactions_and_lets_running_ones_finish() {
    let pair = Pair::new(&[("timeouts", "pause_timeout = \"500ms\"")]);
    let (mut running, mut later) = (pooled(&pair.stage), pooled(&pair.stage));
    ask(&mut running, "BEGIN");
    // It does not finish: nothing has happened.
    let refused = order(&pair.stage, "switchover").unwrap_err();
    assert!(refused.contains("1 transactions of orders still ran"), "{refused}");
    assert_eq!(ask(&mut later, "SELECT 1"), "T D C:I");
    let paused = std::thread::scope(|scope| {
        let paused = scope.spawn(|| order(&pair.stage, "pause"));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ask(&mut running, "SELECT 1"), "T D C:T");
        assert_eq!(ask(&mut running, "COMMIT"), "C:I");
        paused.join().unwrap()
    });
    assert!(paused.unwrap().contains("orders is paused"));
    later.query("SELECT 1");
    later.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(later.try_read().is_err());
    later.socket().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    order(&pair.stage, "resume").unwrap();
    assert_eq!(hear(&mut later), "T D C:I");
    assert_eq!(value(&mut later, "SELECT 2"), "2");
    assert!(order(&pair.stage, "frobnicate").is_err());
}

#[test]
fn e08_a_pause_meets_pipelines_logins_and_the_end() {
    let stage = Stage::new(&Wanted {
        settings: &[("timeouts", "drain_timeout = \"2s\"")],
        ..Wanted::default()
    });
    let mut pipeline = pooled(&stage);
    // The Sync of a batch is still to come: it runs, and is waited for.
    pipeline.send(&[parse("", "SELECT 1"), bind(""), execute(), message(b'H', b"")].concat());
    pipeline.read_until(b'C');
    std::thread::scope(|scope| {
        let paused = scope.spawn(|| order(&stage, "pause"));
        let service = "orders".parse().unwrap();
        eventually("a pause", || stage.postern().door().directory.is_paused(&service));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!paused.is_finished(), "the batch still runs");
        pipeline.send(&sync());
        assert_eq!(hear(&mut pipeline), ":I");
        assert!(paused.join().unwrap().unwrap().contains("orders is paused"));
    });
    // Two more batches in one write, and logins on both endpoints: all wait.
    pipeline.send(&[batch(2), batch(3)].concat());
    std::thread::scope(|scope| {
        let session = scope.spawn(|| Raw::log_in(&stage, &[]).unwrap());
        let newcomer = scope.spawn(|| pooled(&stage));
        pipeline.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(pipeline.try_read().is_err());
        assert!(!session.is_finished());
        order(&stage, "resume").unwrap();
        pipeline.socket().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for n in ["2", "3"] {
            assert_eq!(first_value(&pipeline.read_until(b'Z')), n);
        }
        session.join().unwrap();
        assert_eq!(value(&mut newcomer.join().unwrap(), "SELECT 4"), "4");
    });
    // Whoever is held when Postern stops is told so, and it stops.
    order(&stage, "pause").unwrap();
    pipeline.send(&batch(5));
    let began = Instant::now();
    let held = std::thread::spawn(move || pipeline.read_until(b'E'));
    std::thread::sleep(Duration::from_millis(200));
    drop(stage);
    let told = held.join().unwrap();
    assert_eq!(told.last().unwrap().sqlstate(), "57P01", "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn batch(n: u32) -> Vec<u8> {
    [parse("", &format!("SELECT {n}")), bind(""), execute(), sync()].concat()
}

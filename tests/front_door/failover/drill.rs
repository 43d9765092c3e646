//! Drills: what clients go through in a switchover, found out beforehand.

use std::process::Command;

use postern::control::api::Page;
use postern::control::api::client::{ApiClient, ClientError, Target};
use postern::control::api::model::{DrillOrder, EventView, SwitchoverOrder, SwitchoverView};
use postern::control::drill::Drilled;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::stage::{PASSWORD, POSTERN, Stage, eventually, run, write_private};
use super::crash::Pair;
use super::{ask, pooled};

/// A pair whose service has a canary: the test's own role.
fn pair() -> Pair {
    let pair = Pair::with(&[], "[catalog]\npath = \"catalog.db\"");
    let stage = &pair.stage;
    write_private(&stage.directory.path().join("canary.password"), PASSWORD);
    let canary =
        format!("canary = {{ user = \"{}\", password_file = \"canary.password\" }}", stage.role);
    stage.edit_configuration(|text| text.replace("audit_every", &format!("{canary}\naudit_every")));
    stage.block_on(stage.postern().reload()).unwrap();
    pair
}

fn order<T: DeserializeOwned>(
    stage: &Stage,
    what: &str,
    body: &impl Serialize,
) -> Result<T, ClientError> {
    let api = ApiClient::new(Target::Socket(stage.directory.path().join("admin.sock")));
    let path = format!("/v1/services/orders/{what}");
    stage.block_on(api.with_body(hyper::Method::POST, &path, body))
}

fn standbys(pair: &Pair) -> usize {
    let service = pair.stage.postern().door().directory.service(&"orders".parse().unwrap());
    service.unwrap().topology.standbys.len()
}

fn standby_is_seen(pair: &Pair) {
    ask(&mut pooled(&pair.stage), "SELECT 1");
    eventually("a standby", || standbys(pair) == 1);
}

#[test]
fn a_drill_reports_a_pause_and_finds_every_row() {
    let pair = pair();
    standby_is_seen(&pair);
    let socket = pair.stage.directory.path().join("admin.sock");
    let output = std::thread::scope(|scope| {
        let promoting = scope.spawn(|| pair.promote_when_held());
        let mut drill = Command::new(POSTERN);
        drill.args(["drill", "orders", "--writers", "16", "--json", "--socket"]).arg(&socket);
        let output = run(&mut drill);
        promoting.join().unwrap();
        output
    });
    assert!(output.status.success(), "{output:?}");
    let drilled: Drilled = serde_json::from_slice(&output.stdout).unwrap();
    println!("{drilled:?}");
    assert!(drilled.passed);
    assert_eq!(drilled.from, pair.primary.address().to_string());
    assert_eq!(drilled.to, pair.standby.address().to_string());
    let report = &drilled.canaries;
    assert_eq!((report.writers, report.lost, report.unknown, report.disconnected), (16, 0, 0, 0));
    assert!(report.failed.is_empty() && report.acknowledged > 500, "{report}");
    assert!(report.pause_p50 > 0.05 && report.pause_p99 >= report.pause_p50, "{report}");
    assert!(drilled.held < 20.0 && drilled.lag.is_some_and(|lag| lag < 5.0));
    // Nothing of it is left but what it found out.
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'postern%'";
    assert_eq!(pair.standby.psql_in(&pair.stage.role, tables).unwrap(), "0");
    let passed = "postern_drills_total{service=\"orders\",outcome=\"passed\"}";
    assert_eq!(pair.stage.metric(passed), 1);
    assert_eq!(pair.stage.metric("postern_drill_lost_rows{service=\"orders\"}"), 0);
    let api = ApiClient::new(Target::Socket(socket));
    let events: Page<EventView> =
        pair.stage.block_on(api.get("/v1/services/orders/events")).unwrap();
    assert_eq!(events.items[0].kind, "drill");
    assert!(events.items[0].message.contains("0 of them lost"), "{events:?}");
}

#[test]
fn a_drill_that_cannot_be_does_nothing() {
    let pair = pair();
    standby_is_seen(&pair);
    let refused = |order_text: &DrillOrder| {
        let refused = order::<Drilled>(&pair.stage, "drill", order_text).unwrap_err();
        (refused.status().unwrap(), refused.to_string())
    };
    let many = DrillOrder { writers: Some(65), ..DrillOrder::default() };
    assert_eq!(refused(&many).0, 422);
    // The canary is a client like any other: whom the allowlist keeps out
    // stays out, and whoever cannot log in.
    let edit = |from: &str, to: &str| {
        pair.stage.edit_configuration(|text| text.replace(from, to));
        pair.stage.block_on(pair.stage.postern().reload()).unwrap();
    };
    let everybody = "allowlist = [\"0.0.0.0/0\", \"::/0\"]";
    edit(everybody, "allowlist = [\"127.0.0.1\"]");
    let (status, why) = refused(&DrillOrder::default());
    assert!(status == 409 && why.contains("no service accepts this connection"), "{why}");
    edit("allowlist = [\"127.0.0.1\"]", everybody);
    write_private(&pair.stage.directory.path().join("canary.password"), "another");
    pair.stage.block_on(pair.stage.postern().reload()).unwrap();
    let (status, why) = refused(&DrillOrder::default());
    assert!(status == 409 && why.contains("password authentication failed"), "{why}");
    edit("canary = {", "#canary = {");
    let (status, why) = refused(&DrillOrder::default());
    assert!(status == 409 && why.contains("[services.canary]"), "{why}");
    edit("#canary = {", "canary = {");
    pair.standby.crash().unwrap();
    eventually("no standby", || standbys(&pair) == 0);
    let (status, why) = refused(&DrillOrder::default());
    assert!(status == 409 && why.contains("nobody to switch over to"), "{why}");
    assert_eq!(ask(&mut pooled(&pair.stage), "SELECT 1"), "T D C:I");
}

#[test]
fn a_switchover_of_the_api_is_an_event_and_happens_once_at_a_time() {
    let pair = pair();
    standby_is_seen(&pair);
    let (stage, nothing) = (&pair.stage, SwitchoverOrder::default());
    let switched = std::thread::scope(|scope| {
        let switching =
            scope.spawn(|| order::<SwitchoverView>(stage, "switchover", &nothing).unwrap());
        let service = "orders".parse().unwrap();
        let directory = &stage.postern().door().directory;
        eventually("a pause", || directory.is_paused(&service));
        let second = order::<SwitchoverView>(stage, "switchover", &nothing).unwrap_err();
        assert_eq!(second.status(), Some(409), "{second}");
        assert!(directory.is_paused(&service), "the first one goes on");
        pair.promote_when_held();
        switching.join().unwrap()
    });
    assert_eq!(switched.to, pair.standby.address().to_string());
    let api = ApiClient::new(Target::Socket(stage.directory.path().join("admin.sock")));
    let events: Page<EventView> = stage.block_on(api.get("/v1/services/orders/events")).unwrap();
    assert_eq!(events.items[0].kind, "switchover");
}

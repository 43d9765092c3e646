//! Services that nobody uses, and how they wake (decision 31).

use super::*;

const SOON: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(301);

/// The connections that the management role has on a server.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postern'";

fn fall_quiet(scene: &Scene) {
    scene.watch().memory.needed(Instant::now().checked_sub(QUIET).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_service_keeps_no_connection_and_its_next_client_waits_for_a_look() {
    let one = managed(&installation()).start().unwrap();
    let two = one.standby().unwrap();
    let nodes = vec![node(&one), node(&two)];
    let mut settings = settings(management_role());
    settings.timeouts.verifier_max_age = Duration::from_secs(60);
    let scene = Scene::with(service(Kind::PostgreSql, nodes), settings);
    eventually(SOON, "one is the primary", || scene.primary() == Ok(node(&one))).await;
    // What is known needs no question, but the next client still waits.
    scene.refused("nobody").await;
    // The looks that a client's coming causes are over before it is quiet.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    fall_quiet(&scene);
    for cluster in [&one, &two] {
        eventually(SOON, "no connection", || cluster.psql(SESSIONS).unwrap() == "0").await;
    }
    one.stop(crate::cluster::StopMode::Fast).unwrap();
    two.promote().unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(scene.primary(), Ok(node(&one)), "nobody has looked");
    assert_eq!(scene.refused("nobody").await, Some(NoVerifier::UnknownRole));
    assert_eq!(scene.primary(), Ok(node(&two)), "seen before the client goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_had_a_client_is_looked_at_once_and_keeps_no_connection() {
    let builder = managed(&installation()).setting("log_statement", "all");
    let cluster = builder.start().unwrap();
    let service = service(Kind::PostgreSql, vec![node(&cluster)]);
    let scene = Scene::unused(service, settings(management_role()), Reigns::default());
    eventually(SOON, "seen", || scene.primary() == Ok(node(&cluster))).await;
    eventually(SOON, "no connection", || cluster.psql(SESSIONS).unwrap() == "0").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let looks = || cluster.log().unwrap().matches("pg_is_in_recovery").count();
    assert_eq!(looks(), 1);
    // Its first client causes a look.
    assert_eq!(scene.refused("nobody").await, Some(NoVerifier::UnknownRole));
    assert!(looks() >= 2, "{} looks", looks());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_wakes_those_who_look_at_a_quiet_service() {
    let one = managed(&installation()).start().unwrap();
    let two = one.standby().unwrap();
    let service = service(Kind::PostgreSql, vec![node(&one), node(&two)]);
    let scene = Scene::unused(service, settings(management_role()), Reigns::default());
    eventually(SOON, "one is the primary", || scene.primary() == Ok(node(&one))).await;
    eventually(SOON, "no connection", || one.psql(SESSIONS).unwrap() == "0").await;
    scene.directory.set_paused(&name(), true);
    two.promote().unwrap();
    eventually(SOON, "two is the primary", || scene.primary() == Ok(node(&two))).await;
}

//! Services that nobody uses, and how they wake (decision 31).

use super::*;

const SOON: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(301);

fn fall_quiet(scene: &Scene) {
    let watch = scene.management.shared.watch(&name()).unwrap();
    watch.memory.needed(Instant::now().checked_sub(QUIET).unwrap());
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
    fall_quiet(&scene);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postern'";
    for cluster in [&one, &two] {
        eventually(SOON, "no connection", || cluster.psql(sessions).unwrap() == "0").await;
    }
    one.stop(crate::cluster::StopMode::Fast).unwrap();
    two.promote().unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(scene.primary(), Ok(node(&one)), "nobody has looked");
    assert_eq!(scene.refused("nobody").await, Some(NoVerifier::UnknownRole));
    assert_eq!(scene.primary(), Ok(node(&two)), "seen before the client goes on");
}

//! Who the primary is, as real servers show it.

use super::*;
use crate::directory::Standby;
use crate::domain::Epoch;

const SOON: Duration = Duration::from_secs(3);

fn roles(scene: &Scene) -> Vec<NodeRole> {
    let states = scene.management.node_states();
    states.into_iter().map(|state| state.role).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_e03_the_directory_follows_the_primary_and_never_goes_back() {
    let one = managed(&installation()).start().unwrap();
    let two = one.standby().unwrap();
    let nodes = vec![node(&two), node(&one)];
    let state = tempfile::tempdir().unwrap();
    let reigns = || Reigns::open(&state.path().join("topology.json")).unwrap();
    let service = || service(Kind::PostgreSql, nodes.clone());
    let scene = Scene::remembering(service(), settings(management_role()), reigns());
    let epoch = |timeline, sequence| Epoch { generation: 0, timeline, sequence };
    let follows = |scene: &Scene, primary: &Cluster, expected| {
        scene.primary() == Ok(node(primary)) && scene.topology().epoch == expected
    };
    eventually(SOON, "one is the primary", || follows(&scene, &one, epoch(1, 1))).await;
    let standby = || vec![Standby { node: node(&two), lag: Some(Duration::ZERO) }];
    eventually(2 * SOON, "two is a standby", || scene.topology().standbys == standby()).await;
    assert_eq!(roles(&scene), [NodeRole::Standby, NodeRole::Primary]);

    // Nobody reports it: the management connection ends, which is enough.
    one.crash().unwrap();
    eventually(SOON, "no primary", || scene.primary() == Err(Unavailable::NoPrimary)).await;
    assert_eq!(scene.topology().epoch, epoch(1, 1));
    two.promote().unwrap();
    eventually(SOON, "two is the primary", || follows(&scene, &two, epoch(2, 2))).await;
    assert_eq!(roles(&scene), [NodeRole::Primary, NodeRole::Down]);

    one.start().unwrap();
    eventually(SOON, "both take writes", || roles(&scene) == [NodeRole::Primary; 2]).await;
    assert!(follows(&scene, &two, epoch(2, 2)));
    two.crash().unwrap();
    eventually(SOON, "nobody", || scene.primary() == Err(Unavailable::NoPrimary)).await;
    drop(scene);
    let scene = Scene::remembering(service(), settings(management_role()), reigns());
    eventually(SOON, "seen", || roles(&scene) == [NodeRole::Down, NodeRole::Primary]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.primary(), Err(Unavailable::NoPrimary), "nor after a restart");
    assert_eq!(scene.topology().epoch, epoch(2, 2));
    two.start().unwrap();
    eventually(SOON, "two is back", || follows(&scene, &two, epoch(2, 2))).await;

    // A host that hangs: nothing is refused, and nothing is answered.
    one.crash().unwrap();
    two.freeze().unwrap();
    let started = Instant::now();
    assert!(scene.management.lookup(&name(), "nobody").await.is_err());
    assert!(started.elapsed() < Duration::from_secs(8), "a deadline for every wait");
    eventually(2 * SOON, "given up", || scene.primary() == Err(Unavailable::Unreachable)).await;
    two.thaw().unwrap();
    eventually(SOON, "two is back", || follows(&scene, &two, epoch(2, 2))).await;
}

/// A primary, which comes first, with two standbys, and their service.
async fn three_nodes() -> ([Cluster; 3], Scene) {
    let one = managed(&installation()).start().unwrap();
    let (two, three) = (one.standby().unwrap(), one.standby().unwrap());
    let nodes = [&one, &two, &three].map(node).to_vec();
    let scene = Scene::new(service(Kind::PostgreSql, nodes), management_role());
    eventually(SOON, "one is the primary", || scene.primary() == Ok(node(&one))).await;
    ([one, two, three], scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lacks_something_has_not_caught_up() {
    let ([one, two, three], scene) = three_nodes().await;
    let caught_up = async |to: Option<&Cluster>, limit| {
        let to = to.map(|to| to.address().to_string());
        let asked = name();
        let waiting = scene.management.caught_up(&asked, to.as_deref());
        tokio::time::timeout(limit, waiting).await.is_ok()
    };
    let (long, short) = (3 * SOON, Duration::from_millis(500));
    assert!(caught_up(None, long).await);
    two.psql("SELECT pg_wal_replay_pause()").unwrap();
    // Written when it is acknowledged, as it is unless somebody says otherwise.
    one.psql("SET synchronous_commit = local; CREATE TABLE t ()").unwrap();
    assert!(caught_up(None, long).await, "three has it");
    assert!(caught_up(Some(&three), long).await);
    assert!(!caught_up(Some(&two), short).await);
    assert!(!scene_caught_up_by_name(&scene, short).await, "it may be either");
    three.crash().unwrap();
    assert!(!caught_up(None, short).await);
    two.psql("SELECT pg_wal_replay_resume()").unwrap();
    assert!(caught_up(Some(&two), long).await);
}

/// Whether whoever it is that the HA manager calls `n1` has everything.
async fn scene_caught_up_by_name(scene: &Scene, limit: Duration) -> bool {
    let asked = name();
    tokio::time::timeout(limit, scene.management.caught_up(&asked, Some("n1"))).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_a_newer_timeline_is_followed_while_the_old_primary_still_takes_writes() {
    let ([_one, two, three], scene) = three_nodes().await;
    eventually(2 * SOON, "two standbys", || scene.topology().standbys.len() == 2).await;
    three.freeze().unwrap();
    two.promote().unwrap();
    eventually(SOON, "two is the primary", || scene.primary() == Ok(node(&two))).await;
    assert_eq!(roles(&scene)[..2], [NodeRole::Primary; 2], "one takes writes as before");
    three.thaw().unwrap();
    let follows = || !scene.topology().standbys.is_empty();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!follows(), "three still follows one");
    // It may have received more of one than two had when it was promoted.
    three.rejoin(&two).unwrap();
    eventually(2 * SOON, "three follows two", follows).await;
    // What it has not replayed grows old.
    three.psql("SELECT pg_wal_replay_pause()").unwrap();
    two.psql("CREATE TABLE t ()").unwrap();
    let behind = || {
        let standbys = scene.topology().standbys;
        standbys.first().and_then(|standby| standby.lag) >= Some(Duration::from_secs(1))
    };
    eventually(2 * SOON, "three is behind", behind).await;
    three.psql("SELECT pg_wal_replay_resume()").unwrap();
    eventually(2 * SOON, "three has caught up", || !behind()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_no_primary() {
    shared()
        .psql(
            "CREATE ROLE reader LOGIN SUPERUSER PASSWORD 'x';
             ALTER ROLE reader SET default_transaction_read_only = on",
        )
        .unwrap();
    let reader = config::Management {
        user: "reader".to_owned(),
        password: Secret::new("x".to_owned()),
        database: "postgres".to_owned(),
    };
    let scene = Scene::new(service(Kind::PostgreSql, vec![node(shared())]), reader);
    eventually(SOON, "a standby", || roles(&scene) == [NodeRole::Standby]).await;
    assert_eq!(scene.primary(), Err(Unavailable::NoPrimary));
}

#[tokio::test(flavor = "multi_thread")]
async fn pgvector_is_looked_for_where_it_is_needed() {
    let installations = Installations::find().unwrap();
    let with = managed(installations.vector().unwrap()).start().unwrap();
    let scene = Scene::new(service(Kind::Vector, vec![node(&with)]), management_role());
    eventually(SOON, "primary with pgvector", || scene.primary().is_ok()).await;
    assert!(scene.management.node_states()[0].pgvector);
    let has_pgvector = installation().has_pgvector();
    let scene = Scene::new(service(Kind::Vector, vec![node(shared())]), management_role());
    eventually(SOON, "seen", || roles(&scene) == [NodeRole::Primary]).await;
    let lacking = Err(Unavailable::NoPgvector { nodes: vec![shared().address().to_string()] });
    let expected = if has_pgvector { Ok(node(shared())) } else { lacking };
    assert_eq!(scene.primary(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_node_gets_a_lower_limit_and_one_connection_of_ours() {
    let cluster = managed(&installation())
        .max_connections(20)
        .setting("log_statement", "all")
        .start()
        .unwrap();
    let service = || service(Kind::PostgreSql, vec![node(&cluster)]);
    let scene = Scene::new(service(), management_role());
    eventually(SOON, "published", || scene.primary().is_ok()).await;
    let capacity = scene.primary().unwrap().capacity;
    assert_eq!(capacity, 20 - 3 - 3);
    let published = scene.directory.service(&name()).unwrap();
    assert_eq!(published.nodes[0].capacity, capacity);
    // A reload does not forget it.
    let again = scene.management.completed(service());
    assert_eq!(again.topology.primary.unwrap().capacity, capacity);

    let (before, start) = (cluster.log().unwrap().len(), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        scene.management.suspect(&node(&cluster));
        scene.refused("nobody").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let looks = cluster.log().unwrap()[before..].matches("pg_is_in_recovery").count();
    assert!((5..=11).contains(&looks), "{looks} looks");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postern'";
    assert_eq!(cluster.psql(sessions).unwrap(), "1");
    drop(scene);
    let none = || cluster.psql(sessions).unwrap() == "0";
    eventually(SOON, "the connection is closed", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_settings_lead_to_a_new_connection() {
    shared().psql("CREATE ROLE later LOGIN SUPERUSER PASSWORD 'x'").unwrap();
    let mut role = superuser(shared());
    role.user = "later".to_owned();
    role.password = Secret::new("wrong".to_owned());
    let scene = Scene::new(service(Kind::PostgreSql, vec![node(shared())]), role.clone());
    eventually(SOON, "down", || roles(&scene) == [NodeRole::Down]).await;
    role.password = Secret::new("x".to_owned());
    scene.management.update(settings(role));
    eventually(SOON, "up", || scene.primary().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_ended_unless_it_is_younger_than_its_connection() {
    let scene = Scene::shared();
    shared().psql("CREATE ROLE victim LOGIN PASSWORD 'x'").unwrap();
    let mut psql = shared().client("psql", "postgres");
    psql.env("PGUSER", "victim").env("PGPASSWORD", "x");
    let mut psql = psql.args(["-Xc", "SELECT pg_sleep(60)"]).spawn().unwrap();
    let pid = || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE usename = 'victim'";
        shared().psql(sql).unwrap().parse::<u32>().ok()
    };
    eventually(SOON, "the victim is there", || pid().is_some()).await;
    let process_id = pid().unwrap();
    let node = node(shared());
    let there = Instant::now();
    let end = |since| scene.management.terminate(&node, process_id, since);
    let long_ago = there.checked_sub(Duration::from_secs(60)).unwrap();
    let too_young = end(long_ago).await;
    assert_eq!((too_young, pid()), (ReaperAnswer::Told, Some(process_id)));
    assert_eq!(end(there).await, ReaperAnswer::Told);
    eventually(SOON, "the victim is gone", || pid().is_none()).await;
    assert_eq!(end(there).await, ReaperAnswer::Gone);
    assert!(!psql.wait().unwrap().success());
}

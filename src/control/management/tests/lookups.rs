//! Verifiers, from a real server.

use super::*;
use crate::cluster::StopMode;

#[tokio::test(flavor = "multi_thread")]
async fn a06_a08_each_kind_of_role_is_told_from_the_others() {
    shared()
        .psql(
            "CREATE ROLE kind_good LOGIN PASSWORD 'x' VALID UNTIL 'infinity';
             CREATE ROLE \"kind \"\"odd\"\" ä'\" LOGIN PASSWORD 'x';
             CREATE ROLE kind_nologin PASSWORD 'x';
             CREATE ROLE kind_null LOGIN;
             CREATE ROLE kind_expired LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01';
             SET password_encryption = md5;
             CREATE ROLE kind_md5 LOGIN PASSWORD 'x';",
        )
        .unwrap();
    let by_function = Scene::shared();
    let in_catalog =
        Scene::new(service(Kind::PostgreSql, vec![node(shared())]), superuser(shared()));
    for scene in [&by_function, &in_catalog] {
        assert_eq!(scene.refused("kind_good").await, None);
        assert_eq!(scene.refused("kind \"odd\" ä'").await, None);
        assert_eq!(scene.refused("kind_nologin").await, Some(NoVerifier::NoLogin));
        assert_eq!(scene.refused("kind_null").await, Some(NoVerifier::NoPassword));
        assert_eq!(scene.refused("kind_expired").await, Some(NoVerifier::Expired));
        assert_eq!(scene.refused("kind_md5").await, Some(NoVerifier::NotScram));
        for unknown in ["kind_nobody", "", "KIND_GOOD", "x' OR true --", &"x".repeat(64)] {
            let refused = scene.refused(unknown).await;
            assert_eq!(refused, Some(NoVerifier::UnknownRole), "{unknown}");
        }
        assert_eq!(scene.management.iterations(&name()), 4096);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a05_nothing_of_a_client_reaches_the_management_connection() {
    let scene = Scene::shared();
    let role = "x'; SET search_path = evil; --";
    scene.lookup(role).await;
    let settings = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'search_path'";
    let watch = scene.management.shared.watch(&name()).unwrap();
    let seen = watch.nodes[0].link.ask(watch.connect_within(), |session| async move {
        let row = session.one_row(settings, &[]).await?;
        session::value::<String>(&row, 0)
    });
    assert_eq!(seen.await.unwrap(), "pg_catalog");
    let log = shared().log().unwrap();
    let mut mentions = log.lines().filter(|line| line.contains("SET search_path = evil"));
    assert!(mentions.clone().next().is_some());
    assert!(mentions.all(|line| line.contains("$1 = ")), "as a parameter only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_on_the_next_login_after_a_doubt_and_within_five_seconds() {
    shared().psql("CREATE ROLE fresh LOGIN PASSWORD 'old'").unwrap();
    let scene = Scene::shared();
    let salt = |lookup: Lookup| match lookup {
        Lookup::Verifier(verifier) | Lookup::Rotated { current: verifier, .. } => {
            verifier.salt.clone()
        }
        Lookup::Refused(reason) => panic!("{reason:?}"),
    };
    let old = salt(scene.lookup("fresh").await);
    shared().psql("ALTER ROLE fresh PASSWORD 'new'").unwrap();
    assert_eq!(salt(scene.lookup("fresh").await), old, "younger than a second");
    scene.management.doubt(&name(), "fresh");
    assert_ne!(salt(scene.lookup("fresh").await), old);
    let changed = Instant::now();
    shared().psql("ALTER ROLE fresh NOLOGIN").unwrap();
    while scene.refused("fresh").await.is_none() {
        assert!(changed.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_role_is_refused_after_the_greatest_age_though_nobody_asked_meanwhile() {
    shared().psql("CREATE ROLE aged LOGIN PASSWORD 'x'").unwrap();
    let mut settings = settings(management_role());
    settings.timeouts.verifier_max_age = Duration::from_millis(1_200);
    let scene = Scene::with(service(Kind::PostgreSql, vec![node(shared())]), settings);
    assert_eq!(scene.refused("aged").await, None);
    shared().psql("DROP ROLE aged").unwrap();
    tokio::time::sleep(Duration::from_millis(1_250)).await;
    assert_eq!(scene.refused("aged").await, Some(NoVerifier::UnknownRole));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_cost_few_queries_over_one_connection() {
    shared().psql("CREATE ROLE crowd LOGIN PASSWORD 'x'").unwrap();
    let scene = Arc::new(Scene::shared());
    let logins: Vec<_> = (0..200)
        .map(|n| {
            let scene = Arc::clone(&scene);
            let role = if n % 2 == 0 { "crowd".to_owned() } else { format!("crowd_{n}") };
            tokio::spawn(async move { scene.refused(&role).await.is_none() })
        })
        .collect();
    for (n, login) in logins.into_iter().enumerate() {
        assert_eq!(login.await.unwrap(), n % 2 == 0);
    }
    let log = shared().log().unwrap();
    let asked = |line: &&str| line.contains("$1 = ") && line.contains("crowd");
    assert!(log.lines().filter(asked).count() <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a28_a_node_that_is_down_is_no_verdict_about_its_roles() {
    let cluster = managed(&installation())
        .sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x'")
        .start()
        .unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    let mut settings = settings(management_role());
    settings.timeouts.verifier_max_age = Duration::from_secs(1);
    settings.timeouts.failover_wait = Duration::from_secs(2);
    let scene = Scene::with(service(Kind::PostgreSql, vec![node(&cluster)]), settings);
    let error = scene.management.lookup(&name(), "app").await.unwrap_err();
    assert!(error.0.contains("Connection refused"), "{error}");
    cluster.start().unwrap();
    let up = Instant::now();
    while scene.management.lookup(&name(), "app").await.is_err() {
        assert!(up.elapsed() < Duration::from_secs(2), "not found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A restart breaks the connection: the lookup opens another, once a
    // failure to connect while nobody was there is forgotten.
    cluster.restart().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(scene.refused("nobody").await, Some(NoVerifier::UnknownRole));

    // What is known serves for failover_wait beyond its age, and no longer.
    assert_eq!(scene.refused("app").await, None);
    let known = Instant::now();
    cluster.stop(StopMode::Immediate).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(scene.refused("app").await, None);
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(known.elapsed())).await;
    assert!(scene.management.lookup(&name(), "app").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a27_a_wrong_password_of_our_own_is_tried_once_in_a_while_and_never_shown() {
    let mut role = management_role();
    role.password = Secret::new("hunter2".to_owned());
    role.user = "wrongly_known".to_owned();
    shared().psql("CREATE ROLE wrongly_known LOGIN PASSWORD 'x'").unwrap();
    let scene = Scene::new(service(Kind::PostgreSql, vec![node(shared())]), role);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let error = scene.management.lookup(&name(), "app").await.unwrap_err();
        assert!(error.0.contains("28P01"), "{error}");
        assert!(!error.0.contains("hunter2"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = shared().log().unwrap();
    let failure = "password authentication failed for user \"wrongly_known\"";
    assert_eq!(log.matches(failure).count(), 1);
}

//! What `postern node sql` makes.

use super::*;

#[test]
fn node_sql_can_be_run_again_and_nobody_else_may_look_up() {
    let installations = Installations::find().unwrap();
    for installation in installations.iter() {
        let cluster = managed(installation)
            .sql("postgres", node_sql("postern"))
            .sql("postgres", node_sql("odd \"name\" ' \\ ä"))
            .sql("postgres", node_sql("postern"))
            .sql("postgres", "CREATE ROLE ordinary LOGIN PASSWORD 'x'")
            .start()
            .unwrap();
        let as_role = |role: &str, sql: &str| cluster.psql(&format!("SET ROLE {role}; {sql}"));
        let lookup =
            "SELECT left(verifier, 14), can_login, expired FROM postern.lookup('ordinary')";
        assert_eq!(as_role("postern", lookup).unwrap(), "SCRAM-SHA-256$|t|f");
        for (role, sql) in [
            ("ordinary", lookup),
            ("\"odd \"\"name\"\" ' \\ ä\"", lookup),
            ("postern", "SELECT rolpassword FROM pg_authid"),
            ("postern", "CREATE TABLE postern.t ()"),
        ] {
            let error = as_role(role, sql).unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{role}: {error}");
        }
        let limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'postern'";
        assert_eq!(cluster.psql(limit).unwrap(), "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a08_a_strangers_or_senseless_lookup_lets_nobody_in() {
    let cluster = Cluster::builder(&installation())
        .durable(false)
        .sql(
            "postgres",
            "CREATE ROLE stranger LOGIN SUPERUSER PASSWORD 'x';
             SET ROLE stranger;
             CREATE SCHEMA postern;
             CREATE FUNCTION postern.lookup(text, OUT verifier text, OUT can_login bool, OUT expired bool)
             LANGUAGE sql SECURITY DEFINER AS $$ SELECT 'forged', true, false $$;
             RESET ROLE;
             ALTER ROLE stranger NOSUPERUSER;",
        )
        .start()
        .unwrap();
    let error = cluster.psql(&node_sql("postern")).unwrap_err().to_string();
    assert!(error.contains("belongs to \"stranger\""), "{error}");
    let nodes = vec![node(&cluster)];
    let scene = Scene::new(service(Kind::PostgreSql, nodes), superuser(&cluster));
    assert_eq!(scene.refused("stranger").await, None);
    assert_eq!(scene.refused("nobody").await, Some(NoVerifier::UnknownRole));

    // A superuser's lookup that answers nonsense lets nobody in.
    let answering = |rows: &str| {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION postern.lookup(
                 role_name text, OUT verifier text, OUT can_login bool, OUT expired bool)
             RETURNS SETOF record LANGUAGE sql STRICT SECURITY DEFINER AS $$ {rows} $$"
        );
        cluster.psql(&sql).unwrap();
    };
    cluster.psql("DROP SCHEMA postern CASCADE").unwrap();
    cluster.psql(&node_sql("postern")).unwrap();
    let real = "SELECT rolpassword, true, false FROM pg_authid WHERE rolname = 'stranger'";
    answering(&format!("{real} UNION ALL {real}"));
    let nodes = vec![node(&cluster)];
    let scene = Scene::new(service(Kind::PostgreSql, nodes), superuser(&cluster));
    let error = scene.management.lookup(&name(), "twice").await.unwrap_err();
    assert!(error.0.contains("two rows for role"), "{error}");
    answering("SELECT NULL::text, NULL::bool, NULL::bool");
    assert_eq!(scene.refused("null").await, Some(NoVerifier::NoLogin));
}

//! The API as platforms meet it: who may, what is refused and how, what can
//! be repeated.

use serde_json::{Value, json};

use super::ControlPlane;
use super::control_plane::node;

#[test]
fn nobody_without_a_token_learns_anything() {
    let plane = ControlPlane::start();
    let unknown = plane.ask_with("GET", "/v1/services", &[], None);
    unknown.problem(401);
    assert!(unknown.header("www-authenticate").unwrap().starts_with("bearer"));
    for (method, path) in [
        ("GET", "/v1/services/orders"),
        ("GET", "/v1/nothing"),
        ("DELETE", "/v1/plans"),
        ("GET", "/"),
        ("POST", "/v1/tokens"),
        ("GET", "/status"),
    ] {
        for header in [
            "X-Nothing: 1",
            "Authorization: Bearer pst_00000000_wrong",
            "Authorization: Basic YTpi",
            "Authorization: Bearer",
        ] {
            let answer = plane.ask_with(method, path, &[header], None);
            assert_eq!(answer.body, unknown.body, "{method} {path} {header}");
            answer.problem(401);
        }
    }
    let id = plane.token.split('_').nth(1).unwrap().to_owned();
    assert_eq!(plane.ask("GET", "/v1/plans", None).status, 200);
    plane.ok(&["token", "delete", &id]);
    plane.ask("GET", "/v1/plans", None).problem(401);
    let files = std::fs::read(plane.path("catalog.db")).unwrap();
    let wal = std::fs::read(plane.path("catalog.db-wal")).unwrap_or_default();
    let secret = plane.token.splitn(3, '_').nth(2).unwrap().as_bytes().to_vec();
    assert!(![files, wal].concat().windows(secret.len()).any(|bytes| bytes == secret));
    assert!(!plane.log().contains(&plane.token));
}

#[test]
fn a_scope_allows_what_it_says_and_no_more() {
    let plane = ControlPlane::start();
    plane.ok(&["service", "create", "orders", "--plan", "hobbyist", "--provider", "local"]);
    let ask = |scope: &str, method: &str, path: &str, body: Option<&str>| {
        let token = plane.ok(&["token", "create", "t", "--scope", scope]);
        plane.ask_with(method, path, &[&format!("Authorization: Bearer {token}")], body)
    };
    let service = ask("read", "GET", "/v1/services/orders", None).json();
    assert_eq!(service["connection"]["password"], Value::Null);
    assert!(!service["connection"]["uri"].as_str().unwrap().contains(":admin"), "{service}");
    let password = ask("write", "GET", "/v1/services/orders", None).json();
    assert!(password["connection"]["password"].is_string());
    ask("read", "PATCH", "/v1/services/orders", Some("{}")).problem(403);
    ask("read", "DELETE", "/v1/services/orders/connections", None).problem(403);
    ask("write", "GET", "/v1/tokens", None).problem(403);
    ask("write", "GET", "/v1/audit", None).problem(403);
    assert_eq!(ask("write", "PATCH", "/v1/services/orders", Some("{}")).status, 200);
}

#[test]
fn every_error_is_a_problem() {
    let plane = ControlPlane::start();
    let bearer = format!("Authorization: Bearer {}", plane.token);
    let ask = |method: &str, path: &str, lines: &[&str], body: Option<&str>| {
        let lines = [&[bearer.as_str()], lines].concat();
        plane.ask_with(method, path, &lines, body)
    };
    ask("GET", "/v1/nothing", &[], None).problem(404);
    ask("GET", "/v1/services/none", &[], None).problem(404);
    ask("GET", "/v1/services/%00%22", &[], None).problem(404);
    ask("PUT", "/v1/services", &[], None).problem(405);
    ask("POST", "/v1/services", &[], Some("{")).problem(400);
    ask("POST", "/v1/services", &["Content-Type: text/plain"], Some("{}")).problem(415);
    ask("POST", "/v1/services", &[], Some("{}")).problem(422);
    ask("POST", "/v1/services", &[], Some("[1]")).problem(422);
    ask("PATCH", "/v1/services/none", &[], Some("[null, null]")).problem(422);
    ask("GET", "/v1/services?limit=x", &[], None).problem(400);
    ask("GET", "/v1/services?limit=0", &[], None).problem(400);
    ask("GET", "/v1/services?unknown=1", &[], None).problem(400);
    ask("GET", "/v1/audit?after=x", &[], None).problem(400);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300 * 1024));
    ask("POST", "/v1/services", &[], Some(&large)).problem(413);
    let body = json!({
        "name": "Bad-", "plan": "gold", "display_name": "\u{7}", "allowlist": ["x"],
        "pooling": { "max_prepared_statements": 0 },
    });
    let problem = plane.ask("POST", "/v1/services", Some(&body)).problem(422);
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].clone())
        .collect();
    let expected =
        ["/name", "/display_name", "/plan", "/allowlist/0", "/pooling/max_prepared_statements"];
    assert_eq!(pointers, expected);
    let misspelt = json!({ "name": "a", "plan": "hobbyist", "alowlist": [] });
    let problem = plane.ask("POST", "/v1/services", Some(&misspelt)).problem(422);
    assert!(problem["detail"].as_str().unwrap().contains("alowlist"), "{problem}");
}

#[test]
fn a_repeated_create_creates_nothing_and_a_stale_change_changes_nothing() {
    let (plane, server) = (ControlPlane::start(), node("postgresql"));
    plane.add_node("db1", &server);
    let bearer = format!("Authorization: Bearer {}", plane.token);
    let create = |key: &str, body: &Value| {
        let key = format!("Idempotency-Key: {key}");
        plane.ask_with("POST", "/v1/services", &[&bearer, &key], Some(&body.to_string()))
    };
    let body = json!({ "name": "orders", "plan": "hobbyist" });
    let first = create("one", &body);
    assert_eq!((first.status, first.header("location")), (201, Some("/v1/services/orders")));
    assert_eq!(create("one", &body).status, 201);
    create("two", &body).problem(409);
    create("one", &json!({ "name": "carts", "plan": "hobbyist" })).problem(422);
    assert_eq!(plane.ask("GET", "/v1/services", None).json()["items"].as_array().unwrap().len(), 1);
    crate::stage::eventually("the service to run", || {
        plane.ask("GET", "/v1/services/orders", None).json()["state"] == "running"
    });
    let read = plane.ask("GET", "/v1/services/orders", None);
    let condition = format!("If-Match: {}", read.header("etag").unwrap());
    let change = |lines: &[&str], name: &str| {
        let lines = [&[bearer.as_str()], lines].concat();
        let body = json!({ "display_name": name }).to_string();
        plane.ask_with("PATCH", "/v1/services/orders", &lines, Some(&body))
    };
    assert_eq!(change(&[&condition], "First").status, 200);
    change(&[&condition], "Second").problem(412);
    change(&["If-Match: \"nonsense\""], "Second").problem(412);
    assert_eq!(change(&[], "Third").status, 200);
    let audit = plane.ask("GET", "/v1/audit?limit=2", None).json();
    assert_eq!(audit["items"][0]["action"], "service.change");
    assert_eq!(audit["items"][1]["detail"]["display_name"], "First");
    let id = plane.token.split('_').nth(1).unwrap();
    assert_eq!(audit["items"][0]["actor"], id);
    let next = format!("/v1/audit?limit=1000&after={}", audit["next"].as_str().unwrap());
    let older = plane.ask("GET", &next, None).json();
    assert!(!older.to_string().contains(super::control_plane::SUPERUSER_PASSWORD));
}

#[test]
fn a30_names_with_quotes_and_newlines_stay_names() {
    let (plane, server) = (ControlPlane::start(), node("postgresql"));
    plane.add_node("db1", &server);
    plane.ok(&["service", "create", "orders", "--plan", "hobbyist"]);
    for name in ["a\"b", "it's", "back\\slash", "{brace}", "100%", "ä ö", "--", "$1", "a;b"] {
        let made = plane.ask("POST", "/v1/services/orders/roles", Some(&json!({ "name": name })));
        assert_eq!(made.status, 201, "{name:?}: {made:?}");
        let database = json!({ "name": name, "owner": name });
        let made = plane.ask("POST", "/v1/services/orders/databases", Some(&database));
        assert_eq!(made.status, 201, "{name:?}: {made:?}");
        let uri = plane.ok(&["service", "uri", "orders"]);
        let mut config: tokio_postgres::Config = uri.parse().unwrap();
        let roles = plane.ask("GET", "/v1/services/orders/roles", None).json();
        let role = roles["items"].as_array().unwrap().iter().find(|role| role["name"] == name);
        config.user(name).dbname(name).password(role.unwrap()["password"].as_str().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let who = runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
            row.get::<_, String>(0)
        });
        assert_eq!(who, name);
    }
    for name in ["a\nb", "a\u{0}b", "pg_x", "postern", "", &"x".repeat(64)] {
        let body = json!({ "name": name });
        plane.ask("POST", "/v1/services/orders/roles", Some(&body)).problem(422);
        plane.ask("POST", "/v1/services/orders/databases", Some(&body)).problem(422);
    }
    for name in ["a\"b", "Orders", "a%0ab", "{}"] {
        plane
            .ask("POST", "/v1/services", Some(&json!({ "name": name, "plan": "hobbyist" })))
            .problem(422);
    }
    let left = server
        .psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE '%b' OR rolname = '--'")
        .unwrap();
    assert_eq!(left, "3");
}

#[test]
fn a27_a_rotated_password_counts_at_once_and_the_old_one_is_refused() {
    let (plane, server) = (ControlPlane::start(), node("postgresql"));
    plane.add_node("db1", &server);
    plane.ok(&["service", "create", "orders", "--plan", "hobbyist"]);
    plane.ok(&["role", "create", "orders", "app"]);
    let uri = |password: &str| {
        let uri = plane.ok(&["service", "uri", "orders"]);
        let admin = uri.split(['/', '@']).nth(2).unwrap().to_owned();
        uri.replace(&admin, &format!("app:{password}"))
    };
    let works = |password: &str| crate::stage::psql(&uri(password), "SELECT 1").status.success();
    let first = plane.ok(&["role", "rotate", "orders", "app"]);
    assert!(works(&first));
    let second = plane.ok(&["role", "rotate", "orders", "app"]);
    assert!(works(&second), "the new password");
    crate::stage::eventually("the old password to be refused", || !works(&first));
    // Who goes on with the old one does not make the server count failures.
    let failures = || server.log().unwrap().matches("password authentication failed").count();
    let before = failures();
    for _ in 0..10 {
        assert!(!works(&first));
    }
    assert!(failures() <= before + 1, "{} more failed logins", failures() - before);
}

#[test]
fn the_document_says_what_there_is() {
    let plane = ControlPlane::start();
    let document = plane.ask_with("GET", "/openapi.json", &[], None).json();
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["/v1/services", "/v1/services/{name}", "/v1/nodes", "/v1/tokens", "/v1/audit"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let page = plane.ask_with("GET", "/docs", &[], None);
    assert!(page.status == 200 && page.body.contains("/openapi.json"));
}

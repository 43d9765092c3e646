//! The page and the health checks, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fixture::{World, service};
use super::http::{Answer, ask};
use super::{Exposition, Readiness, Unhealthy, health, serve};
use crate::admission::strangers::Caps;
use crate::directory::roster::Activity;
use crate::domain::{Kind, PoolMode};
use crate::shutdown::{Phase, Shutdown};

const SQL: Kind = Kind::PostgreSql;

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(has(page, line), "{line}\nis not in\n{page}");
    }
}

#[tokio::test]
async fn everything_that_is_counted_by_looking_is_on_the_page() {
    let world = World::of([service("orders", SQL, "127.0.0.1:5433", true)]);
    let seat = world.seat("orders", PoolMode::Session);
    seat.set_activity(Activity::IdleInTransaction);
    seat.add_received(10);
    seat.add_sent(20);
    let node = &world.services[0].nodes[0];
    let _held = world.slots.session(node, std::time::Instant::now(), Duration::ZERO).await.unwrap();
    let mut closing =
        world.slots.session(node, std::time::Instant::now(), Duration::ZERO).await.unwrap();
    closing.closing();
    let caps = Caps { total: 9, per_network: 9 };
    let _stranger = world.strangers.admit(caps).unwrap();
    world.clock.set(7);
    let page = Exposition::new(world.sources()).text().unwrap();
    let node = r#"service="orders",node="127.0.0.1:5433""#;
    assert_lines(
        &page,
        &[
            r#"postern_clients{service="orders",endpoint="session",state="idle_in_transaction"} 1"#,
            r#"postern_clients{service="orders",endpoint="session",state="active"} 0"#,
            r#"postern_clients{service="orders",endpoint="transaction",state="login"} 0"#,
            &format!("postern_slots_used{{{node}}} 1"),
            &format!("postern_slots_limit{{{node}}} 25"),
            &format!("postern_slots_closing{{{node}}} 1"),
            &format!("postern_slots_waiting{{{node}}} 0"),
            &format!("postern_server_connections{{{node},state=\"session\"}} 1"),
            &format!("postern_server_connections{{{node},state=\"closing\"}} 1"),
            &format!("postern_node_role{{{node},role=\"primary\"}} 1"),
            &format!("postern_node_role{{{node},role=\"down\"}} 0"),
            &format!("postern_node_other_posterns{{{node}}} 0"),
            r#"postern_received_bytes_total{service="orders"} 10"#,
            r#"postern_sent_bytes_total{service="orders"} 20"#,
            r#"postern_nodes{role="primary"} 1"#,
            "postern_unauthenticated_connections 1",
            "postern_cancel_keys 3",
            "postern_services 1",
            "postern_uptime_seconds 7",
            concat!(r#"postern_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "# TYPE postern_received_bytes_total counter",
            "# TYPE postern_slots_used gauge",
        ],
    );
    assert!(!page.contains("postern_node_without_pgvector"));
}

#[test]
fn services_at_rest_have_no_series_and_come_back_where_they_were() {
    let world = World::of(["a", "b"].map(|name| service(name, SQL, "127.0.0.1:1", true)));
    let name = "a".parse().unwrap();
    let exposition = Exposition::new(world.sources());
    let at = |seconds| {
        world.clock.set(seconds);
        exposition.text().unwrap()
    };
    assert!(!at(0).contains("service="));
    // A client comes and goes between two scrapes.
    world.metrics.session_began(&name, PoolMode::Session);
    world.seat("a", PoolMode::Session).add_received(5);
    let line = r#"postern_sessions_total{endpoint="session",service="a"} 1"#;
    let page = at(60);
    assert!(has(&page, line) && page.contains("postern_slots_limit{service=\"a\""));
    assert!(!page.contains("service=\"b\""));
    assert!(has(&at(3600), line));
    assert!(!at(3660).contains("service="));
    // A refusal without a service stays, whatever the time.
    world.metrics.refused(None, "not_permitted");
    let nobody = r#"postern_refusals_total{reason="not_permitted",service=""} 1"#;
    assert!(has(&at(9000), nobody) && has(&at(90_000), nobody));
    world.metrics.session_began(&name, PoolMode::Session);
    let page = at(90_001);
    assert!(has(&page, r#"postern_sessions_total{endpoint="session",service="a"} 2"#));
    assert!(has(&page, r#"postern_received_bytes_total{service="a"} 5"#));
}

#[test]
fn a30_no_name_breaks_a_line_of_the_page() {
    let node = "/tmp/a\"b'c\\d\ne{f}%g\u{0}h,x=\"1\"} 1\npostern_forged 1\n:5432";
    let world = World::of([service("orders", SQL, node, true)]);
    let _seat = world.seat("orders", PoolMode::Session);
    world.metrics.refused(None, "a\"\\\npostern_forged 2");
    let page = Exposition::new(world.sources()).text().unwrap();
    assert!(!page.lines().any(|line| line.starts_with("postern_forged")));
    let escaped = "/tmp/a\\\"b'c\\\\d\\ne{f}%g\u{0}h,x=\\\"1\\\"} 1\\npostern_forged 1\\n:5432";
    let line = format!("postern_slots_used{{service=\"orders\",node=\"{escaped}\"}} 0");
    assert_lines(&page, &[&line]);
}

#[test]
fn what_keeps_clients_away_is_named_before_any_client_came() {
    let vector = Kind::Vector;
    let world = World::of([
        service("search", vector, "127.0.0.1:1", true),
        service("orders", SQL, "127.0.0.1:2", true),
        service("asleep", vector, "127.0.0.1:3", false),
    ]);
    let page = Exposition::new(world.sources()).text().unwrap();
    let named: Vec<&str> = page.lines().filter(|l| l.contains("service=")).collect();
    let only = r#"postern_node_without_pgvector{service="search",node="127.0.0.1:1"} 1"#;
    let asleep = r#"postern_service_without_primary{service="asleep",reason="unreachable"} 1"#;
    assert_eq!(named, [only, asleep]);
    assert_lines(&page, &["postern_nodes{role=\"down\"} 1"]);
}

/// Run with `--nocapture` to see how long it takes; the goal is a second.
#[test]
fn e14_of_ten_thousand_services_only_the_active_are_on_the_page() {
    let node = |n: usize| format!("node-{n}.internal:5432");
    let services = |n: usize| service(&format!("service-{n}"), SQL, &node(n), true);
    let mut world = World::of((0..10_000).map(services));
    for active in [1000, 10_000] {
        world.roster = crate::directory::Roster::default();
        let names = (0..10_000).map(|n| format!("service-{}", n % active));
        let seats = names.map(|name| world.seat(&name, PoolMode::Session));
        let _seats: Vec<_> = seats.collect();
        let exposition = Exposition::new(world.sources());
        let began = Instant::now();
        let page = exposition.text().unwrap();
        let (took, bytes) = (began.elapsed(), page.len());
        println!("10,000 services, {active} active: {took:?}, {bytes} bytes");
        let shown = page.lines().filter(|l| l.starts_with("postern_slots_limit{"));
        assert_eq!(shown.count(), active);
        assert!(took < Duration::from_secs(10), "a page that grows faster than what it shows");
    }
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    _server: JoinSet<std::convert::Infallible>,
}

async fn running() -> Running {
    let world = World::of([service("orders", SQL, "127.0.0.1:5433", false)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::default();
    let readiness = Readiness::new(shutdown.clone());
    let exposition = Arc::new(Exposition::new(world.sources()));
    let mut server = JoinSet::new();
    server.spawn(serve(listener, exposition, readiness.clone()));
    Running { address, readiness, shutdown, _server: server }
}

async fn answer(address: SocketAddr, method: Method, path: &'static str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let deadline = Duration::from_secs(5);
    ask(stream, method, path, deadline).await.unwrap()
}

#[tokio::test]
async fn the_page_is_served_and_nothing_writes() {
    let postern = running().await;
    let page = answer(postern.address, Method::GET, "/metrics").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_lines(std::str::from_utf8(&page.body).unwrap(), &["postern_services 1"]);
    for path in ["/metrics", "/livez", "/readyz"] {
        let status = answer(postern.address, Method::POST, path).await.status;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let status = answer(postern.address, Method::GET, "/status").await.status;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readiness_is_about_this_postern_and_never_about_a_node() {
    let postern = running().await;
    let not_ready = |text: &'static str| move |why: &Unhealthy| why.to_string().contains(text);
    let why = health(postern.address).await.unwrap_err();
    assert!(not_ready("not all listeners")(&why), "{why}");
    postern.readiness.listeners_bound();
    let why = health(postern.address).await.unwrap_err();
    assert!(not_ready("no directory")(&why), "{why}");
    postern.readiness.directory_published();
    // The only node is down, which is nobody's readiness but its own.
    health(postern.address).await.unwrap();
    let every = SocketAddr::new("0.0.0.0".parse().unwrap(), postern.address.port());
    health(every).await.unwrap();
    postern.shutdown.advance(Phase::Draining);
    let readyz = answer(postern.address, Method::GET, "/readyz").await;
    assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readyz.body, "draining: no new clients are taken\n");
    let livez = answer(postern.address, Method::GET, "/livez").await;
    assert_eq!(livez.status, StatusCode::OK);
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let began = Instant::now();
    let silent = health(address).await.unwrap_err();
    assert!(matches!(silent, Unhealthy::Silent { .. }), "{silent}");
    assert!(began.elapsed() < Duration::from_secs(4));
    drop(listener);
    let gone = health(address).await.unwrap_err();
    assert!(matches!(gone, Unhealthy::Unreachable { .. }), "{gone}");
}

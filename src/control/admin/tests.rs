//! Both sides, over a real socket.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::*;
use crate::control::exposition::NodeRole;
use crate::control::exposition::fixture::{World, service};
use crate::control::exposition::http::ask;
use crate::directory::roster::Activity;
use crate::domain::{Kind, PoolMode};
use crate::shutdown::{Phase, Shutdown};

struct Running {
    client: AdminClient,
    path: PathBuf,
    world: World,
    shutdown: Shutdown,
    server: JoinSet<Infallible>,
    _dir: TempDir,
}

type Reloaded = Result<ReloadReport, Vec<String>>;

fn running(world: World, reload: impl Fn() -> Reloaded + Send + Sync + 'static) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let nodes = world.node_states();
    let shutdown = Shutdown::default();
    let controls = Controls {
        directory: world.directory(),
        roster: world.roster.clone(),
        slots: world.slots.clone(),
        clock: world.clock.clone(),
        shutdown: shutdown.clone(),
        listeners: vec![Listening::new(PoolMode::Session, "127.0.0.1:5432".into())],
        nodes: Box::new(move || nodes.clone()),
        reload: Box::new(move || Box::pin(std::future::ready(reload()))),
        api: axum::Router::new(),
        carry_out: Box::new(|_, _| Box::pin(std::future::ready(Err("not here".into())))),
    };
    let mut server = JoinSet::new();
    server.spawn(AdminSocket::bind(&path).unwrap().serve(controls));
    Running { client: AdminClient::new(&path), path, world, shutdown, server, _dir: dir }
}

fn two_services() -> World {
    World::of([
        service("orders", Kind::PostgreSql, "127.0.0.1:5433", true),
        service("search", Kind::Vector, "127.0.0.1:5434", false),
        service("vectors", Kind::Vector, "/tmp/a\u{1b}[31m:5435", true),
    ])
}

#[tokio::test]
async fn the_status_is_whole_and_is_the_same_on_both_sides() {
    let postern = running(two_services(), || Ok(ReloadReport::default()));
    postern.world.clock.set(3720);
    let _idle = postern.world.seat("orders", PoolMode::Session);
    let active = postern.world.seat("orders", PoolMode::Transaction);
    active.set_activity(Activity::Active);
    let node = &postern.world.services[0].nodes[0];
    let slots = &postern.world.slots;
    let _slot = slots.session(node, std::time::Instant::now(), Duration::ZERO).await.unwrap();
    let status = postern.client.status().await.unwrap();
    assert_eq!(status.pid, std::process::id());
    assert_eq!((status.phase, status.uptime_seconds), (Stage::Running, 3720));
    assert_eq!(status.listeners[0].address, "127.0.0.1:5432");
    let [orders, search, vectors] = &status.services[..] else {
        panic!("three services: {status:?}");
    };
    assert_eq!(orders.primary.as_deref(), Some("127.0.0.1:5433"));
    assert_eq!((orders.clients.login, orders.clients.active), (1, 1));
    assert_eq!(orders.clients, status.clients);
    let slots = orders.nodes[0].slots;
    assert_eq!((slots.used, slots.limit), (1, 25));
    assert_eq!((orders.nodes[0].pgvector, orders.nodes[0].other_posterns), (None, 0));
    assert_eq!(search.primary, None);
    let why = "None of its nodes answers.";
    assert_eq!(search.unavailable.as_deref(), Some(why));
    assert_eq!((search.nodes[0].role, search.nodes[0].pgvector), (NodeRole::Down, None));
    assert_eq!((search.nodes[0].slots.used, search.nodes[0].slots.limit), (0, 25));
    assert_eq!((vectors.nodes[0].pgvector, vectors.nodes[0].other_posterns), (Some(false), 1));
    let json = postern.client.status_json().await.unwrap();
    assert_eq!(serde_json::from_slice::<Status>(&json).unwrap(), status);
}

#[tokio::test]
async fn the_table_is_aligned_and_holds_nothing_a_terminal_obeys() {
    let postern = running(two_services(), || Ok(ReloadReport::default()));
    postern.world.clock.set(3720);
    let _client = postern.world.seat("orders", PoolMode::Session);
    let status = postern.client.status().await.unwrap();
    let (version, pid) = (&status.version, status.pid);
    let expected = format!(
        "postern {version}, process {pid}, up 1h 2m: running
listening on 127.0.0.1:5432 (session)
clients: 1 (1 logging in, 0 idle, 0 active, 0 idle in transaction)

SERVICE  KIND        PLAN       NODE                   ROLE                                   TIMELINE  LAG  SLOTS  CLOSING  WAITING  CLIENTS  ACTIVE  IN TX
orders   postgresql  startup-4  127.0.0.1:5433         primary                                1              0/25   0        0        1        0       0
search   vector      startup-4  127.0.0.1:5434         down                                   1              0/25   0        0        0        0       0
vectors  vector      startup-4  /tmp/a\\u{{1b}}[31m:5435  primary, no pgvector, 1 other Postern  1              0/25   0        0        0        0       0

search has no primary: None of its nodes answers.
  since epoch 0.0.0: no node answers
"
    );
    assert_eq!(status.to_string(), expected);
}

#[tokio::test]
async fn a_drain_begins_at_once_and_is_watched_to_its_end() {
    let mut postern = running(two_services(), || Ok(ReloadReport::default()));
    let client = Mutex::new(Some(postern.world.seat("orders", PoolMode::Session)));
    postern.client.drain().await.unwrap();
    assert_eq!(postern.shutdown.phase(), Phase::Draining);
    let mut seen = Vec::new();
    let watched = postern.client.drained(|status| {
        seen.push((status.phase, status.clients.total()));
        client.lock().unwrap().take();
    });
    watched.await.unwrap();
    assert_eq!(seen, [(Stage::Draining, 1), (Stage::Draining, 0)]);
    // A Postern that has gone has drained.
    let _left = postern.world.seat("orders", PoolMode::Session);
    postern.server.shutdown().await;
    postern.client.drained(|_| panic!("gone")).await.unwrap();
    assert!(!postern.path.exists());
}

#[tokio::test]
async fn a_reload_reports_what_changed_or_every_problem() {
    let times = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&times);
    let problems = || vec!["tls.mode: no".to_owned(), "services[0].plan: no".to_owned()];
    let postern = running(two_services(), move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Err(problems()),
        _ => Ok(ReloadReport {
            added: vec!["billing".into(), "mail".into()],
            restart_needed: vec!["listen.session".into()],
            warnings: vec!["plan unused".into()],
            ..ReloadReport::default()
        }),
    });
    let error = postern.client.reload().await.unwrap_err();
    let text = "nothing was reloaded:\n  tls.mode: no\n  services[0].plan: no";
    assert_eq!(error.to_string(), text);
    let report = postern.client.reload().await.unwrap();
    let text = "reloaded\nservices added: billing, mail\n\
        listen.session: counts after a restart\nwarning: plan unused\n";
    assert_eq!(report.to_string(), text);
    assert_eq!(times.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_its_owner_opens_the_socket_and_orders_are_posted() {
    let postern = running(two_services(), || Ok(ReloadReport::default()));
    let mode = std::fs::metadata(&postern.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for path in ["/drain", "/reload"] {
        let stream = UnixStream::connect(&postern.path).await.unwrap();
        let answer = ask(stream, Method::GET, path, Duration::from_secs(5)).await;
        assert_eq!(answer.unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(postern.shutdown.phase(), Phase::Running);
    let second = AdminSocket::bind(&postern.path).unwrap_err();
    assert!(matches!(second, AdminSocketError::InUse(_)), "{second}");
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let client = AdminClient::new(&path);
    let missing = client.status().await.unwrap_err().to_string();
    assert!(missing.contains("is Postern running"), "{missing}");
    assert!(missing.contains(path.to_str().unwrap()), "{missing}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let dead = client.reload().await.unwrap_err();
    assert!(matches!(dead, AdminError::NotRunning(_)), "{dead}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let file = AdminSocket::bind(&path).unwrap_err();
    assert!(matches!(file, AdminSocketError::NotASocket(_)), "{file}");
    let nowhere = AdminSocket::bind(&dir.path().join("no/admin.sock")).unwrap_err();
    assert!(matches!(nowhere, AdminSocketError::NoDirectory(_)), "{nowhere}");
    let denied = std::io::ErrorKind::PermissionDenied.into();
    let denied = AdminError::connecting(&path, denied).to_string();
    assert!(denied.contains("or as root"), "{denied}");
}

//! What watches the data path from outside, on the control runtime: metrics
//! and health, the admin socket, the coarse clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Reloader, Runtimes, platform};
use crate::app::Failure;
use crate::control::admin::{AdminSocket, Controls, Listening};
use crate::control::api;
use crate::control::catalog::Catalog;
use crate::control::config::{ListenAddress, Settings};
use crate::control::drill::Drills;
use crate::control::exposition::{self, Exposition, Readiness, Sources};
use crate::control::management::Management;
use crate::control::pausing::Pauses;
use crate::control::planned::{CarryOut, Planner};
use crate::directory::CoarseClock;
use crate::domain::PoolMode;
use crate::session::FrontDoor;
use crate::session::accept::bring_in;
use crate::session::sweep::sweep;

/// How far behind the coarse clock may be.
const TICK: Duration = Duration::from_millis(100);

/// Binds what is configured and serves it.
pub(super) fn serve(
    settings: &Settings,
    door: &Arc<FrontDoor>,
    management: &Arc<Management>,
    readiness: &Readiness,
    reloader: &Arc<Reloader>,
    catalog: Option<&Catalog>,
    runtimes: &Runtimes,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let runtime = runtimes.control.handle();
    let _context = runtime.enter();
    let sweeping = sweep(Arc::clone(&door.directory), door.roster.clone());
    let mut tasks = vec![runtime.spawn(tick(door.roster.clock().clone())), runtime.spawn(sweeping)];
    if let Some(address) = settings.metrics.listen {
        let listener = bind(address, "metrics.listen")?;
        let exposition = Arc::new(Exposition::new(sources(door, management)));
        let readiness = readiness.clone();
        tasks.push(runtime.spawn(async move {
            match exposition::serve(listener, exposition, readiness).await {}
        }));
        tracing::info!(%address, "metrics");
    }
    if let Some(directory) = settings.admin.socket.parent() {
        // The service's own directory below /run, which a reboot has emptied.
        let _ = std::fs::create_dir_all(directory);
    }
    let socket = AdminSocket::bind(&settings.admin.socket)
        .map_err(|error| Failure::new(error.to_string()))?;
    let pauses = Pauses::new(Arc::clone(&door.directory), catalog.cloned());
    let planner = planner(settings, door, management, pauses);
    let drills = drills(&planner, door, reloader);
    let api = platform::api(settings, door, management, reloader, catalog, drills, runtime)?;
    if let Some(address) = settings.admin.listen {
        let listener = bind(address, "admin.listen")?;
        let transport = platform::transport(address, door);
        let api = api.clone();
        tasks.push(
            runtime
                .spawn(async move { match api::server::serve(listener, api, transport).await {} }),
        );
        tracing::info!(%address, "admin API");
    }
    let controls = controls(settings, door, management, reloader, planner, api.by_socket());
    tasks.push(runtime.spawn(async move { match socket.serve(controls).await {} }));
    Ok(tasks)
}

fn bind(address: std::net::SocketAddr, key: &str) -> Result<tokio::net::TcpListener, Failure> {
    let refused = |error| Failure::new(format!("{key} {address}: {error}"));
    let listener = std::net::TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    tokio::net::TcpListener::from_std(listener).map_err(refused)
}

async fn tick(clock: CoarseClock) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        clock.advance(started.elapsed());
    }
}

fn sources(door: &Arc<FrontDoor>, management: &Arc<Management>) -> Sources {
    let (keys, nodes) = (door.cancel_keys.clone(), Arc::clone(management));
    Sources {
        metrics: door.metrics.clone(),
        directory: Arc::clone(&door.directory),
        roster: door.roster.clone(),
        slots: door.slots.clone(),
        strangers: door.strangers.clone(),
        clock: door.roster.clock().clone(),
        cancel_keys: Box::new(move || keys.len()),
        nodes: Box::new(move || nodes.node_states()),
    }
}

fn controls(
    settings: &Settings,
    door: &Arc<FrontDoor>,
    management: &Arc<Management>,
    reloader: &Arc<Reloader>,
    planner: Planner,
    api: axum::Router,
) -> Controls {
    let (nodes, reloader) = (Arc::clone(management), Arc::clone(reloader));
    Controls {
        directory: Arc::clone(&door.directory),
        roster: door.roster.clone(),
        slots: door.slots.clone(),
        clock: door.roster.clock().clone(),
        shutdown: door.shutdown.clone(),
        listeners: listeners(settings),
        nodes: Box::new(move || nodes.node_states()),
        reload: Box::new(move || {
            let reloader = Arc::clone(&reloader);
            Box::pin(async move { reloader.reload().await })
        }),
        api,
        carry_out: carry_out(planner),
    }
}

fn planner(
    settings: &Settings,
    door: &Arc<FrontDoor>,
    management: &Arc<Management>,
    pauses: Pauses,
) -> Planner {
    let (stores, nodes) = (Arc::clone(management), Arc::clone(management));
    Planner {
        directory: Arc::clone(&door.directory),
        pauses,
        roster: door.roster.clone(),
        pause_timeout: settings.timeouts.pause,
        stores: Arc::new(move |service| stores.store(service)),
        caught_up: Arc::new(move |service, to| {
            let nodes = Arc::clone(&nodes);
            Box::pin(async move { nodes.caught_up(&service, to.as_deref()).await })
        }),
        under_way: Arc::default(),
    }
}

fn carry_out(planner: Planner) -> CarryOut {
    Box::new(move |service, order| {
        let planner = planner.clone();
        Box::pin(async move { planner.carry_out(&service, &order).await })
    })
}

fn drills(planner: &Planner, door: &Arc<FrontDoor>, reloader: &Arc<Reloader>) -> Arc<Drills> {
    let entered = Arc::clone(door);
    let reloader = Arc::clone(reloader);
    Arc::new(Drills {
        planner: planner.clone(),
        enter: Arc::new(move || bring_in(&entered, PoolMode::Transaction)),
        canaries: Box::new(move |service| reloader.canary(service)),
        metrics: door.metrics.clone(),
        under_way: Arc::default(),
    })
}

fn listeners(settings: &Settings) -> Vec<Listening> {
    let of = |mode: PoolMode, addresses: &[ListenAddress]| -> Vec<Listening> {
        addresses.iter().map(|address| Listening::new(mode, address.to_string())).collect()
    };
    let listen = &settings.listen;
    [of(PoolMode::Session, &listen.session), of(PoolMode::Transaction, &listen.transaction)]
        .concat()
}

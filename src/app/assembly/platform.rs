//! The admin API's way to everything else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::Reloader;
use crate::app::Failure;
use crate::control::api::entrance::Entrance;
use crate::control::api::server::Transport;
use crate::control::api::turns::Turns;
use crate::control::api::{Api, Platform};
use crate::control::catalog::Catalog;
use crate::control::config::{ListenAddress, Settings, TlsMode};
use crate::control::drill::Drills;
use crate::control::management::Management;
use crate::control::provision::local::LocalServers;
use crate::control::provision::{CurrentPlans, Means, Provisioner, Publish};
use crate::domain::ServiceName;
use crate::session::FrontDoor;

/// The API, and what it makes services with; goes on with what the last
/// process did not finish.
///
/// # Errors
/// If the catalogue or the authority's certificate cannot be read.
pub(super) fn api(
    settings: &Settings,
    door: &Arc<FrontDoor>,
    management: &Arc<Management>,
    reloader: &Arc<Reloader>,
    catalog: Option<&Catalog>,
    drills: Arc<Drills>,
    runtime: &Handle,
) -> Result<Api, Failure> {
    let publish: Publish = {
        let reloader = Arc::clone(reloader);
        Arc::new(move |name: ServiceName| {
            let reloader = Arc::clone(&reloader);
            Box::pin(async move { reloader.publish(name).await })
        })
    };
    let plans: CurrentPlans = {
        let reloader = Arc::clone(reloader);
        Arc::new(move || reloader.plans())
    };
    let provisioner = catalog.map(|catalog| {
        Provisioner::new(Means {
            catalog: catalog.clone(),
            dialer: door.dialer.clone(),
            publish: Arc::clone(&publish),
            plans: Arc::clone(&plans),
            local: settings.local.directory.as_deref().map(LocalServers::new),
            runtime: runtime.clone(),
        })
    });
    if let Some(provisioner) = &provisioner {
        provisioner.resume().map_err(|error| Failure::new(format!("catalog: {error}")))?;
    }
    Ok(Api::new(Platform {
        catalog: catalog.cloned(),
        provisioner,
        publish,
        plans,
        pauses: drills.planner.pauses.clone(),
        directory: Arc::clone(&door.directory),
        roster: door.roster.clone(),
        refusals: door.refusals.clone(),
        slots: door.slots.clone(),
        clock: door.roster.clock().clone(),
        management: Arc::clone(management),
        turns: Turns::default(),
        entrance: entrance(settings)?,
        drills,
    }))
}

/// Beyond loopback with the certificate that clients are shown.
pub(super) fn transport(address: SocketAddr, door: &Arc<FrontDoor>) -> Transport {
    if address.ip().is_loopback() {
        return Transport::Plain;
    }
    let door = Arc::clone(door);
    Transport::Tls(Box::new(move || {
        door.policy.load().tls.as_ref().map(crate::net::server_tls::ServerTls::https)
    }))
}

fn entrance(settings: &Settings) -> Result<Entrance, Failure> {
    let listen = &settings.listen;
    let authority = settings.tls.authority.as_ref().map(|path| {
        let read = std::fs::read_to_string(path);
        read.map_err(|error| Failure::new(format!("tls.authority: {}: {error}", path.display())))
    });
    let ssl_mode = match (settings.tls.mode, &settings.tls.certificate) {
        (TlsMode::Disable, _) | (_, None) => "disable",
        (TlsMode::Allow, Some(_)) => "prefer",
        (TlsMode::Require, Some(_)) => "require",
    };
    let session = listen.session.iter().chain(&listen.transaction).find_map(tcp);
    Ok(Entrance {
        domain: settings.routing.domains.first().map(ToString::to_string),
        host: session.map_or_else(|| "localhost".to_owned(), |address| host(address.ip())),
        session_port: session.map_or(5432, |address| address.port()),
        transaction_port: listen.transaction.iter().find_map(tcp).map(|address| address.port()),
        ssl_mode,
        authority: authority.transpose()?,
    })
}

fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix { .. } => None,
    }
}

/// Every address of this host listens: its name stands for all of them.
fn host(ip: IpAddr) -> String {
    if !ip.is_unspecified() {
        return ip.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

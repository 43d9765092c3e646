//! What runs for one service: a server, or several under Patroni.

use std::fs;
use std::path::Path;

use super::{Made, MadeNode, Order, text};
use crate::cluster::{
    Certified, Cluster, Error, HaManager, Installation, Installations, Passwords, PatroniCluster,
    PatroniSettings, StopMode, Timings,
};
use crate::control::catalog::record::ServiceKind;
use crate::control::provision::placement::needed_connections;
use crate::domain::{NodeTls, Secret};
use crate::net::authority::Authority;

/// The superuser of the servers.
pub(super) const SUPERUSER: &str = "postgres";
/// Connections that PostgreSQL keeps for superusers, unless told otherwise.
const RESERVED: u32 = 3;
/// What Patroni has open on its node: one to look, one to answer, one to rewind.
const OF_PATRONI: u32 = 3;
/// A node that hangs is over after `ttl`; one that has died is noticed within
/// `loop_wait`.
const TIMINGS: Timings = Timings { ttl: 20, loop_wait: 2, retry_timeout: 5 };

/// What runs for one service.
#[derive(Debug)]
pub(super) enum Servers {
    /// A plan of one node.
    One(Cluster),
    /// A primary with its standbys.
    Several(PatroniCluster),
}

impl Servers {
    /// What is in the way of making such servers on this host.
    pub(super) fn check(kind: ServiceKind, nodes: u32) -> Result<(), Error> {
        if nodes > 1 {
            HaManager::find()?.check(&installation(kind)?)?;
        }
        Ok(())
    }

    /// Makes them in an empty directory. Blocks until they take connections.
    pub(super) fn make(home: &Path, order: &Order) -> Result<Self, String> {
        let installation = installation(order.kind).map_err(text)?;
        if order.plan.nodes > 1 {
            return several(home, installation, order).map(Self::Several);
        }
        one(home, &installation, order).map(Self::One)
    }

    /// Starts those that were made by an earlier process.
    pub(super) fn open(home: &Path, bin: &Path, port: u16) -> Result<Self, Error> {
        if PatroniCluster::is_in(home) {
            return PatroniCluster::open(&HaManager::find()?, home).map(Self::Several);
        }
        let installation = Installation::at(bin)?;
        let cluster = Cluster::builder(&installation).superuser(SUPERUSER).port(port);
        cluster.directory(home).open().map(Self::One)
    }

    pub(super) fn start(&self) -> Result<(), Error> {
        match self {
            Self::One(cluster) => cluster.start(),
            Self::Several(cluster) => cluster.start(),
        }
    }

    pub(super) fn stop(&self) -> Result<(), Error> {
        match self {
            Self::One(cluster) => cluster.stop(StopMode::Fast),
            Self::Several(cluster) => {
                cluster.stop();
                Ok(())
            }
        }
    }

    /// What has ended and should run.
    pub(super) fn died(&self) -> Option<&str> {
        match self {
            Self::One(cluster) => cluster.pid().is_none().then_some("postgres"),
            Self::Several(cluster) => cluster.died(),
        }
    }

    /// Starts again what has ended by itself.
    pub(super) fn revive(&self) -> Result<(), Error> {
        match self {
            Self::One(cluster) => cluster.start(),
            Self::Several(cluster) => cluster.revive(),
        }
    }

    /// What they are to others.
    pub(super) fn made(&self, service: &str, home: &Path) -> Made {
        let authority = fs::read_to_string(home.join("ca.crt")).ok();
        let tls = if authority.is_some() { NodeTls::VerifyFull } else { NodeTls::Disable };
        let (nodes, patroni) = match self {
            Self::One(cluster) => {
                let (address, sockets) = (cluster.address(), cluster.socket_dir().display());
                let address = match authority {
                    Some(_) => address.to_string(),
                    // A build without TLS is reached without a network.
                    None => format!("{sockets}:{}", cluster.port()),
                };
                (vec![MadeNode { id: service.to_owned(), address }], Vec::new())
            }
            // Standbys reach their primary by the loopback, also without TLS.
            Self::Several(cluster) => cluster
                .members()
                .iter()
                .map(|member| {
                    let (id, address) = (member.name().to_owned(), member.address().to_string());
                    (MadeNode { id, address }, format!("http://{}", member.rest_api()))
                })
                .unzip(),
        };
        Made { nodes, tls, authority, patroni }
    }

    /// The directory of the programs that they run on.
    pub(super) fn bin(order: &Order) -> Result<String, String> {
        let installation = installation(order.kind).map_err(text)?;
        Ok(installation.bin_dir().display().to_string())
    }
}

fn installation(kind: ServiceKind) -> Result<Installation, Error> {
    let installations = Installations::find()?;
    let found = match kind {
        ServiceKind::Postgresql => installations.postgresql(),
        ServiceKind::Vector => installations.vector(),
    };
    found.cloned()
}

fn one(home: &Path, installation: &Installation, order: &Order) -> Result<Cluster, String> {
    let mut builder = Cluster::builder(installation)
        .superuser(SUPERUSER)
        .password(order.superuser.expose())
        .max_connections(needed_connections(&order.plan, RESERVED))
        .setting("superuser_reserved_connections", RESERVED.to_string())
        .directory(home);
    let certified = certified(installation)?;
    if let Some(tls) = &certified {
        builder = builder.tls(&tls.certificate, tls.key.expose());
    }
    let cluster = builder.start().map_err(text)?;
    if let Some(tls) = certified {
        fs::write(home.join("ca.crt"), tls.authority).map_err(text)?;
    }
    Ok(cluster)
}

fn several(
    home: &Path,
    installation: Installation,
    order: &Order,
) -> Result<PatroniCluster, String> {
    let of_manager = order.of_manager.as_ref().ok_or("a password is missing in the catalogue")?;
    let connections = needed_connections(&order.plan, RESERVED) + OF_PATRONI;
    let settings = PatroniSettings {
        tls: certified(&installation)?,
        installation,
        name: order.service.clone(),
        nodes: order.plan.nodes,
        passwords: Passwords {
            superuser: order.superuser.clone(),
            replication: of_manager.replication.clone(),
            rest_api: Some(of_manager.rest_api.clone()),
            etcd: Some(of_manager.etcd.clone()),
        },
        timings: TIMINGS,
        synchronous: true,
        failsafe: true,
        durable: true,
        parameters: vec![
            ("max_connections".to_owned(), connections.to_string()),
            ("superuser_reserved_connections".to_owned(), RESERVED.to_string()),
        ],
    };
    PatroniCluster::create(&HaManager::find().map_err(text)?, home, &settings).map_err(text)
}

/// A certificate for this host, of an authority that is made for it, where the
/// servers can speak TLS.
fn certified(installation: &Installation) -> Result<Option<Certified>, String> {
    if !installation.has_tls() {
        return Ok(None);
    }
    let authority = Authority::new("Postern local server").map_err(text)?;
    let issued = authority.issue(&["127.0.0.1", "localhost"]).map_err(text)?;
    Ok(Some(Certified {
        authority: authority.certificate().to_owned(),
        certificate: issued.certificate,
        key: Secret::new(issued.key),
    }))
}

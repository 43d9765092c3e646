//! PostgreSQL servers on this host, one for each service with provider
//! `local`: made by `initdb`, started with Postern, started again when they
//! crash, stopped and removed with their services.
//!
//! ```text
//! <directory>/<service>/   data, run, log, as src/cluster makes them
//!                  made    says that initdb came to its end
//!                  ca.crt  the authority of the server's certificate
//! ```
//!
//! A directory without `made` is what a crash left in the middle: it is
//! removed, and the server made again. The servers end with Postern, however
//! it ends, and begin with it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::placement::needed_connections;
use crate::cluster::{Cluster, Error, Installation, Installations, StopMode};
use crate::control::catalog::record::ServiceKind;
use crate::disk;
use crate::domain::{NodeTls, Plan, Secret};
use crate::net::authority::Authority;

/// The superuser of the servers.
pub const SUPERUSER: &str = "postgres";

/// Connections that PostgreSQL keeps for superusers, unless told otherwise.
const RESERVED: u32 = 3;
/// How often a server is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two starts of a server that does not stay up.
const LONGEST_PAUSE: u32 = 32;

/// The path of a server's superuser's password.
#[must_use]
pub fn superuser_secret(service: &str) -> String {
    format!("services/{service}/superuser")
}

/// The servers on this host.
#[derive(Debug, Clone)]
pub struct LocalServers {
    directory: Arc<Path>,
    servers: Arc<Mutex<HashMap<String, Arc<Server>>>>,
}

/// A server that is made.
#[derive(Debug)]
struct Server {
    cluster: Cluster,
    powered: Mutex<bool>,
}

/// What a new server is to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where it is.
    pub address: String,
    /// How connections to it are encrypted.
    pub tls: NodeTls,
    /// The authority of its certificate, PEM.
    pub authority: Option<String>,
}

impl LocalServers {
    /// Servers in this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        // The servers work in a directory of their own.
        let absolute = std::path::absolute(directory);
        let directory = absolute.unwrap_or_else(|_| directory.to_owned());
        Self { directory: directory.into(), servers: Arc::default() }
    }

    /// Makes a server, or finds it made. Blocks until it takes connections.
    ///
    /// # Errors
    /// Why not; what was half made is removed the next time.
    pub fn make(
        &self,
        service: &str,
        kind: ServiceKind,
        plan: &Plan,
        password: &Secret<String>,
    ) -> Result<Made, String> {
        let installation = installation(kind).map_err(text)?;
        let home = self.home(service);
        if !is_made(&home) {
            self.forget(service);
            remove(&home)?;
            let cluster = make(&home, &installation, plan, password)?;
            let programs = installation.bin_dir().display().to_string();
            disk::replace(&home.join("made"), programs.as_bytes()).map_err(text)?;
            self.watch(service, cluster);
        } else if self.server(service).is_none() {
            self.open(service, 0)?;
        }
        let server = self.server(service).ok_or("the server went away")?;
        Ok(made(&server.cluster, &home))
    }

    /// Has a server run, or not.
    ///
    /// # Errors
    /// Why it does not.
    pub fn keep(&self, service: &str, address: &str, powered: bool) -> Result<(), String> {
        if let Some(server) = self.server(service) {
            *lock(&server.powered) = powered;
            let done =
                if powered { server.cluster.start() } else { server.cluster.stop(StopMode::Fast) };
            return done.map_err(text);
        }
        if !powered {
            return Ok(());
        }
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.open(service, port.unwrap_or(0))
    }

    /// Stops a server and removes all of it.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn remove(&self, service: &str) -> Result<(), String> {
        self.forget(service);
        remove(&self.home(service))
    }

    fn home(&self, service: &str) -> PathBuf {
        self.directory.join(service)
    }

    fn server(&self, service: &str) -> Option<Arc<Server>> {
        lock(&self.servers).get(service).cloned()
    }

    fn forget(&self, service: &str) {
        if let Some(server) = lock(&self.servers).remove(service) {
            *lock(&server.powered) = false;
            let stopped = server.cluster.stop(StopMode::Fast);
            if let Err(error) = stopped {
                tracing::warn!(service, %error, "a server does not stop");
            }
        }
    }

    /// A server that was made by an earlier process.
    fn open(&self, service: &str, port: u16) -> Result<(), String> {
        let home = self.home(service);
        let bin = fs::read_to_string(home.join("made")).map_err(text)?;
        let installation = Installation::at(Path::new(bin.trim())).map_err(text)?;
        let cluster = Cluster::builder(&installation).superuser(SUPERUSER).port(port);
        let cluster = cluster.directory(&home).open().map_err(text)?;
        self.watch(service, cluster);
        Ok(())
    }

    /// Starts the server again whenever it ends, until it is not to run.
    fn watch(&self, service: &str, cluster: Cluster) {
        let server = Arc::new(Server { cluster, powered: Mutex::new(true) });
        lock(&self.servers).insert(service.to_owned(), Arc::clone(&server));
        let service = service.to_owned();
        let watched = Arc::downgrade(&server);
        drop(server);
        thread::spawn(move || {
            let mut failures = 0;
            loop {
                thread::sleep(LOOK_EVERY * 2_u32.pow(failures).min(LONGEST_PAUSE));
                let Some(server) = watched.upgrade() else {
                    return;
                };
                let powered = *lock(&server.powered);
                if !powered || server.cluster.pid().is_some() {
                    failures = 0;
                    continue;
                }
                tracing::warn!(service, "a server of this host has ended: starting it again");
                match server.cluster.start() {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures = (failures + 1).min(5);
                        tracing::error!(service, %error, "a server of this host does not start");
                    }
                }
            }
        });
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

fn make(
    home: &Path,
    installation: &Installation,
    plan: &Plan,
    password: &Secret<String>,
) -> Result<Cluster, String> {
    let mut builder = Cluster::builder(installation)
        .superuser(SUPERUSER)
        .password(password.expose())
        .max_connections(needed_connections(plan, RESERVED))
        .setting("superuser_reserved_connections", RESERVED.to_string())
        .directory(home);
    let mut ca = None;
    if installation.has_tls() {
        let authority = Authority::new("Postern local server").map_err(text)?;
        let issued = authority.issue(&["127.0.0.1", "localhost"]).map_err(text)?;
        builder = builder.tls(issued.certificate, issued.key);
        ca = Some(authority.certificate().to_owned());
    }
    let cluster = builder.start().map_err(text)?;
    if let Some(ca) = ca {
        fs::write(home.join("ca.crt"), ca).map_err(text)?;
    }
    Ok(cluster)
}

fn made(cluster: &Cluster, home: &Path) -> Made {
    match fs::read_to_string(home.join("ca.crt")) {
        Ok(authority) => Made {
            address: cluster.address().to_string(),
            tls: NodeTls::VerifyFull,
            authority: Some(authority),
        },
        // A build without TLS is reached without a network.
        Err(_) => Made {
            address: format!("{}:{}", cluster.socket_dir().display(), cluster.port()),
            tls: NodeTls::Disable,
            authority: None,
        },
    }
}

fn is_made(home: &Path) -> bool {
    home.join("made").is_file()
}

fn remove(home: &Path) -> Result<(), String> {
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", home.display()))
        }
        _ => Ok(()),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

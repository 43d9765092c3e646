//! PostgreSQL servers on this host for each service with provider `local`: made
//! by `initdb`, started with Postern, started again when they crash, stopped and
//! removed with their services. A plan of one node has a server; one with
//! standbys has Patroni, which promotes, and its etcd (`src/cluster/patroni.rs`).
//!
//! ```text
//! <directory>/<service>/   what src/cluster makes
//!                  lock    locked while anything of them runs
//!                  made    says that making them came to its end
//!                  ca.crt  the authority of the servers' certificate
//! ```
//!
//! A directory without `made` is what a crash left in the middle: it is
//! removed, and the servers made again. They end with Postern, however it ends,
//! and begin with it.

mod server;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::cluster;
use crate::control::catalog::record::{ServiceKind, ServiceRecord};
use crate::disk;
use crate::domain::{NodeTls, Plan, Secret};
use server::Servers;

/// The superuser of the servers.
pub const SUPERUSER: &str = server::SUPERUSER;

/// Who gives orders to Patroni.
pub const PATRONI_USER: &str = crate::cluster::PATRONI_USER;

/// How often servers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two starts of a server that does not stay up.
const LONGEST_PAUSE: u32 = 32;

/// The path of the servers' superuser's password.
#[must_use]
pub fn superuser_secret(service: &str) -> String {
    format!("services/{service}/superuser")
}

/// The path of the standbys' password.
#[must_use]
pub fn replication_secret(service: &str) -> String {
    format!("services/{service}/replication")
}

/// The path of Patroni's password in etcd.
#[must_use]
pub fn etcd_secret(service: &str) -> String {
    format!("services/{service}/etcd")
}

/// The paths of all that is sealed for servers of this host.
#[must_use]
pub fn secrets(service: &ServiceRecord) -> [String; 4] {
    let name = &service.name;
    [superuser_secret(name), replication_secret(name), etcd_secret(name), service.patroni_secret()]
}

/// The servers on this host.
#[derive(Debug, Clone)]
pub struct LocalServers {
    directory: Arc<Path>,
    services: Arc<Mutex<HashMap<String, Arc<Service>>>>,
}

/// A service whose servers are made.
#[derive(Debug)]
struct Service {
    servers: Servers,
    powered: Mutex<bool>,
}

/// What servers are to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose they are.
    pub service: String,
    /// What they offer.
    pub kind: ServiceKind,
    /// How many they are, and how many connections they take.
    pub plan: Plan,
    /// The superuser's password.
    pub superuser: Secret<String>,
    /// For a plan with standbys.
    pub of_manager: Option<ManagerPasswords>,
}

/// What keeps several servers together by proving itself.
#[derive(Debug, Clone)]
pub struct ManagerPasswords {
    /// The standbys', for their primary.
    pub replication: Secret<String>,
    /// Postern's, for orders to Patroni.
    pub rest_api: Secret<String>,
    /// Patroni's, in etcd.
    pub etcd: Secret<String>,
}

/// What new servers are to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Each of them.
    pub nodes: Vec<MadeNode>,
    /// How connections to them are encrypted.
    pub tls: NodeTls,
    /// The authority of their certificate, PEM.
    pub authority: Option<String>,
    /// The REST APIs of their Patroni, if they have one.
    pub patroni: Vec<String>,
}

/// A new server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeNode {
    /// What it is called, also by Patroni.
    pub id: String,
    /// Where it is.
    pub address: String,
}

impl LocalServers {
    /// Servers in this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        // The servers work in a directory of their own.
        let absolute = std::path::absolute(directory);
        let directory = absolute.unwrap_or_else(|_| directory.to_owned());
        Self { directory: directory.into(), services: Arc::default() }
    }

    /// Whether servers of this kind and number can be made on this host.
    ///
    /// # Errors
    /// What is missing, and the packages that have it. Blocks.
    pub fn check(kind: ServiceKind, nodes: u32) -> Result<(), String> {
        Servers::check(kind, nodes).map_err(text)
    }

    /// Makes servers, or finds them made. Blocks until they take connections.
    ///
    /// # Errors
    /// Why not; what was half made is removed the next time.
    pub fn make(&self, order: &Order) -> Result<Made, String> {
        let name = &order.service;
        let home = self.home(name);
        if !is_made(&home) {
            self.remove(name)?;
            let servers = Servers::make(&home, order)?;
            disk::replace(&home.join("made"), Servers::bin(order)?.as_bytes()).map_err(text)?;
            self.watch(name, servers);
        } else if self.service(name).is_none() {
            self.open(name, 0)?;
        }
        let service = self.service(name).ok_or("the servers went away")?;
        Ok(service.servers.made(name, &home))
    }

    /// Has a service's servers run, or not.
    ///
    /// # Errors
    /// Why they do not.
    pub fn keep(&self, name: &str, address: &str, powered: bool) -> Result<(), String> {
        if let Some(service) = self.service(name) {
            *lock(&service.powered) = powered;
            let done = if powered { service.servers.start() } else { service.servers.stop() };
            return done.map_err(text);
        }
        if !powered {
            return Ok(());
        }
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.open(name, port.unwrap_or(0))
    }

    /// Stops a service's servers and removes all of them.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        self.forget(name);
        let home = self.home(name);
        cluster::wait_until_unused(&home).map_err(text)?;
        remove(&home)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn service(&self, name: &str) -> Option<Arc<Service>> {
        lock(&self.services).get(name).cloned()
    }

    fn forget(&self, name: &str) {
        let service = lock(&self.services).remove(name);
        if let Some(service) = service {
            *lock(&service.powered) = false;
            if let Err(error) = service.servers.stop() {
                tracing::warn!(service = name, %error, "a server does not stop");
            }
        }
    }

    /// Servers that were made by an earlier process.
    fn open(&self, name: &str, port: u16) -> Result<(), String> {
        let home = self.home(name);
        let bin = fs::read_to_string(home.join("made")).map_err(text)?;
        let servers = Servers::open(&home, Path::new(bin.trim()), port).map_err(text)?;
        self.watch(name, servers);
        Ok(())
    }

    /// Starts again whatever ends, until it is not to run.
    fn watch(&self, name: &str, servers: Servers) {
        let service = Arc::new(Service { servers, powered: Mutex::new(true) });
        lock(&self.services).insert(name.to_owned(), Arc::clone(&service));
        let name = name.to_owned();
        let watched = Arc::downgrade(&service);
        drop(service);
        thread::spawn(move || {
            let mut failures = 0;
            loop {
                thread::sleep(LOOK_EVERY * 2_u32.pow(failures).min(LONGEST_PAUSE));
                let Some(service) = watched.upgrade() else {
                    return;
                };
                let powered = *lock(&service.powered);
                let Some(died) = service.servers.died().filter(|_| powered) else {
                    failures = 0;
                    continue;
                };
                tracing::warn!(
                    service = name,
                    died,
                    "a server of this host has ended: starting it again"
                );
                match service.servers.revive() {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures = (failures + 1).min(5);
                        tracing::error!(service = name, %error, "a server of this host does not start");
                    }
                }
            }
        });
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

//! Brings what is declared to the data path: the configuration file, read
//! again on SIGHUP or over the admin socket, and the catalogue, service by
//! service as they change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::app::reload;
use crate::control::admin::ReloadReport;
use crate::control::catalog::{Catalog, declared};
use crate::control::config::{self, Canary, Plans, Settings};
use crate::control::management::Management;
use crate::directory::{Service, Snapshot};
use crate::domain::ServiceName;
use crate::session::FrontDoor;

/// Holds the settings in force.
pub struct Reloader {
    /// Those of the start, which some keys keep until a restart; without the
    /// services, which keep nothing.
    started: Settings,
    in_force: Mutex<InForce>,
    path: Option<PathBuf>,
    door: Arc<FrontDoor>,
    management: Arc<Management>,
    catalog: Option<Catalog>,
    /// One reload or publication at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What a reload replaces and somebody else wants to know.
#[derive(Clone)]
struct InForce {
    drain_timeout: Duration,
    plans: Arc<Plans>,
    /// Of the file's services.
    canaries: Arc<HashMap<ServiceName, Canary>>,
}

impl InForce {
    fn of(settings: &Settings) -> Self {
        let plans = Arc::new(settings.plans.clone());
        let canary =
            |service: &config::Service| Some((service.name.clone(), service.canary.clone()?));
        let canaries = Arc::new(settings.services.iter().filter_map(canary).collect());
        Self { drain_timeout: settings.timeouts.drain, plans, canaries }
    }
}

impl Reloader {
    pub(super) fn new(
        settings: &Settings,
        path: Option<&Path>,
        door: Arc<FrontDoor>,
        management: Arc<Management>,
        catalog: Option<Catalog>,
    ) -> Self {
        Self {
            started: Settings { services: Vec::new(), ..settings.clone() },
            in_force: Mutex::new(InForce::of(settings)),
            path: path.map(Path::to_owned),
            door,
            management,
            catalog,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How long a drain lasts.
    pub fn drain_timeout(&self) -> Duration {
        self.in_force().drain_timeout
    }

    /// The plans that services can be on.
    pub fn plans(&self) -> Arc<Plans> {
        Arc::clone(&self.in_force().plans)
    }

    /// Whom drills of a service write as, if anybody.
    ///
    /// # Errors
    /// Why the catalogue cannot be asked.
    pub fn canary(&self, service: &ServiceName) -> Result<Option<Canary>, String> {
        let of_file = self.in_force().canaries.get(service).cloned();
        match (of_file, &self.catalog) {
            (None, Some(catalog)) => {
                let found = declared::canary(catalog, service.as_str());
                found.map_err(|error| error.to_string())
            }
            (of_file, _) => Ok(of_file),
        }
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file and applies it, whole or not at all.
    ///
    /// # Errors
    /// Every problem.
    pub async fn reload(self: &Arc<Self>) -> Result<ReloadReport, Vec<String>> {
        let _turn = self.turn.lock().await;
        let reloader = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || reloader.read_and_apply()).await;
        let done = done.unwrap_or_else(|error| Err(vec![error.to_string()]));
        match &done {
            Ok(report) => tracing::info!(
                added = ?report.added, changed = ?report.changed, removed = ?report.removed,
                restart_needed = ?report.restart_needed,
                "configuration reloaded"
            ),
            Err(problems) => {
                for problem in problems {
                    tracing::error!(problem, "configuration not reloaded");
                }
            }
        }
        done
    }

    fn read_and_apply(&self) -> Result<ReloadReport, Vec<String>> {
        let Some(path) = &self.path else {
            return Err(vec!["there is no file to reload".into()]);
        };
        let settings = config::load(path)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let settings = declared::with_catalog(settings, self.catalog.as_ref())?;
        let policy = reload::policy(&settings).map_err(|error| vec![error.to_string()])?;
        let before = self.door.directory.current();
        let next = reload::snapshot(&settings).map_err(|error| vec![error.to_string()])?;
        self.door.policy.store(Arc::new(policy));
        self.door.closer.set_close_timeout(settings.timeouts.server_close);
        self.management.update((&settings).into());
        self.door.directory.publish(|_| self.completed(next));
        *self.in_force() = InForce::of(&settings);
        self.tell_the_slots();
        let sent_away = reload::send_away_unwanted(&self.door.directory, &self.door.roster);
        if sent_away > 0 {
            tracing::info!(sessions = sent_away, "ended sessions that are no longer permitted");
        }
        let mut report = reload::difference(&before, &self.door.directory.current());
        report.restart_needed =
            self.started.restart_needed(&settings).into_iter().map(str::to_owned).collect();
        report.warnings = settings.warnings.iter().map(ToString::to_string).collect();
        Ok(report)
    }

    /// Brings one service to the data path as the catalogue has it now, or
    /// takes it away. When this returns, live traffic obeys it. Returns how
    /// many sessions were told to leave.
    ///
    /// # Errors
    /// Why it cannot be declared; the data path goes on with what it had.
    pub async fn publish(self: &Arc<Self>, name: ServiceName) -> Result<usize, String> {
        let _turn = self.turn.lock().await;
        let reloader = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || reloader.publish_service(&name)).await;
        done.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn publish_service(&self, name: &ServiceName) -> Result<usize, String> {
        let catalog = self.catalog.as_ref().ok_or("there is no catalogue")?;
        let declared = declared::service(catalog, &self.plans(), name.as_str())?;
        if let Some(declared) = declared {
            let service = reload::service(&declared).map_err(|error| error.to_string())?;
            self.management.update_service(name, Some(&declared));
            self.door.directory.publish(|snapshot| {
                let mut next = Snapshot::clone(snapshot);
                let service = self.management.completed(service);
                next.services.insert(name.clone(), Arc::new(service));
                next
            });
        } else {
            self.door.directory.publish(|snapshot| {
                let mut next = Snapshot::clone(snapshot);
                next.services.remove(name);
                next
            });
            self.management.update_service(name, None);
        }
        self.tell_the_slots_of(name);
        Ok(reload::send_away_unwanted_of(&self.door.directory, &self.door.roster, name))
    }

    /// As [`Self::tell_the_slots`], of one service among thousands.
    fn tell_the_slots_of(&self, name: &ServiceName) {
        let service = self.door.directory.service(name);
        let nodes = service.as_ref().map(|service| service.nodes.as_slice()).unwrap_or_default();
        for node in nodes {
            self.door.slots.set_limits(node);
        }
        self.door.slots.retain(|service, address| {
            service != name || nodes.iter().any(|node| node.address == *address)
        });
    }

    /// The snapshot with what the watchers have seen of its nodes.
    fn completed(&self, snapshot: Snapshot) -> Snapshot {
        let services = snapshot.services.iter().map(|(name, service)| {
            let completed = self.management.completed(Service::clone(service));
            (name.clone(), Arc::new(completed))
        });
        Snapshot { services: services.collect(), routing: snapshot.routing }
    }

    /// Tells the ledgers of changed plans, and forgets nodes that are gone.
    fn tell_the_slots(&self) {
        let snapshot = self.door.directory.current();
        for node in snapshot.services.values().flat_map(|service| &service.nodes) {
            self.door.slots.set_limits(node);
        }
        self.door.slots.retain(|service, address| {
            let service = snapshot.services.get(service);
            service.is_some_and(|service| service.nodes.iter().any(|n| n.address == *address))
        });
    }
}

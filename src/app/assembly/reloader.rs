//! Reads the configuration again, on SIGHUP or over the admin socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::app::reload;
use crate::control::admin::ReloadReport;
use crate::control::config::{self, Settings};
use crate::control::management::Management;
use crate::directory::Snapshot;
use crate::session::FrontDoor;

/// Holds the settings in force.
pub struct Reloader {
    /// Those of the start, which some keys keep until a restart.
    started: Settings,
    drain_timeout: Mutex<Duration>,
    path: Option<PathBuf>,
    door: Arc<FrontDoor>,
    management: Arc<Management>,
    /// One reload at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        settings: &Settings,
        path: Option<&Path>,
        door: Arc<FrontDoor>,
        management: Arc<Management>,
    ) -> Self {
        Self {
            started: settings.clone(),
            drain_timeout: Mutex::new(settings.timeouts.drain),
            path: path.map(Path::to_owned),
            door,
            management,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How long a drain lasts.
    pub fn drain_timeout(&self) -> Duration {
        *self.drain_timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file and applies it, whole or not at all.
    ///
    /// # Errors
    /// Every problem.
    pub async fn reload(&self) -> Result<ReloadReport, Vec<String>> {
        let _turn = self.turn.lock().await;
        let done = self.read_and_apply();
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
        let policy = reload::policy(&settings).map_err(|error| vec![error.to_string()])?;
        let before = self.door.directory.current();
        let next = reload::snapshot(&settings).map_err(|error| vec![error.to_string()])?;
        self.door.policy.store(Arc::new(policy));
        self.door.closer.set_close_timeout(settings.timeouts.server_close);
        self.management.update((&settings).into());
        self.door.directory.publish(|_| self.completed(next));
        *self.drain_timeout.lock().unwrap_or_else(PoisonError::into_inner) =
            settings.timeouts.drain;
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

    /// The snapshot with what the watchers have seen of its nodes.
    fn completed(&self, snapshot: Snapshot) -> Snapshot {
        let services = snapshot.services.into_iter().map(|(name, service)| {
            let service = Arc::unwrap_or_clone(service);
            (name, Arc::new(self.management.completed(service)))
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

//! Puts the data path and the control plane together, and takes them apart in
//! order.
//!
//! ```text
//! control runtime: configuration, watch, management, admin, metrics, clock
//!         │ writes                                   ▲ looks
//!         ▼                                          │
//!     Directory, Policy ◀── reads ── data runtime: listeners, sessions
//! ```

mod catalog;
mod data_path;
mod descriptors;
mod drain;
mod observation;
mod platform;
mod reloader;
mod runtimes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Failure;
use crate::control::admin::ReloadReport;
use crate::control::catalog::declared;
use crate::control::config::Settings;
use crate::control::exposition::Readiness;
use crate::session::FrontDoor;
use crate::shutdown::Phase;

pub use reloader::Reloader;
pub use runtimes::Runtimes;

/// How long the stop waits for servers to let go of the last connections.
const SERVERS_WITHIN: Duration = Duration::from_secs(5);

/// A running Postern.
pub struct Postern {
    door: Arc<FrontDoor>,
    reloader: Arc<Reloader>,
    tasks: Vec<JoinHandle<()>>,
}

impl Postern {
    /// Starts with these settings; `config` is the file that a reload reads.
    ///
    /// # Errors
    /// If a certificate or a secret cannot be read, or a listener cannot be
    /// bound; nothing is left running then.
    pub fn start(
        settings: &Settings,
        config: Option<&Path>,
        runtimes: &Runtimes,
    ) -> Result<Self, Failure> {
        let descriptors = descriptors::raise_limit(settings.limits.max_clients);
        let catalog = catalog::open(settings)?;
        let settings = &declared::with_catalog(settings.clone(), catalog.as_ref())
            .map_err(|problems| Failure::new(problems.join("\n")))?;
        let (door, management) = data_path::assemble(settings, descriptors, runtimes)?;
        if let Some(catalog) = &catalog {
            catalog::restore_rotations(catalog, &management)?;
        }
        let readiness = Readiness::new(door.shutdown.clone());
        readiness.directory_published();
        let reloader =
            Reloader::new(settings, config, Arc::clone(&door), management.clone(), catalog.clone());
        let reloader = Arc::new(reloader);
        let mut tasks = observation::serve(
            settings,
            &door,
            &management,
            &readiness,
            &reloader,
            catalog.as_ref(),
            runtimes,
        )?;
        tasks.extend(data_path::listen(settings, &door, runtimes)?);
        readiness.listeners_bound();
        Ok(Self { door, reloader, tasks })
    }

    /// What the sessions see.
    #[must_use]
    pub fn door(&self) -> &FrontDoor {
        &self.door
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Every problem; nothing has changed then.
    pub async fn reload(&self) -> Result<ReloadReport, Vec<String>> {
        self.reloader.reload().await
    }

    /// Takes no new clients, sends idle ones away and gives busy ones until
    /// `drain_timeout`. Also returns when somebody else's drain is over.
    pub async fn drain(&self) {
        let deadline = Instant::now() + self.reloader.drain_timeout();
        drain::drain(&self.door, deadline).await;
    }

    /// Waits until a drain that was asked for over the admin socket begins.
    pub async fn drain_requested(&self) {
        self.door.shutdown.reached(Phase::Draining).await;
    }

    /// Ends everything: the sessions that are left, the listeners, the rest.
    pub async fn stop(self) {
        drain::leave(&self.door).await;
        self.door.shutdown.advance(Phase::Stopping);
        drain::wait_for_servers(&self.door, SERVERS_WITHIN).await;
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        tracing::info!("stopped");
    }
}

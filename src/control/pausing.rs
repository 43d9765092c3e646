//! The one switch with which a service's clients are held, whoever turns it:
//! the admin socket or the API.
//!
//! It is the Directory's; of a service of the catalogue it is written down
//! first, so that a service that is paused stays so over a restart. A
//! switchover turns the Directory's alone, and turns it back.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::catalog::record::ServiceRecord;
use super::catalog::store::Expect;
use super::catalog::{Audit, Catalog, CatalogError};
use crate::directory::Directory;
use crate::domain::ServiceName;

/// The switch of every service; clones turn the same ones.
#[derive(Debug, Clone)]
pub struct Pauses {
    directory: Arc<Directory>,
    catalog: Option<Catalog>,
    /// One turn at a time: what is written down last is what holds.
    turn: Arc<Mutex<()>>,
}

impl Pauses {
    /// The switches of the services here; those of the catalogue are written
    /// down there.
    #[must_use]
    pub fn new(directory: Arc<Directory>, catalog: Option<Catalog>) -> Self {
        Self { directory, catalog, turn: Arc::default() }
    }

    /// Holds a service's new transactions and logins from now on, or no longer.
    ///
    /// # Errors
    /// That it could not be written down: nothing has changed then.
    pub async fn set(
        &self,
        service: &ServiceName,
        paused: bool,
        actor: &str,
    ) -> Result<(), CatalogError> {
        let _turn = self.turn.lock().await;
        if let Some(catalog) = self.catalog.clone() {
            let (name, actor) = (service.clone(), actor.to_owned());
            let written = spawn_blocking(move || write(&catalog, &name, paused, actor)).await;
            written.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        }
        self.directory.set_paused(service, paused);
        Ok(())
    }
}

fn write(
    catalog: &Catalog,
    name: &ServiceName,
    paused: bool,
    actor: String,
) -> Result<(), CatalogError> {
    let Some(found) = catalog.get::<ServiceRecord>(name.as_str())? else { return Ok(()) };
    let record = ServiceRecord { paused, ..found.record };
    let (kind, message) = if paused {
        ("paused", "Nothing new begins until it is resumed.")
    } else {
        ("resumed", "It goes on.")
    };
    let action = format!("service.{kind}");
    let audit = Audit { actor, action, detail: serde_json::Value::Null };
    let change = catalog.change().put(&record, Expect::Version(found.version));
    let change = change.audit(&format!("services/{name}"), &audit);
    change.event(&record.name, kind, message).commit().map(drop)
}

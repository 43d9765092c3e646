//! Puts what was seen of the nodes into the Directory, and only what is new.

use std::sync::{Arc, Mutex, PoisonError};

use crate::directory::{Directory, Service, Snapshot};
use crate::domain::ServiceName;

/// The way into the Directory for all watches of a process.
#[derive(Debug)]
pub(super) struct Publisher {
    directory: Arc<Directory>,
    /// The watches run as many tasks; they publish one after the other.
    turn: Mutex<()>,
}

impl Publisher {
    /// Publishes in this directory.
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, turn: Mutex::new(()) }
    }

    /// Where is published.
    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Replaces a service by what `change` makes of it, unless that is
    /// nothing. Everything else in the snapshot stays.
    pub(super) fn publish(&self, name: &ServiceName, change: impl Fn(&Service) -> Option<Service>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = self.directory.service(name) else {
            return;
        };
        if change(&service).is_none() {
            return;
        }
        // Somebody else may have published meanwhile: the change is made to
        // what is current then.
        self.directory.publish(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            if let Some(service) = next.services.get_mut(name)
                && let Some(changed) = change(service)
            {
                *service = Arc::new(changed);
            }
            next
        });
    }
}

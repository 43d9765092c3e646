//! The newest primary of each service, in a file: after a restart an older one
//! that happens to be the only one up is not taken for the primary (decision
//! 30).
//!
//! A reign is on the disk before it is published. A file that cannot be
//! written does not stop a failover: the log says so, and that a restart would
//! not remember.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::domain::{Epoch, NodeAddress, ServiceName};
use crate::routing::topology::Reign;

/// The version of the file's form.
const VERSION: u32 = 1;

/// The reigns of all services, those of services that are not declared at the
/// moment included.
#[derive(Debug, Default)]
pub struct Reigns {
    /// None: nothing is kept.
    path: Option<PathBuf>,
    known: Mutex<BTreeMap<String, Written>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<S> {
    version: u32,
    services: S,
}

/// A reign as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    generation: u64,
    timeline: u32,
    sequence: u64,
    node: Option<String>,
    system_identifier: Option<u64>,
}

impl Reigns {
    /// Reads the file; a missing one is made, so that a place that cannot be
    /// written to is found at the start.
    ///
    /// # Errors
    /// As the system; `InvalidData` for a file that was not written by this.
    pub fn open(path: &Path) -> io::Result<Self> {
        let known = match fs::read_to_string(path) {
            Ok(text) => read(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        write(path, &known)?;
        Ok(Self { path: Some(path.to_owned()), known: Mutex::new(known) })
    }

    /// The reign of a service; none was ever recorded: the default.
    pub(super) fn of(&self, service: &ServiceName) -> Reign {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(service.as_str()).map(Written::reign).unwrap_or_default()
    }

    /// Keeps a service's reign. Returns when it is on the disk.
    pub(super) fn record(&self, service: &ServiceName, reign: &Reign) {
        self.change(|known| {
            let written = Written::from(reign);
            known.get(service.as_str()) != Some(&written) && {
                known.insert(service.to_string(), written);
                true
            }
        });
    }

    /// Forgets a service that was taken away: another may get its name.
    pub(super) fn forget(&self, service: &ServiceName) {
        self.change(|known| known.remove(service.as_str()).is_some());
    }

    /// Writes the file if the change says that there is one.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Written>) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut known);
        let Some(path) = self.path.as_ref().filter(|_| changed) else {
            return;
        };
        if let Err(error) = write(path, &known) {
            tracing::error!(
                path = %path.display(), %error,
                "topology.state_file cannot be written: after a restart an older primary could be taken for the current one"
            );
        }
    }
}

fn read(text: &str) -> io::Result<BTreeMap<String, Written>> {
    let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let document: Document<BTreeMap<String, Written>> =
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if document.version != VERSION {
        return Err(damaged(format!("version {} of the file is not known", document.version)));
    }
    let unreadable = |written: &Written| written.node.is_some() && written.holder().is_none();
    match document.services.iter().find(|(_, written)| unreadable(written)) {
        Some((name, _)) => Err(damaged(format!("the node of {name} is no node address"))),
        None => Ok(document.services),
    }
}

fn write(path: &Path, known: &BTreeMap<String, Written>) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&Document { version: VERSION, services: known })?;
    disk::replace(path, text.as_bytes())
}

impl Written {
    fn reign(&self) -> Reign {
        let Self { generation, timeline, sequence, system_identifier, .. } = *self;
        let epoch = Epoch { generation, timeline, sequence };
        Reign { epoch, holder: self.holder(), system: system_identifier }
    }

    fn holder(&self) -> Option<NodeAddress> {
        self.node.as_ref()?.parse().ok()
    }
}

impl From<&Reign> for Written {
    fn from(reign: &Reign) -> Self {
        let Epoch { generation, timeline, sequence } = reign.epoch;
        let node = reign.holder.as_ref().map(ToString::to_string);
        Self { generation, timeline, sequence, node, system_identifier: reign.system }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_survives_a_restart_and_a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/topology.json");
        let orders: ServiceName = "orders".parse().unwrap();
        let reigns = Reigns::open(&path).unwrap();
        assert_eq!(reigns.of(&orders), Reign::default());
        let reign = Reign {
            epoch: Epoch { generation: 1, timeline: 2, sequence: 3 },
            holder: Some("[::1]:5432".parse().unwrap()),
            system: Some(u64::MAX),
        };
        reigns.record(&orders, &reign);
        assert_eq!(Reigns::open(&path).unwrap().of(&orders), reign);
        reigns.forget(&orders);
        assert_eq!(Reigns::open(&path).unwrap().of(&orders), Reign::default());
        reigns.record(&orders, &reign);
        let text = fs::read_to_string(&path).unwrap();
        let damages = [
            text[..text.len() / 2].to_owned(),
            text.replace("[::1]:5432", "nowhere"),
            text.replace("\"version\": 1", "\"version\": 2"),
            text.replace("\"timeline\"", "\"time\""),
        ];
        for damaged in damages {
            assert_ne!(damaged, text);
            fs::write(&path, &damaged).unwrap();
            let error = Reigns::open(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
    }
}

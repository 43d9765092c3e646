//! The catalogue: the services that were created over the admin API, the
//! inventory of nodes, tokens, and who changed what.
//!
//! ```text
//! admin API, provisioning ──▶ Catalog ─ records ─▶ Store (one SQLite file)
//!                                │
//!                                └─ secrets ─▶ Keyring ─ sealed ─▶ Store
//! ```
//!
//! What must stay true: what was acknowledged is on disk; a change counts only
//! if its author had read what he changes; nothing secret is on disk but
//! sealed; a wrong key or a damaged file is an error at the start, and never
//! an empty catalogue. The calls block.

pub mod declared;
pub mod keyring;
pub mod record;
pub mod rotations;
pub mod sqlite;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::domain::Secret;
use keyring::{KeyError, Keyring};
pub use record::Record;
use sqlite::SqliteStore;
use store::{
    Append, Collection, Commit, Expect, Key, Line, Lines, Log, Range, Revision, Store, StoreError,
    Write,
};

/// The environment variable that may hold the keys in place of a file.
pub const KEY_VARIABLE: &str = "POSTERN_CATALOG_KEY";

/// Seals the first secret of a catalogue, by which a wrong key is noticed.
const KEY_CHECK: &str = "key-check";
const KEY_CHECK_TEXT: &str = "postern";

/// Where the catalogue is, and where its keys are.
#[derive(Debug, Clone)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// The file of its keys, made with a new catalogue.
    pub key_file: PathBuf,
}

/// The catalogue.
#[derive(Debug, Clone)]
pub struct Catalog {
    store: Arc<dyn Store>,
    keys: Arc<Keyring>,
}

/// A record and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// What an `If-Match` is compared with.
    pub version: Revision,
    /// What it says.
    pub record: T,
}

/// Why the catalogue cannot be used, or did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An entry says something that this version does not know.
    #[error("{key} cannot be read: {why}")]
    Unreadable {
        /// Which.
        key: Key,
        /// Why not.
        why: String,
    },
}

impl CatalogError {
    /// Whether somebody else came before.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict(_)))
    }
}

/// Who did what was ordered over the admin socket.
pub const BY_SOCKET: &str = "socket";

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Audit {
    /// Who: the id of a token, or [`BY_SOCKET`].
    pub actor: String,
    /// What he did: `service.create`.
    pub action: String,
    /// The fields he gave, secrets left out.
    pub detail: serde_json::Value,
}

impl Audit {
    /// The same once more, with why it was not done.
    #[must_use]
    pub fn failed(&self, why: impl std::fmt::Display) -> Self {
        let mut failed = self.clone();
        failed.detail["failed"] = why.to_string().into();
        failed
    }
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// In one word: `running`.
    pub kind: String,
    /// In a sentence.
    pub message: String,
}

impl Catalog {
    /// Opens the catalogue in a file, makes it if there is none, and seals
    /// anew what was sealed with an older key.
    ///
    /// # Errors
    /// [`CatalogError`], with the file's and the key's names in the caller's
    /// hands.
    pub fn open(location: &Location) -> Result<Self, CatalogError> {
        let is_new = !location.path.exists();
        let keys = keys(&location.key_file, is_new)?;
        let catalog = Self { store: Arc::new(SqliteStore::open(&location.path)?), keys };
        catalog.check_key()?;
        let resealed = catalog.seal_anew()?;
        if resealed > 0 {
            tracing::info!(
                secrets = resealed,
                "the catalogue's secrets were sealed with the new key; the older ones can go"
            );
        }
        Ok(catalog)
    }

    fn check_key(&self) -> Result<(), CatalogError> {
        let key = Key::new(Collection::Meta, KEY_CHECK);
        if let Some(entry) = self.store.get(&key)? {
            Ok(self.keys.open(KEY_CHECK, &entry.value).map(drop)?)
        } else {
            let value = Some(self.keys.seal(KEY_CHECK, KEY_CHECK_TEXT));
            let write = Write { key, expect: Expect::Absent, value };
            self.store.commit(&Commit { writes: vec![write], appends: Vec::new() })?;
            Ok(())
        }
    }

    /// Returns how many secrets were sealed with an older key.
    fn seal_anew(&self) -> Result<usize, CatalogError> {
        let mut writes = Vec::new();
        for collection in [Collection::Meta, Collection::Secrets] {
            for entry in self.store.list(collection, Range::ALL)? {
                if self.keys.is_old(&entry.value) {
                    let secret = self.keys.open(&entry.name, &entry.value)?;
                    let value = Some(self.keys.seal(&entry.name, secret.expose()));
                    let expect = Expect::Version(entry.version);
                    writes.push(Write { key: Key::new(collection, entry.name), expect, value });
                }
            }
        }
        let count = writes.len();
        if count > 0 {
            self.store.commit(&Commit { writes, appends: Vec::new() })?;
        }
        Ok(count)
    }

    /// The record of this name.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn get<T: Record>(&self, name: &str) -> Result<Option<Versioned<T>>, CatalogError> {
        let entry = self.store.get(&Key::new(T::COLLECTION, name))?;
        entry.as_ref().map(read).transpose()
    }

    /// Records in the order of their names.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn list<T: Record>(&self, range: Range<'_>) -> Result<Vec<Versioned<T>>, CatalogError> {
        let entries = self.store.list(T::COLLECTION, range)?;
        entries.iter().map(read).collect()
    }

    /// The secret at this path.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn secret(&self, path: &str) -> Result<Option<Secret<String>>, CatalogError> {
        let entry = self.store.get(&Key::new(Collection::Secrets, path))?;
        Ok(entry.map(|entry| self.keys.open(path, &entry.value)).transpose()?)
    }

    /// All secrets, by path: for whoever needs thousands of them.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn secrets(
        &self,
    ) -> Result<std::collections::HashMap<String, Secret<String>>, CatalogError> {
        let entries = self.store.list(Collection::Secrets, Range::ALL)?.into_iter();
        let opened = entries.map(|entry| {
            let secret = self.keys.open(&entry.name, &entry.value)?;
            Ok((entry.name, secret))
        });
        opened.collect()
    }

    /// Lines of a log, newest first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn lines(&self, lines: Lines<'_>) -> Result<Vec<Line>, CatalogError> {
        Ok(self.store.lines(lines)?)
    }

    /// Begins a change.
    pub fn change(&self) -> Change<'_> {
        Change { catalog: self, commit: Commit::default(), at: now() }
    }

    /// Follows the changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.store.watch()
    }
}

/// A change in the making: nothing happens before [`Change::commit`].
#[derive(Debug)]
#[must_use = "nothing is changed before commit()"]
pub struct Change<'a> {
    catalog: &'a Catalog,
    commit: Commit,
    at: String,
}

impl Change<'_> {
    /// Writes a record.
    pub fn put<T: Record>(mut self, record: &T, expect: Expect) -> Self {
        let key = Key::new(T::COLLECTION, record.name());
        let value = Some(json(record).into_bytes());
        self.commit.writes.push(Write { key, expect, value });
        self
    }

    /// Removes a record.
    pub fn remove<T: Record>(mut self, record: &T, expect: Expect) -> Self {
        let key = Key::new(T::COLLECTION, record.name());
        self.commit.writes.push(Write { key, expect, value: None });
        self
    }

    /// Seals a secret at a path.
    pub fn seal(mut self, path: &str, secret: &Secret<String>) -> Self {
        let value = Some(self.catalog.keys.seal(path, secret.expose()));
        let key = Key::new(Collection::Secrets, path);
        self.commit.writes.push(Write { key, expect: Expect::Any, value });
        self
    }

    /// Removes a secret.
    pub fn unseal(mut self, path: &str) -> Self {
        let key = Key::new(Collection::Secrets, path);
        self.commit.writes.push(Write { key, expect: Expect::Any, value: None });
        self
    }

    /// Notes who does it.
    pub fn audit(mut self, subject: &str, audit: &Audit) -> Self {
        self.append(Log::Audit, subject, json(audit));
        self
    }

    /// Notes what happens to a service.
    pub fn event(mut self, service: &str, kind: &str, message: impl Into<String>) -> Self {
        let event = Event { kind: kind.to_owned(), message: message.into() };
        self.append(Log::Events, service, json(&event));
        self
    }

    fn append(&mut self, log: Log, subject: &str, text: String) {
        let (subject, at) = (subject.to_owned(), self.at.clone());
        self.commit.appends.push(Append { log, subject, at, text });
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if somebody else came before.
    pub fn commit(self) -> Result<Revision, CatalogError> {
        Ok(self.catalog.store.commit(&self.commit)?)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records and lines are plain data")
}

/// The time, RFC 3339, to the second.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A key that is missing beside a catalogue that is there must not be made up.
fn keys(key_file: &Path, is_new: bool) -> Result<Arc<Keyring>, CatalogError> {
    let given = std::env::var(KEY_VARIABLE).ok().map(Secret::new);
    let keys = match given {
        Some(text) => Keyring::parse(text.expose()),
        None if is_new && !key_file.exists() => Keyring::make(key_file),
        None => Keyring::read(key_file),
    };
    Ok(Arc::new(keys?))
}

fn read<T: Record>(entry: &store::Entry) -> Result<Versioned<T>, CatalogError> {
    let record = serde_json::from_slice(&entry.value);
    let record = record.map_err(|error| CatalogError::Unreadable {
        key: Key::new(T::COLLECTION, entry.name.clone()),
        why: error.to_string(),
    })?;
    Ok(Versioned { version: entry.version, record })
}

#[cfg(test)]
mod tests;

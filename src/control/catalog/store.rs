//! Where the catalogue keeps its entries: an interface that one file
//! implements today and a replicated store can implement later.
//!
//! Entries are versioned: an entry's version is the revision of the commit
//! that wrote it, so that it never returns to an earlier value and serves as
//! an `ETag`. A commit changes any number of entries, all of them or none, and
//! only if each is what its author had read. Calls block: they belong on
//! threads that may.

use std::fmt;

use tokio::sync::watch;

/// Counts commits.
pub type Revision = u64;

/// A kind of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collection {
    /// What must be known before anything else can be read.
    Meta,
    /// Services, by name.
    Services,
    /// The roles of services, `<service>/<role>`.
    Roles,
    /// The operator's inventory of nodes, by id.
    Nodes,
    /// Bearer tokens, by id; their hashes only.
    Tokens,
    /// Sealed secrets, by the path of what they belong to.
    Secrets,
    /// What was created under which idempotency key.
    Idempotency,
}

impl Collection {
    /// Its name in the store.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Services => "services",
            Self::Roles => "roles",
            Self::Nodes => "nodes",
            Self::Tokens => "tokens",
            Self::Secrets => "secrets",
            Self::Idempotency => "idempotency",
        }
    }
}

/// An entry's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where it is.
    pub collection: Collection,
    /// Its name there.
    pub name: String,
}

impl Key {
    /// The key of this name in a collection.
    pub fn new(collection: Collection, name: impl Into<String>) -> Self {
        Self { collection, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection.label(), self.name)
    }
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in its collection.
    pub name: String,
    /// The revision that wrote it.
    pub version: Revision,
    /// What it says.
    pub value: Vec<u8>,
}

/// Which entries of a collection are listed, by name.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// Names begin with this.
    pub prefix: &'a str,
    /// Names stand behind this one.
    pub after: &'a str,
    /// At most so many.
    pub limit: usize,
}

impl Range<'_> {
    /// All entries.
    pub const ALL: Self = Self { prefix: "", after: "", limit: usize::MAX };
}

/// What an entry must be for a write to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Not there.
    Absent,
    /// Of this version.
    Version(Revision),
}

/// A write to one entry.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which.
    pub key: Key,
    /// What it must be before.
    pub expect: Expect,
    /// What it will say; nothing removes it.
    pub value: Option<Vec<u8>>,
}

/// A log that is only ever appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Who changed what; kept for ever.
    Audit,
    /// What happened to a service; the last thousand of each are kept.
    Events,
}

impl Log {
    /// Its name in the store.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Events => "events",
        }
    }
}

/// A line to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// To which log.
    pub log: Log,
    /// What it is about.
    pub subject: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The line, JSON.
    pub text: String,
}

/// A line as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Larger than that of every earlier line.
    pub id: u64,
    /// What it is about.
    pub subject: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The line, JSON.
    pub text: String,
}

/// Which lines of a log are read, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// Of which log.
    pub log: Log,
    /// About this, or about everything.
    pub subject: Option<&'a str>,
    /// Older than the line of this id.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// Everything that happens at once.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The entries written.
    pub writes: Vec<Write>,
    /// The lines appended.
    pub appends: Vec<Append>,
}

/// Why the store did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An entry was not what was expected; nothing was written.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(Key),
    /// Another process has it open.
    #[error("another process uses it")]
    InUse,
    /// What was read is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was written by a newer version of this program.
    #[error("it was written by a newer version of Postern (its format is {0})")]
    Newer(u32),
    /// The system says no.
    #[error("{0}")]
    Unavailable(String),
}

/// A store of versioned entries and logs.
pub trait Store: Send + Sync + fmt::Debug {
    /// The entry of this key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Entries in the order of their names.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&self, collection: Collection, range: Range<'_>) -> Result<Vec<Entry>, StoreError>;

    /// Does all of it or nothing; what was done survives a crash of the host.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if an entry is not what was expected.
    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError>;

    /// Lines of a log, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn lines(&self, lines: Lines<'_>) -> Result<Vec<Line>, StoreError>;

    /// Follows the commits, of whoever makes them.
    fn watch(&self) -> watch::Receiver<Revision>;
}

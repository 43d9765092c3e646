//! The store in one `SQLite` file: nothing to install, nothing to look after.
//!
//! What must stay true: a commit that was acknowledged survives the crash of
//! the host (write-ahead log, `synchronous = FULL`); the file belongs to one
//! process at a time, and only its owner reads it; the audit log cannot be
//! rewritten, not even by this program.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, Transaction, params};
use tokio::sync::watch;

use super::store::{
    Append, Collection, Commit, Entry, Expect, Key, Line, Lines, Log, Range, Revision, Store,
    StoreError, Write,
};

/// Each makes the file of one format into the next; a file's format is its
/// `user_version`. Appended to, never changed.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE entries (
        collection TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (collection, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lines (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        log TEXT NOT NULL, subject TEXT NOT NULL, at TEXT NOT NULL, text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX lines_by_subject ON lines (log, subject, id);
    CREATE TABLE revision (number INTEGER NOT NULL) STRICT;
    INSERT INTO revision VALUES (0);
    CREATE TRIGGER lines_are_not_changed BEFORE UPDATE ON lines
        BEGIN SELECT RAISE(ABORT, 'logs are only appended to'); END;
    CREATE TRIGGER the_audit_log_is_kept BEFORE DELETE ON lines WHEN OLD.log = 'audit'
        BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END;
"];

/// Events kept of each service.
const EVENTS_KEPT: i64 = 1_000;

/// The store in a file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
    revision: watch::Sender<Revision>,
}

impl SqliteStore {
    /// Opens the file, or makes it with mode 0600, and brings it to the
    /// current format.
    ///
    /// # Errors
    /// [`StoreError`]; the file is as it was then.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut connection = Connection::open(path)?;
        prepare(&connection)?;
        migrate(&mut connection)?;
        let revision = revision(&connection)?;
        Ok(Self { connection: Mutex::new(connection), revision: watch::Sender::new(revision) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic leaves no half-done transaction: dropping it rolls it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file with its mode; `SQLite` gives its companions the same one.
fn make_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map(drop)
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let format: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if format > known {
        return Err(StoreError::Newer(format));
    }
    // Also takes the lock that keeps every other process away.
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for migration in &MIGRATIONS[format as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

fn revision(connection: &Connection) -> Result<Revision, StoreError> {
    Ok(connection.query_row("SELECT number FROM revision", [], |row| row.get(0).map(unsigned))?)
}

impl Store for SqliteStore {
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let connection = self.lock();
        let sql = "SELECT name, version, value FROM entries WHERE collection = ?1 AND name = ?2";
        let mut statement = connection.prepare(sql)?;
        let found = statement.query_row(params![key.collection.label(), key.name], entry);
        Ok(found.optional()?)
    }

    fn list(&self, collection: Collection, range: Range<'_>) -> Result<Vec<Entry>, StoreError> {
        let connection = self.lock();
        let sql = "SELECT name, version, value FROM entries \
                   WHERE collection = ?1 AND name > ?2 AND substr(name, 1, length(?3)) = ?3 \
                   ORDER BY name LIMIT ?4";
        let mut statement = connection.prepare(sql)?;
        let parameters = params![collection.label(), range.after, range.prefix, limit(range.limit)];
        let rows = statement.query_map(parameters, entry)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let next = revision(&transaction)? + 1;
        transaction.execute("UPDATE revision SET number = ?1", [signed(next)])?;
        for write in &commit.writes {
            apply(&transaction, write, next)?;
        }
        for line in &commit.appends {
            append(&transaction, line)?;
        }
        transaction.commit()?;
        self.revision.send_replace(next);
        Ok(next)
    }

    fn lines(&self, lines: Lines<'_>) -> Result<Vec<Line>, StoreError> {
        let connection = self.lock();
        let sql = "SELECT id, subject, at, text FROM lines \
                   WHERE log = ?1 AND (?2 IS NULL OR subject = ?2) AND id < ?3 \
                   ORDER BY id DESC LIMIT ?4";
        let mut statement = connection.prepare(sql)?;
        let before = lines.before.map_or(i64::MAX, signed);
        let parameters = params![lines.log.label(), lines.subject, before, limit(lines.limit)];
        let rows = statement.query_map(parameters, line)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write, next: Revision) -> Result<(), StoreError> {
    let Key { collection, name } = &write.key;
    let sql = "SELECT version FROM entries WHERE collection = ?1 AND name = ?2";
    let mut statement = transaction.prepare(sql)?;
    let version = statement.query_row(params![collection.label(), name], |row| row.get(0));
    let version = version.optional()?.map(unsigned);
    let as_expected = match write.expect {
        Expect::Any => true,
        Expect::Absent => version.is_none(),
        Expect::Version(expected) => version == Some(expected),
    };
    if !as_expected {
        return Err(StoreError::Conflict(write.key.clone()));
    }
    match &write.value {
        Some(value) => transaction.execute(
            "INSERT INTO entries VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET version = ?3, value = ?4",
            params![collection.label(), name, signed(next), value],
        ),
        None => transaction.execute(
            "DELETE FROM entries WHERE collection = ?1 AND name = ?2",
            params![collection.label(), name],
        ),
    }?;
    Ok(())
}

fn append(transaction: &Transaction<'_>, line: &Append) -> Result<(), StoreError> {
    let log = line.log.label();
    transaction.execute(
        "INSERT INTO lines (log, subject, at, text) VALUES (?1, ?2, ?3, ?4)",
        params![log, line.subject, line.at, line.text],
    )?;
    if line.log == Log::Events {
        transaction.execute(
            "DELETE FROM lines WHERE log = ?1 AND subject = ?2 AND id <= (\
                 SELECT id FROM lines WHERE log = ?1 AND subject = ?2 \
                 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            params![log, line.subject, EVENTS_KEPT],
        )?;
    }
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { name: row.get(0)?, version: unsigned(row.get(1)?), value: row.get(2)? })
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line { id: unsigned(row.get(0)?), subject: row.get(1)?, at: row.get(2)?, text: row.get(3)? })
}

/// `SQLite`'s integers are signed; what is counted here is not.
fn unsigned(number: i64) -> u64 {
    number.unsigned_abs()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn opened() -> (tempfile::TempDir, SqliteStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("catalog.db")).unwrap();
        (directory, store)
    }

    fn write(name: &str, expect: Expect, value: Option<&str>) -> Commit {
        let key = Key::new(Collection::Services, name);
        let value = value.map(|value| value.as_bytes().to_vec());
        Commit { writes: vec![Write { key, expect, value }], appends: Vec::new() }
    }

    fn line(log: Log, text: &str) -> Commit {
        let (subject, at) = ("orders".to_owned(), "2026-01-01T00:00:00Z".to_owned());
        let append = Append { log, subject, at, text: text.to_owned() };
        Commit { appends: vec![append], ..Commit::default() }
    }

    #[test]
    fn a_write_counts_only_if_nobody_came_before() {
        let (_directory, store) = opened();
        let first = store.commit(&write("orders", Expect::Absent, Some("1"))).unwrap();
        let conflict = StoreError::Conflict(Key::new(Collection::Services, "orders"));
        let again = store.commit(&write("orders", Expect::Absent, Some("2")));
        assert_eq!(again.unwrap_err(), conflict);
        let second = store.commit(&write("orders", Expect::Version(first), Some("2"))).unwrap();
        assert!(second > first);
        let stale = store.commit(&write("orders", Expect::Version(first), None));
        assert_eq!(stale.unwrap_err(), conflict);
        let entry = store.get(&Key::new(Collection::Services, "orders")).unwrap().unwrap();
        assert_eq!((entry.version, &entry.value[..]), (second, &b"2"[..]));
        assert_eq!(*store.watch().borrow(), second);
    }

    #[test]
    fn a_commit_is_whole_or_nothing() {
        let (_directory, store) = opened();
        let mut commit = write("a", Expect::Absent, Some("1"));
        commit.writes.extend(write("b", Expect::Version(7), Some("1")).writes);
        commit.appends.extend(line(Log::Audit, "{}").appends);
        assert!(store.commit(&commit).is_err());
        assert!(store.list(Collection::Services, Range::ALL).unwrap().is_empty());
        let all = Lines { log: Log::Audit, subject: None, before: None, limit: 10 };
        assert!(store.lines(all).unwrap().is_empty());
    }

    #[test]
    fn entries_are_listed_page_by_page() {
        let (_directory, store) = opened();
        for name in ["b/2", "a/1", "b/1", "b%/1"] {
            store.commit(&write(name, Expect::Absent, Some("1"))).unwrap();
        }
        let names = |range| {
            let entries = store.list(Collection::Services, range).unwrap();
            entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Range { limit: 2, ..Range::ALL }), ["a/1", "b%/1"]);
        assert_eq!(names(Range { after: "b%/1", ..Range::ALL }), ["b/1", "b/2"]);
        assert_eq!(names(Range { prefix: "b/", ..Range::ALL }), ["b/1", "b/2"]);
    }

    #[test]
    fn the_audit_log_cannot_be_rewritten_and_events_are_bounded() {
        let (_directory, store) = opened();
        store.commit(&line(Log::Audit, "1")).unwrap();
        for sql in ["DELETE FROM lines", "UPDATE lines SET text = 'x'"] {
            assert!(store.lock().execute(sql, []).is_err(), "{sql}");
        }
        for number in 0..EVENTS_KEPT + 5 {
            store.commit(&line(Log::Events, &number.to_string())).unwrap();
        }
        let lines = Lines { log: Log::Events, subject: Some("orders"), before: None, limit: 9_999 };
        let kept = store.lines(lines).unwrap();
        assert_eq!(kept.len(), usize::try_from(EVENTS_KEPT).unwrap());
        assert_eq!(kept[0].text, (EVENTS_KEPT + 4).to_string());
        let older = Lines { before: Some(kept[0].id), limit: 1, ..lines };
        assert_eq!(store.lines(older).unwrap()[0], kept[1]);
    }

    #[test]
    fn the_file_is_private_and_belongs_to_one_process() {
        let (directory, store) = opened();
        store.commit(&write("a", Expect::Absent, Some("1"))).unwrap();
        let path = directory.path().join("catalog.db");
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(SqliteStore::open(&path).unwrap_err(), StoreError::InUse);
        drop(store);
        let again = SqliteStore::open(&path).unwrap();
        assert_eq!(again.list(Collection::Services, Range::ALL).unwrap().len(), 1);
    }

    #[test]
    fn what_is_damaged_or_newer_is_not_touched() {
        let (directory, store) = opened();
        store.lock().pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let path = directory.path().join("catalog.db");
        assert_eq!(SqliteStore::open(&path).unwrap_err(), StoreError::Newer(99));
        std::fs::write(&path, [b'x'; 8192]).unwrap();
        let damaged = SqliteStore::open(&path).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged(_)), "{damaged}");
        assert_eq!(std::fs::read(&path).unwrap(), [b'x'; 8192]);
    }
}

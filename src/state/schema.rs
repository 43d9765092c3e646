//! How old the schema is by which statements are analysed.
//!
//! PostgreSQL analyses a statement when it is parsed: a column that has had
//! another type since is not noticed by what was prepared before. So a Parse is
//! answered by a statement that is there already only if no change of the
//! schema was seen in between, on any connection to the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the changes of the schema that were seen on a node; clones count the
/// same ones.
#[derive(Debug, Clone, Default)]
pub struct SchemaAge(Arc<Changes>);

#[derive(Debug, Default)]
struct Changes {
    all: AtomicU64,
    of_routines: AtomicU64,
}

/// What may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Anything, but hardly what a routine does.
    Any,
    /// What a routine does.
    OfRoutines,
}

impl SchemaAge {
    /// The changes so far.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Those among them that defined routines.
    #[must_use]
    pub fn of_routines(&self) -> u64 {
        self.0.of_routines.load(Ordering::Relaxed)
    }

    /// The schema has changed, or what was changed holds for all now.
    pub fn changed(&self, change: Change) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        if change == Change::OfRoutines {
            self.0.of_routines.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What may have changed by the statement with this tag of `CommandComplete`.
/// What functions do that a query calls shows in no tag.
#[must_use]
pub fn change_of(tag: &[u8]) -> Option<Change> {
    const KINDS: [&[u8]; 6] = [b"ALTER ", b"CREATE ", b"DROP ", b"IMPORT ", b"DO\0", b"CALL\0"];
    const OF_ROUTINES: [&[u8]; 4] = [b"FUNCTION\0", b"PROCEDURE\0", b"ROUTINE\0", b"EXTENSION\0"];
    KINDS.iter().any(|kind| tag.starts_with(kind)).then(|| {
        let is_of_routines = OF_ROUTINES.iter().any(|kind| tag.ends_with(kind));
        // One that is gone is called by nobody.
        if is_of_routines && !tag.starts_with(b"DROP ") { Change::OfRoutines } else { Change::Any }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_statements_that_define_something_are_told_from_others() {
        for tag in ["ALTER TABLE", "CREATE TYPE", "DROP OWNED", "DO", "CALL", "CREATE TABLE AS"] {
            assert_eq!(change_of(format!("{tag}\0").as_bytes()), Some(Change::Any), "{tag}");
        }
        for tag in ["CREATE FUNCTION", "ALTER PROCEDURE", "CREATE EXTENSION", "ALTER ROUTINE"] {
            assert_eq!(change_of(format!("{tag}\0").as_bytes()), Some(Change::OfRoutines), "{tag}");
        }
        for tag in ["SELECT 1", "DELETE 1", "COMMIT", "COPY 5", "DISCARD ALL", "INSERT 0 1", "DOX"]
        {
            assert_eq!(change_of(format!("{tag}\0").as_bytes()), None, "{tag}");
        }
    }
}

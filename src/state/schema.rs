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
pub struct SchemaAge(Arc<AtomicU64>);

impl SchemaAge {
    /// The changes so far.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The schema has changed, or what was changed holds for all now.
    pub fn changed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the tag of `CommandComplete` is that of a statement which may have
/// changed the schema. What functions do that a query calls shows in no tag.
#[must_use]
pub fn may_change_schema(tag: &[u8]) -> bool {
    const KINDS: [&[u8]; 6] = [b"ALTER ", b"CREATE ", b"DROP ", b"IMPORT ", b"DO\0", b"CALL\0"];
    KINDS.iter().any(|kind| tag.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_statements_that_define_something_are_told_from_others() {
        for tag in ["ALTER TABLE", "CREATE TYPE", "DROP OWNED", "DO", "CALL", "CREATE TABLE AS"] {
            assert!(may_change_schema(format!("{tag}\0").as_bytes()), "{tag}");
        }
        for tag in ["SELECT 1", "DELETE 1", "COMMIT", "COPY 5", "DISCARD ALL", "INSERT 0 1", "DOX"]
        {
            assert!(!may_change_schema(format!("{tag}\0").as_bytes()), "{tag}");
        }
    }
}

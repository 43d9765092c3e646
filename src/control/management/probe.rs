//! One look at a node: is it a primary, and does it have what its service
//! needs?

use tokio_postgres::types::Type;

use super::error::NodeError;
use super::session::{Session, Traits, value};
use crate::domain::Kind;

/// `$1` says whether to look for pgvector: the server reads a directory of
/// control files for that.
const PROBE: &str = "\
    SELECT pg_catalog.pg_is_in_recovery(),
           pg_catalog.current_setting('transaction_read_only') = 'on',
           CASE WHEN $1 THEN EXISTS (
               SELECT FROM pg_catalog.pg_available_extensions() WHERE name = 'vector') END";

/// What a node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Not in recovery, and transactions may write (decision 30).
    pub(super) writable: bool,
    /// Whether pgvector can be created there; not looked for where nobody
    /// needs it.
    pub(super) pgvector: Option<bool>,
    /// What the server said of itself.
    pub(super) traits: Traits,
}

/// Looks at a node.
pub(super) async fn look(session: &Session, kind: Kind) -> Result<Look, NodeError> {
    let wants_pgvector = kind == Kind::Vector;
    let row = session.one_row(PROBE, &[(&wants_pgvector, Type::BOOL)]).await?;
    let (in_recovery, read_only): (bool, bool) = (value(&row, 0)?, value(&row, 1)?);
    Ok(Look {
        writable: !in_recovery && !read_only,
        pgvector: value(&row, 2)?,
        traits: session.traits,
    })
}

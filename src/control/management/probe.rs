//! One look at a node: is it a primary, and does it have what its service
//! needs?

use tokio_postgres::types::{PgLsn, Type};

use super::error::NodeError;
use super::session::{Session, Traits, value};
use crate::domain::Kind;
use crate::routing::topology::lag::Position;

/// The outer query asks what the inner one has found out, and not again: a
/// promotion may happen in between, and functions of a standby fail on a
/// primary. `$1` says whether to look for pgvector: the server reads a directory of
/// control files for that.
const PROBE: &str = "\
    SELECT r.in_recovery,
           pg_catalog.current_setting('transaction_read_only') = 'on',
           CASE WHEN r.in_recovery
                THEN (SELECT w.received_tli FROM pg_catalog.pg_stat_get_wal_receiver() AS w)
                ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(
                         pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::pg_catalog.int4 END,
           CASE WHEN r.in_recovery
                THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END,
           CASE WHEN $1 THEN EXISTS (
               SELECT FROM pg_catalog.pg_available_extensions() WHERE name = 'vector') END
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery OFFSET 0) AS r";

/// What a node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// It is a standby.
    pub(super) in_recovery: bool,
    /// Transactions may not write.
    pub(super) read_only: bool,
    /// Of the WAL that it writes or receives, not of its control file, which
    /// follows a promotion with the next checkpoint (decision 30).
    pub(super) timeline: Option<u32>,
    /// Whether pgvector can be created there; not looked for where nobody
    /// needs it.
    pub(super) pgvector: Option<bool>,
    /// What the server said of itself.
    pub(super) traits: Traits,
}

impl Look {
    /// Whether the node takes writes.
    pub(super) fn writable(&self) -> bool {
        !self.in_recovery && !self.read_only
    }
}

/// What a node is, and how far it has written or, a standby, replayed.
pub(super) type Looked = (Look, Option<Position>);

/// Looks at a node.
pub(super) async fn look(session: &Session, kind: Kind) -> Result<Looked, NodeError> {
    let wants_pgvector = kind == Kind::Vector;
    let row = session.one_row(PROBE, &[(&wants_pgvector, Type::BOOL)]).await?;
    let (timeline, position): (Option<i32>, Option<PgLsn>) = (value(&row, 2)?, value(&row, 3)?);
    let look = Look {
        in_recovery: value(&row, 0)?,
        read_only: value(&row, 1)?,
        timeline: timeline.map(i32::cast_unsigned),
        pgvector: value(&row, 4)?,
        traits: session.traits,
    };
    Ok((look, position.map(u64::from)))
}

//! Ends a backend that does not end by itself (decision 8).
//!
//! A process id may belong to somebody else by the time: the backend that is
//! meant is at least as old as the connection that led to it. A younger one is
//! left alone, and nothing is concluded from it.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::error::NodeError;
use super::session::{Parameter, Session};
use crate::pool::ReaperAnswer;

/// A row for each process of that id, which is ended if it is old enough.
/// `backend_start` is hidden from a role without `pg_monitor`: then nobody
/// knows whether it is the one that is meant.
const TERMINATE: &str = "\
    SELECT CASE WHEN a.backend_start <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)
                THEN pg_catalog.pg_terminate_backend(a.pid) END
    FROM pg_catalog.pg_stat_activity a WHERE a.pid = $1";

/// Ends a backend that is at least this old.
pub(super) async fn terminate(
    session: &Session,
    process_id: u32,
    min_age: Duration,
) -> Result<ReaperAnswer, NodeError> {
    let Ok(process_id) = i32::try_from(process_id) else {
        return Ok(ReaperAnswer::Gone);
    };
    let min_age = min_age.as_secs_f64();
    let parameters: [Parameter; 2] = [(&process_id, Type::INT4), (&min_age, Type::FLOAT8)];
    match session.rows(TERMINATE, &parameters).await {
        Ok(rows) if rows.is_empty() => Ok(ReaperAnswer::Gone),
        Err(error) if !error.is_about_rights() => Err(error),
        // A superuser's backend may be ended by a superuser only.
        Ok(_) | Err(_) => Ok(ReaperAnswer::Told),
    }
}

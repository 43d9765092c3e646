//! Ends a backend that does not end by itself (decision 8).
//!
//! A process id may belong to somebody else by the time: the backend that is
//! meant began before it was first asked for, by at least as long as the
//! closer waits before it asks. A younger one is left alone, and nothing is
//! concluded from it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::error::NodeError;
use super::session::{Parameter, Session};
use crate::domain::{NodeAddress, ServiceName};
use crate::pool::ReaperAnswer;

/// How long a process is remembered that nobody asks about any more; the
/// closer asks once a second.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// A row for each process of that id, which is ended if it is old enough.
/// `backend_start` is hidden from a role without `pg_monitor`: then nobody
/// knows whether it is the one that is meant.
const TERMINATE: &str = "\
    SELECT CASE WHEN a.backend_start <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)
                THEN pg_catalog.pg_terminate_backend(a.pid) END
    FROM pg_catalog.pg_stat_activity a WHERE a.pid = $1";

/// Which backend is meant.
pub(super) type Target = (ServiceName, NodeAddress, u32);

/// When backends were first to be ended.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    /// First and last asked for.
    since: HashMap<Target, (Instant, Instant)>,
}

impl Condemned {
    /// For how long this backend has been meant to end.
    pub(super) fn condemn(&mut self, target: Target, now: Instant) -> Duration {
        self.since.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGET_AFTER);
        let (first, last) = self.since.entry(target).or_insert((now, now));
        *last = now;
        now.saturating_duration_since(*first)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_must_be_older_than_the_first_question_for_it() {
        let (mut condemned, start) = (Condemned::default(), Instant::now());
        let target = |pid| ("orders".parse().unwrap(), "db:5432".parse().unwrap(), pid);
        let second = Duration::from_secs(1);
        assert_eq!(condemned.condemn(target(1), start), Duration::ZERO);
        assert_eq!(condemned.condemn(target(1), start + second), second);
        assert_eq!(condemned.condemn(target(2), start + second), Duration::ZERO);
        let later = start + second + FORGET_AFTER;
        assert_eq!(condemned.condemn(target(1), later), Duration::ZERO);
        assert_eq!(condemned.since.len(), 1);
    }
}

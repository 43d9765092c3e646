//! What a rehearsal shows: how long writers stood still, what they were told,
//! and whether it was true.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Account, Outcome, Row};

/// The result of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// Writers.
    pub writers: usize,
    /// Rows whose commit was acknowledged.
    pub acknowledged: usize,
    /// Those of them that are not there: lost.
    pub lost: usize,
    /// Rows that were reported as not committed, by SQLSTATE.
    pub failed: BTreeMap<String, usize>,
    /// Those of them that are there all the same.
    pub failed_but_found: usize,
    /// Rows whose outcome was reported as unknown.
    pub unknown: usize,
    /// Connections that writers lost.
    pub disconnected: usize,
    /// The longest time between two acknowledged rows of a writer: that of
    /// the writer in the middle, in seconds.
    pub pause_p50: f64,
    /// The same, of the one in a hundred that stood still longest.
    pub pause_p99: f64,
}

impl Report {
    pub(super) fn new(account: &Account, rows: &HashSet<Row>) -> Self {
        let count = |is: fn(&Outcome) -> bool| account.all().filter(|a| is(&a.outcome)).count();
        let mut failed = BTreeMap::new();
        let mut failed_but_found = 0;
        for attempt in account.all() {
            if let Outcome::Failed(state) = &attempt.outcome {
                *failed.entry(state.clone()).or_default() += 1;
                failed_but_found += usize::from(rows.contains(&attempt.row));
            }
        }
        let is_lost = |attempt: &&super::Attempt| {
            attempt.outcome == Outcome::Acknowledged && !rows.contains(&attempt.row)
        };
        let mut pauses: Vec<_> = account.attempts.iter().map(|own| longest_pause(own)).collect();
        pauses.sort();
        Self {
            writers: account.attempts.len(),
            acknowledged: count(|outcome| *outcome == Outcome::Acknowledged),
            lost: account.all().filter(is_lost).count(),
            failed,
            failed_but_found,
            unknown: count(|outcome| matches!(outcome, Outcome::Unknown(_))),
            disconnected: count(|outcome| *outcome == Outcome::Disconnected),
            pause_p50: percentile(&pauses, 50),
            pause_p99: percentile(&pauses, 99),
        }
    }

    /// Transactions that failed, with their outcome known.
    #[must_use]
    pub fn failed_in_all(&self) -> usize {
        self.failed.values().sum()
    }

    /// Whether nobody noticed anything but a pause, and nothing was lost: what
    /// a planned switchover promises.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.failed_in_all() + self.unknown + self.disconnected == 0
            && self.acknowledged > 0
    }
}

/// The longest time between two acknowledged rows.
fn longest_pause(attempts: &[super::Attempt]) -> Duration {
    let told = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Acknowledged);
    let ends: Vec<_> = told.map(|attempt| attempt.ended).collect();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(0.0, Duration::as_secs_f64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.acknowledged - self.lost;
        writeln!(f, "{} writers", self.writers)?;
        writeln!(f, "pause          p50 {:.3} s, p99 {:.3} s", self.pause_p50, self.pause_p99)?;
        writeln!(f, "acknowledged   {} rows, {found} of them found again", self.acknowledged)?;
        write!(f, "failed         {}", self.failed_in_all())?;
        for (state, count) in &self.failed {
            write!(f, ", {count} with {state}")?;
        }
        writeln!(f, "\nunknown        {}", self.unknown)?;
        write!(f, "connections    {} lost", self.disconnected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::rehearsal::Attempt;

    #[test]
    fn a_report_finds_what_was_promised_and_is_not_there() {
        let start = Instant::now();
        let attempt = |writer, number: i64, outcome| Attempt {
            row: (writer, number),
            began: start,
            ended: start + Duration::from_secs(number.unsigned_abs()),
            outcome,
        };
        let (yes, no) = (Outcome::Acknowledged, Outcome::Failed("40001".into()));
        let account = Account {
            attempts: vec![
                vec![
                    attempt(0, 0, yes.clone()),
                    attempt(0, 1, no.clone()),
                    attempt(0, 5, yes.clone()),
                ],
                vec![attempt(1, 0, yes.clone()), attempt(1, 1, yes), attempt(1, 2, no)],
                vec![attempt(2, 0, Outcome::Unknown("08007".into()))],
            ],
        };
        let rows = [(0, 0), (0, 5), (1, 0), (1, 2)].into();
        let report = account.report(&rows);
        assert_eq!((report.acknowledged, report.lost, report.unknown), (4, 1, 1));
        assert_eq!((report.failed_in_all(), report.failed_but_found), (2, 1));
        assert!(!report.is_clean() && !Account { attempts: vec![] }.report(&rows).is_clean());
        assert!((report.pause_p99 - 5.0).abs() < 1e-6 && (report.pause_p50 - 1.0).abs() < 1e-6);
        let text = report.to_string();
        assert!(text.contains("4 rows, 3 of them found again"), "{text}");
        assert!(text.contains("failed         2, 2 with 40001"), "{text}");
    }
}

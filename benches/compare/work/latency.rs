//! Latency at a rate that `PgBouncer` can bear, from pgbench's log of every
//! transaction. It counts from when a transaction should have begun.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::load::{self, Load, Protocol, Script};
use crate::Fallible;
use crate::contender::Contender;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

const SHARE_OF_MAXIMUM: f64 = 0.7;
/// Transactions of the first second are left out.
const WARM_UP: Duration = Duration::from_secs(1);
const LOGINS: Duration = Duration::from_secs(90);

fn load(clients: u32) -> Load {
    Load { script: Script::Select, protocol: Protocol::Simple, clients }
}

/// The rate for all: the median of three short tries of `PgBouncer`.
pub fn rate(
    stage: &Stage,
    contenders: &[Contender],
    clients: u32,
    turn: Duration,
) -> Fallible<f64> {
    let pgbouncer = super::pgbouncer(contenders)?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let sample = load(clients).run(stage, pgbouncer, turn)?;
        rates.extend(sample.value(Metric::Throughput));
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[1] * SHARE_OF_MAXIMUM)
}

pub fn run(
    stage: &Stage,
    contender: &Contender,
    clients: u32,
    rate: f64,
    turn: Duration,
) -> Fallible<Sample> {
    let directory = tempfile::tempdir()?;
    let prefix = directory.path().join("log");
    let time = turn + WARM_UP;
    let mut pgbench = load(clients).without_end(stage, contender, time + LOGINS);
    pgbench.args(["--rate", &format!("{rate:.0}"), "--time", &time.as_secs().to_string()]);
    pgbench.arg("--log").arg("--log-prefix").arg(&prefix).stdin(Stdio::null());
    let output = pgbench.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    load::check_summary(&String::from_utf8_lossy(&output.stdout))?;
    let latencies = latencies(directory.path())?;
    Ok(Sample::default()
        .with(Metric::Median, percentile(&latencies, 0.5)?)
        .with(Metric::Percentile99, percentile(&latencies, 0.99)?)
        .with(Metric::Throughput, per_second(latencies.len(), turn)))
}

fn per_second(count: usize, time: Duration) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from) / time.as_secs_f64()
}

/// Milliseconds, in ascending order, of all logs in a directory.
fn latencies(directory: &Path) -> Fallible<Vec<f64>> {
    let mut transactions = Vec::new();
    for file in fs::read_dir(directory)? {
        let text = fs::read_to_string(file?.path())?;
        transactions.extend(text.lines().filter_map(transaction));
    }
    let begin = transactions.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let warm = begin + WARM_UP.as_secs_f64();
    let measured = transactions.into_iter().filter(|(at, _)| *at >= warm);
    let mut latencies: Vec<f64> = measured.map(|(_, latency)| latency).collect();
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// End (in seconds) and latency (in ms) of a line: `client transaction
/// latency-in-µs script seconds microseconds lag`.
fn transaction(line: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
    let [_, _, latency, _, seconds, microseconds, ..] = fields[..] else {
        return None;
    };
    Some((seconds + microseconds / 1e6, latency / 1e3))
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list of some 100,000"
)]
fn percentile(ascending: &[f64], share: f64) -> Fallible<f64> {
    let place = (ascending.len() as f64 * share) as usize;
    ascending.get(place).copied().ok_or_else(|| "pgbench logged nothing".into())
}

//! Latency at a rate that `PgBouncer` can bear, from pgbench's log of every
//! transaction. It counts from when a transaction should have begun.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::load::{self, Load, Protocol, Script};
use crate::Fallible;
use crate::contender::Contender;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

const SHARE_OF_MAXIMUM: f64 = 0.7;
/// Transactions of the first second are left out.
const WARM_UP: Duration = Duration::from_secs(1);

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
    let mut pgbench = load(clients).command(stage, contender);
    pgbench.args(["--rate", &format!("{rate:.0}"), "--log", "--log-prefix"]).arg(&prefix);
    let mut first = None;
    load::run(&mut pgbench, |_| {
        let since = first.get_or_insert_with(Instant::now).elapsed();
        Ok(load::has_had_its_turn(since, turn))
    })?;
    let log = Log::read(directory.path())?;
    Ok(Sample::default()
        .with(Metric::Median, log.percentile(0.5)?)
        .with(Metric::Percentile99, log.percentile(0.99)?)
        .with(Metric::Throughput, log.rate()))
}

/// What pgbench logged after the first second.
struct Log {
    /// Milliseconds, in ascending order.
    latencies: Vec<f64>,
    /// From the first end of a transaction to the last, in seconds.
    span: f64,
}

impl Log {
    /// Reads the files of all threads.
    fn read(directory: &Path) -> Fallible<Self> {
        let mut transactions = Vec::new();
        for file in fs::read_dir(directory)? {
            let text = fs::read_to_string(file?.path())?;
            transactions.extend(text.lines().filter_map(transaction));
        }
        transactions.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let at = |entry: Option<&(f64, f64)>| entry.map_or(0.0, |(at, _)| *at);
        let warm = at(transactions.first()) + WARM_UP.as_secs_f64();
        let span = at(transactions.last()) - warm;
        let measured = transactions.into_iter().filter(|(at, _)| *at >= warm);
        let mut latencies: Vec<f64> = measured.map(|(_, latency)| latency).collect();
        latencies.sort_by(f64::total_cmp);
        Ok(Self { latencies, span })
    }

    fn rate(&self) -> f64 {
        u32::try_from(self.latencies.len()).map_or(f64::MAX, f64::from) / self.span
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of some 100,000"
    )]
    fn percentile(&self, share: f64) -> Fallible<f64> {
        let place = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(place).copied().ok_or_else(|| "pgbench logged nothing".into())
    }
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

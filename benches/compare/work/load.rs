//! pgbench, as fast as it can.
//!
//! CPU time and transactions are counted between pgbench's first progress
//! report and its last: logins of the clients and the first second are not in.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::contender::Contender;
use crate::process::Cpu;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

/// Before the first report, and around the last.
const MARGIN: Duration = Duration::from_secs(2);
/// Logins of thousands of clients with SCRAM and TLS, on a busy machine.
const LOGINS: Duration = Duration::from_secs(90);

const CONNECTING_CLIENTS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Select,
    TpcB,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
    Prepared,
}

/// What pgbench does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub script: Script,
    pub protocol: Protocol,
    pub clients: u32,
}

impl Load {
    pub fn name(self) -> String {
        let script = match self.script {
            Script::Select => "select",
            Script::TpcB => "tpcb",
        };
        format!("{script}-{}-{}", self.protocol.name(), self.clients)
    }

    pub fn run(self, stage: &Stage, contender: &Contender, turn: Duration) -> Fallible<Sample> {
        let mut pgbench = self.command(stage, contender, turn + MARGIN);
        let window = watch(&mut pgbench, contender)?;
        Ok(Sample::default()
            .with(Metric::CpuPerTransaction, window.microseconds(window.cpu.total()))
            .with(Metric::UserPerTransaction, window.microseconds(window.cpu.user))
            .with(Metric::Throughput, window.rate()))
    }

    /// pgbench for so long, with a report each second.
    pub fn command(self, stage: &Stage, contender: &Contender, time: Duration) -> Command {
        let mut command = self.without_end(stage, contender, time + LOGINS);
        command.args(["--progress=1", "--time", &time.as_secs().to_string()]);
        command
    }

    /// pgbench, still to be told how long.
    pub fn without_end(self, stage: &Stage, contender: &Contender, limit: Duration) -> Command {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u32::try_from(cores).unwrap_or(1).min(self.clients);
        let mut command = contender.client(stage, "pgbench", limit);
        command.args(["--no-vacuum", "--protocol", self.protocol.name()]);
        command.args(["--client", &self.clients.to_string(), "--jobs", &threads.to_string()]);
        if self.script == Script::Select {
            command.arg("--select-only");
        }
        command
    }
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// A connection, with its login, for each SELECT.
pub fn connect(stage: &Stage, contender: &Contender, turn: Duration) -> Fallible<Sample> {
    let (script, protocol) = (Script::Select, Protocol::Simple);
    let load = Load { script, protocol, clients: CONNECTING_CLIENTS };
    let mut pgbench = load.command(stage, contender, turn + MARGIN);
    let window = watch(pgbench.arg("--connect"), contender)?;
    Ok(Sample::default()
        .with(Metric::CpuPerConnection, window.microseconds(window.cpu.total()))
        .with(Metric::UserPerConnection, window.microseconds(window.cpu.user))
        .with(Metric::Connections, window.rate()))
}

/// What happened between the first report and the last.
struct Window {
    cpu: Cpu,
    time: Duration,
    transactions: f64,
}

impl Window {
    fn microseconds(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.transactions
    }

    fn rate(&self) -> f64 {
        self.transactions / self.time.as_secs_f64()
    }
}

struct Mark {
    at: Instant,
    cpu: Cpu,
    /// Since the report before.
    rate: f64,
}

fn watch(pgbench: &mut Command, contender: &Contender) -> Fallible<Window> {
    pgbench.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pgbench.spawn()?;
    let (mut marks, mut complaints) = (Vec::new(), String::new());
    for line in BufReader::new(child.stderr.take().ok_or("no stderr")?).lines() {
        let line = line?;
        match progress(&line) {
            Some(rate) => {
                marks.push(Mark { at: Instant::now(), cpu: contender.cpu()?, rate });
            }
            None => complaints = format!("{complaints}{line}\n"),
        }
    }
    let mut summary = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut summary)?;
    if !child.wait()?.success() || !complaints.is_empty() {
        return Err(format!("pgbench failed:\n{complaints}").into());
    }
    check_summary(&summary)?;
    between(&marks)
}

/// The rate of `progress: 1.0 s, 2365.2 tps, lat 0.4 ms stddev 0.1, 0 failed`.
fn progress(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    rest.split_once(" tps")?.0.parse().ok()
}

/// Whether pgbench says that it has done something and nothing failed.
pub fn check_summary(summary: &str) -> Fallible<u64> {
    let field = |name: &str| {
        let line = summary.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().split([' ', '/']).next()?.parse::<u64>().ok()
    };
    let done = field("number of transactions actually processed:").unwrap_or(0);
    let failed = field("number of failed transactions:").unwrap_or(0);
    if done == 0 || failed > 0 {
        return Err(format!("pgbench has done {done} and failed {failed}:\n{summary}").into());
    }
    Ok(done)
}

fn between(marks: &[Mark]) -> Fallible<Window> {
    let ([first, .., last], true) = (marks, marks.len() > 1) else {
        return Err("pgbench made too few reports".into());
    };
    let pairs = marks.windows(2);
    let transactions = pairs.map(|pair| (pair[1].at - pair[0].at).as_secs_f64() * pair[1].rate);
    let transactions: f64 = transactions.sum();
    if transactions < 1.0 {
        return Err("no transactions between pgbench's reports".into());
    }
    Ok(Window { cpu: last.cpu.since(first.cpu), time: last.at - first.at, transactions })
}

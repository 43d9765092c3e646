//! pgbench, as fast as it can.
//!
//! CPU time and transactions are counted between two progress reports: logins
//! of the clients and the first second are not in.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Fallible;
use crate::contender::Contender;
use crate::process::Cpu;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

/// Also for the logins of thousands of clients with SCRAM and TLS, on a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(700);
/// Between two reports, or the start and the first: most of it for logins.
const PATIENCE: Duration = Duration::from_secs(90);

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
        let window = watch(&mut self.command(stage, contender), contender, turn)?;
        Ok(Sample::default()
            .with(Metric::CpuPerTransaction, window.microseconds(window.cpu.total()))
            .with(Metric::UserPerTransaction, window.microseconds(window.cpu.user))
            .with(Metric::Throughput, window.rate()))
    }

    /// pgbench with a report each second, to be stopped after a turn.
    pub fn command(self, stage: &Stage, contender: &Contender) -> Command {
        let mut command = contender.unbounded_client(stage, "pgbench");
        self.describe_to(&mut command);
        command.args(["--progress=1", "--time", &LIMIT.as_secs().to_string()]);
        command
    }

    /// pgbench for so many transactions of each client.
    pub fn counted(self, stage: &Stage, contender: &Contender, transactions: u32) -> Command {
        let mut command = contender.client(stage, "pgbench", LIMIT);
        self.describe_to(&mut command);
        command.args(["--transactions", &transactions.to_string()]);
        command
    }

    fn describe_to(self, command: &mut Command) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u32::try_from(cores).unwrap_or(1).min(self.clients);
        command.args(["--no-vacuum", "--protocol", self.protocol.name()]);
        command.args(["--client", &self.clients.to_string(), "--jobs", &threads.to_string()]);
        if self.script == Script::Select {
            command.arg("--select-only");
        }
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
    let mut pgbench = load.command(stage, contender);
    let window = watch(pgbench.arg("--connect"), contender, turn)?;
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

fn watch(pgbench: &mut Command, contender: &Contender, turn: Duration) -> Fallible<Window> {
    let mut marks: Vec<Mark> = Vec::new();
    run(pgbench, |rate| {
        let at = Instant::now();
        marks.push(Mark { at, cpu: contender.cpu()?, rate });
        Ok(has_had_its_turn(at - marks[0].at, turn))
    })?;
    between(&marks)
}

/// Reports come a little early as often as late.
pub fn has_had_its_turn(time: Duration, turn: Duration) -> bool {
    time + Duration::from_millis(500) >= turn
}

/// Runs pgbench until a report (the transactions per second) is the last that
/// is wanted.
pub fn run(pgbench: &mut Command, mut is_last: impl FnMut(f64) -> Fallible<bool>) -> Fallible<()> {
    let mut child = pgbench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let reports = lines(child.stderr.take().ok_or("no stderr")?);
    let (mut complaints, mut stopped) = (String::new(), false);
    while let Some(line) = next(&reports, &mut child)? {
        match progress(&line) {
            None => complaints = format!("{complaints}{line}\n"),
            Some(_) if stopped => {}
            Some(rate) => {
                stopped = is_last(rate)?;
                if stopped {
                    stop(&child)?;
                }
            }
        }
    }
    let output = child.wait_with_output()?;
    if !output.status.success() || !complaints.is_empty() {
        return Err(format!("pgbench failed ({}):\n{complaints}", output.status).into());
    }
    check_summary(&String::from_utf8_lossy(&output.stdout))?;
    Ok(())
}

/// A pipe's lines, so that waiting for one can have an end.
fn lines(pipe: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        // A receiver that has gone wants no more.
        lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
    });
    receiver
}

/// None at the end.
fn next(reports: &Receiver<String>, child: &mut Child) -> Fallible<Option<String>> {
    match reports.recv_timeout(PATIENCE) {
        Ok(line) => Ok(Some(line)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => {
            child.kill()?;
            child.wait()?;
            Err("pgbench hangs".into())
        }
    }
}

/// As its own alarm does at the end of its time: transactions that have begun
/// come to their end.
fn stop(pgbench: &Child) -> Fallible<()> {
    let pid = i32::try_from(pgbench.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or("pgbench has no process id")?, Signal::ALARM)?)
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

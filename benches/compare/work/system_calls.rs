//! What `strace -c -f` counts in a simple transaction of 16 clients.
//!
//! Logins are counted too, so that two runs of different length are taken off
//! each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use super::load::{self, Load, Protocol, Script};
use crate::Fallible;
use crate::contender::Contender;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

/// Transactions of each client.
const SHORT: u32 = 100;
const LONG: u32 = 1_100;
const CLIENTS: u32 = 16;

const READS: [&str; 5] = ["read", "readv", "recvfrom", "recvmsg", "recv"];
const WRITES: [&str; 5] = ["write", "writev", "sendto", "sendmsg", "send"];
const WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// How often each system call was made.
type Counts = BTreeMap<String, f64>;

pub fn run(stage: &Stage, contender: &Contender) -> Fallible<Sample> {
    let short = count(stage, contender, SHORT)?;
    let long = count(stage, contender, LONG)?;
    let transactions = f64::from((LONG - SHORT) * CLIENTS);
    let per_transaction = |chosen: &dyn Fn(&str) -> bool| {
        let sum = |counts: &Counts| -> f64 {
            counts.iter().filter(|(name, _)| chosen(name)).map(|(_, count)| *count).sum()
        };
        (sum(&long) - sum(&short)) / transactions
    };
    let named = |name: &str| {
        READS.contains(&name) || WRITES.contains(&name) || WAITS.contains(&name) || name == "futex"
    };
    Ok(Sample::default()
        .with(Metric::Reads, per_transaction(&|name| READS.contains(&name)))
        .with(Metric::Writes, per_transaction(&|name| WRITES.contains(&name)))
        .with(Metric::EpollWaits, per_transaction(&|name| WAITS.contains(&name)))
        .with(Metric::Futexes, per_transaction(&|name| name == "futex"))
        .with(Metric::OtherCalls, per_transaction(&|name| !named(name))))
}

fn count(stage: &Stage, contender: &Contender, transactions: u32) -> Fallible<Counts> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("counts");
    let strace = attach(contender.pid().ok_or("nothing to trace")?, &file)?;
    let load = Load { script: Script::Select, protocol: Protocol::Simple, clients: CLIENTS };
    let output = load.counted(stage, contender, transactions).output()?;
    detach(strace)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let done = load::check_summary(&String::from_utf8_lossy(&output.stdout))?;
    if done != u64::from(transactions * CLIENTS) {
        return Err(format!("pgbench has done {done} transactions only").into());
    }
    read_counts(&fs::read_to_string(&file)?)
}

fn attach(pid: u32, file: &Path) -> Fallible<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-p", &pid.to_string(), "-o"]).arg(file);
    let child = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let start = Instant::now();
    while !is_traced(pid)? {
        if start.elapsed() > Duration::from_secs(10) {
            return Err("strace does not attach".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    // Its threads are attached one after the other.
    thread::sleep(Duration::from_millis(300));
    Ok(child)
}

fn is_traced(pid: u32) -> Fallible<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|tracer| tracer.trim() != "0"))
}

/// Interrupted, strace writes what it has counted.
fn detach(mut strace: Child) -> Fallible<()> {
    let pid = i32::try_from(strace.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or("strace has no process id")?, Signal::INT)?;
    strace.wait()?;
    Ok(())
}

/// Lines such as `38.12  0.29  9  31337  12 recvfrom`; errors may be missing.
fn read_counts(text: &str) -> Fallible<Counts> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.contains("total") && !line.contains("----")) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, calls, .., name] = fields[..]
            && let Ok(calls) = calls.parse::<f64>()
        {
            counts.insert(name.to_owned(), calls);
        }
    }
    if counts.is_empty() {
        return Err(format!("strace counted nothing: {text}").into());
    }
    Ok(counts)
}

//! One run of a PostgreSQL server: from the start of its postmaster until the
//! last of its processes has gone.
//!
//! The postmaster's stdout is a pipe that all its children inherit and none
//! writes to. Its end is therefore the one exact sign that the postmaster and
//! every backend have gone, which a process id alone cannot tell.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::data::{Layout, last_lines};
use super::error::{Doing as _, Error};
use super::guardian::Guardian;
use super::installation::Installation;

/// How often a starting server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a server is started with that is not in its configuration files, so
/// that a copy of its data directory can be another server.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) installation: Installation,
    pub(super) port: u16,
}

/// A server with at least one process left, as far as we have looked.
#[derive(Debug)]
pub(super) struct Server {
    postmaster: Child,
    port: u16,
    /// Never receives anything: its sender goes when the last process has gone.
    family: Receiver<Infallible>,
    /// Where in the log this run begins.
    log_start: u64,
}

impl Server {
    /// Starts the postmaster and waits for nothing.
    pub(super) fn start(
        arguments: &Arguments,
        layout: &Layout,
        guardian: &mut Guardian,
    ) -> Result<Self, Error> {
        let log = layout.open_log()?;
        let log_start = log.metadata().doing("reading", "the log")?.len();
        let mut postmaster = guardian.spawn(&arguments.argv(layout), log)?;
        let family = watch_for_end(postmaster.stdout.take());
        Ok(Self { postmaster, port: arguments.port, family, log_start })
    }

    /// The postmaster's process id, which is nobody else's before [`Server::reap`].
    pub(super) fn pid(&self) -> u32 {
        self.postmaster.id()
    }

    /// Whether the last process has gone, after waiting for that at most `limit`.
    pub(super) fn has_ended(&self, limit: Duration) -> bool {
        match self.family.recv_timeout(limit) {
            Ok(never) => match never {},
            Err(ended) => ended == RecvTimeoutError::Disconnected,
        }
    }

    /// Returns once the server takes connections.
    pub(super) fn wait_until_ready(&self, layout: &Layout, limit: Duration) -> Result<(), Error> {
        let start = Instant::now();
        while !self.is_ready(layout) {
            if self.has_ended(LOOK_EVERY) {
                return Err(self.start_failure(layout));
            }
            if start.elapsed() > limit {
                let log = last_lines(&layout.log_after(self.log_start));
                return Err(Error::NotReady { limit, log });
            }
        }
        // With two addresses PostgreSQL is content with one.
        if self.port_was_taken(layout) {
            return Err(Error::PortTaken { port: self.port });
        }
        Ok(())
    }

    /// `postmaster.pid` names the process in line 1 and its status in line 8.
    fn is_ready(&self, layout: &Layout) -> bool {
        let file = fs::read_to_string(layout.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines().map(str::trim);
        let is_this_run = lines.next() == Some(&self.pid().to_string());
        is_this_run && matches!(lines.nth(6), Some("ready" | "standby"))
    }

    fn start_failure(&self, layout: &Layout) -> Error {
        if self.port_was_taken(layout) {
            return Error::PortTaken { port: self.port };
        }
        Error::StartFailed { log: last_lines(&layout.log_after(self.log_start)) }
    }

    fn port_was_taken(&self, layout: &Layout) -> bool {
        let log = layout.log_after(self.log_start);
        log.lines().any(|line| line.contains("could not bind") && line.contains("already in use"))
    }

    /// Signals the postmaster.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        send(self.pid(), signal)
    }

    /// Signals the postmaster, then its children.
    pub(super) fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        self.signal(signal)?;
        signal_each(&self.children()?, signal)
    }

    /// The postmaster's children: background processes and backends.
    pub(super) fn children(&self) -> Result<Vec<u32>, Error> {
        children_of(self.pid())
    }

    /// Takes the postmaster out of the process table.
    pub(super) fn reap(mut self) {
        // It has ended or is about to; there is nothing to do about a failure.
        let _ = self.postmaster.wait();
    }
}

impl Arguments {
    fn argv(&self, layout: &Layout) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.installation.program("postgres").into()];
        argv.extend(["-D".into(), layout.data.clone().into()]);
        argv.extend(["-k".into(), layout.sockets.clone().into()]);
        argv.extend(["-p".into(), self.port.to_string().into()]);
        argv
    }
}

/// The children of a process.
pub(super) fn children_of(of: u32) -> Result<Vec<u32>, Error> {
    let processes = fs::read_dir("/proc").doing("reading", "/proc")?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|&pid| parent(pid) == Some(of)).collect())
}

/// Signals processes; those that have gone meanwhile are no error.
pub(super) fn signal_each(pids: &[u32], signal: Signal) -> Result<(), Error> {
    pids.iter().try_for_each(|&pid| send(pid, signal))
}

fn send(pid: u32, signal: Signal) -> Result<(), Error> {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    match kill_process(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error).doing("signalling process", pid.to_string()),
    }
}

/// The parent of a process: the second field after the name, which stands in
/// parentheses and may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn watch_for_end(pipe: Option<ChildStdout>) -> Receiver<Infallible> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // A failing read means the end as well.
        let _ = pipe.map(|mut pipe| io::copy(&mut pipe, &mut io::sink()));
        drop(sender);
    });
    receiver
}

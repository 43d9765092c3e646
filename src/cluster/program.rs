//! A program that runs beside the servers and is kept running: etcd, Patroni.
//!
//! Its owner starts it again when it ends ([`Program::revive`]); its guardian
//! stops it, in the way that the program is stopped in, however its owner ends.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::account::Account;
use super::data::last_lines;
use super::error::{Doing as _, Error};
use super::guardian::{Duty, Guardian};
use super::server;

/// For a program to end in an orderly way: Patroni has a server to stop first.
const PATIENCE: Duration = Duration::from_secs(20);

/// From a start to the next, at least, of a program that does not stay up; it
/// doubles with each, this often.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 5;
/// A program that has run for this long stays up.
const STAYS_UP: Duration = Duration::from_secs(60);

/// A program in a directory of its own. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) argv: Vec<OsString>,
    pub(super) directory: PathBuf,
    /// The data directory whose postmaster it starts.
    pub(super) data: Option<PathBuf>,
    account: Account,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    // Dropped first: it ends the process.
    guardian: Guardian,
    process: Option<Child>,
    started: Instant,
    /// Since it last stayed up.
    starts: u32,
}

impl Program {
    /// A program that is not started yet.
    pub(super) fn new(argv: Vec<OsString>, directory: &Path, account: Account) -> Self {
        let directory = directory.to_owned();
        Self { argv, directory, data: None, account, running: Mutex::default() }
    }

    /// Starts it, unless it runs. It ends before what it depends on; the lock
    /// stays locked until it has.
    pub(super) fn start(&self, on: Option<&Self>, lock: Option<File>) -> Result<(), Error> {
        let mut running = self.lock();
        if running.is_none() {
            let on = on.map(Self::lock);
            let before = on.as_ref().and_then(|on| Some(&on.as_ref()?.guardian));
            let guardian = Guardian::start(self.duty(before, lock), self.account)?;
            *running =
                Some(Running { guardian, process: None, started: Instant::now(), starts: 0 });
        }
        self.run(running.as_mut())
    }

    /// Starts it again if that is due; what was stopped stays so.
    pub(super) fn revive(&self) -> Result<(), Error> {
        let mut running = self.lock();
        self.run(running.as_mut().filter(|running| running.is_due()))
    }

    fn run(&self, running: Option<&mut Running>) -> Result<(), Error> {
        let Some(running) = running else { return Ok(()) };
        if running.is_alive() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.doing("opening", self.log_path())?;
        running.starts = if running.started.elapsed() > STAYS_UP { 1 } else { running.starts + 1 };
        running.started = Instant::now();
        running.process = Some(running.guardian.spawn_in(&self.directory, &self.argv, log)?);
        Ok(())
    }

    /// Whether it was stopped, or never started.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_none()
    }

    /// Whether it was started, has not been stopped, and has ended all the same.
    pub(super) fn has_died(&self) -> bool {
        self.lock().as_mut().is_some_and(|running| !running.is_alive())
    }

    /// Whether it has died, and not so soon and so often that it is left alone
    /// for a while.
    pub(super) fn is_due(&self) -> bool {
        self.lock().as_ref().is_some_and(Running::is_due) && self.has_died()
    }

    /// Stops it, in an orderly way if it can be, and waits for its end.
    pub(super) fn stop(&self) {
        drop(self.lock().take());
    }

    /// Signals the program alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.pid().ok_or(Error::Stopped)?;
        server::signal_each(&[pid], signal)
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        let mut running = self.lock();
        let running = running.as_mut()?;
        running.is_alive().then(|| running.process.as_ref().map(Child::id))?
    }

    /// The end of what it has said.
    pub(super) fn last_words(&self) -> String {
        last_lines(&String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()))
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn duty<'a>(&'a self, before: Option<&'a Guardian>, lock: Option<File>) -> Duty<'a> {
        let data = self.data.as_deref();
        Duty { directory: None, signal: "TERM", patience: PATIENCE, data, before, lock }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Whether the pause since its last start is over.
    fn is_due(&self) -> bool {
        let doublings = self.starts.saturating_sub(1).min(MAX_DOUBLINGS);
        self.started.elapsed() >= PAUSE * 2_u32.pow(doublings)
    }

    /// Reaps a process that has ended, and takes it off the guardian's hands.
    fn is_alive(&mut self) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        if matches!(process.try_wait(), Ok(None)) {
            return true;
        }
        self.process = None;
        self.guardian.watch_nothing();
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.guardian.clean_up();
        if let Some(process) = &mut self.process {
            // It has ended or is about to; there is nothing to do about a failure.
            let _ = process.wait();
        }
    }
}

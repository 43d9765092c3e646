//! The process that cleans up after us, however we end.
//!
//! Drop code does not run after `kill -9`, `exit` or an abort, and statics are
//! never dropped. So a small shell process (`guardian.sh`) waits for the end of
//! a pipe that only this process holds, and then stops what it was told to
//! watch and removes the cluster's temporary directory.
//!
//! Every process of a cluster that could outlive us is started here: it waits
//! for a word on its own stdin until the guardian knows its process id, so that
//! there is no moment at which our end would leave it unwatched.
//!
//! What others depend on ends last: their guardians hold on to that of what
//! they need, by the pipe that tells it to begin.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::account::Account;
use super::error::{Doing as _, Error};

/// Waits for the go-ahead, and ends without it when we do; then becomes the command.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// How to clean up.
#[derive(Debug)]
pub(super) struct Duty<'a> {
    /// Removed in the end.
    pub(super) directory: Option<&'a Path>,
    /// Ends what is watched in an orderly way.
    pub(super) signal: &'static str,
    /// How long that may take, in whole seconds.
    pub(super) patience: Duration,
    /// A data directory whose postmaster is started by what is watched.
    pub(super) data: Option<&'a Path>,
    /// Who is to begin only when this one has done.
    pub(super) before: Option<&'a Guardian>,
    /// Stays open, and with it locked, until all is done.
    pub(super) lock: Option<File>,
}

impl<'a> Duty<'a> {
    /// Of a postmaster, by its fast shutdown.
    pub(super) fn postmaster(directory: Option<&'a Path>) -> Self {
        let patience = Duration::from_secs(5);
        Self { directory, signal: "INT", patience, data: None, before: None, lock: None }
    }
}

/// A running guardian; dropped, it has cleaned up.
#[derive(Debug)]
pub(super) struct Guardian {
    process: Child,
    /// Closed by taking it, which is the signal to clean up.
    orders: Option<ChildStdin>,
    account: Account,
}

impl Guardian {
    /// Starts a guardian that will do this at last.
    pub(super) fn start(duty: Duty<'_>, account: Account) -> Result<Self, Error> {
        let mut command = shell(include_str!("guardian.sh"), account);
        let nothing = Path::new("");
        command.arg(duty.directory.unwrap_or(nothing)).arg(duty.signal);
        command.arg(duty.patience.as_secs().to_string()).arg(duty.data.unwrap_or(nothing));
        // It writes nothing to either: it only keeps them open.
        if let Some(other) = duty.before.and_then(|other| other.orders.as_ref()) {
            let held = other.as_fd().try_clone_to_owned();
            command.stdout(held.doing("holding on to", "a guardian")?);
        }
        if let Some(lock) = duty.lock {
            command.stderr(lock);
        }
        let mut process = command.spawn().doing("starting a guardian with", "sh")?;
        let orders = process.stdin.take();
        Ok(Self { process, orders, account })
    }

    /// Starts a command as the servers' user, in a process group of its own and
    /// watched. Its stdout is a pipe to us, its stderr the log.
    pub(super) fn spawn(&mut self, argv: &[OsString], log: File) -> Result<Child, Error> {
        let mut command = shell(GATE, self.account);
        command.args(argv).stdout(Stdio::piped()).stderr(log);
        self.open_gate(command)
    }

    /// Starts a program in the same way, in a directory of its own, with all its
    /// words in the log.
    pub(super) fn spawn_in(
        &mut self,
        directory: &Path,
        argv: &[OsString],
        log: File,
    ) -> Result<Child, Error> {
        let mut command = shell(GATE, self.account);
        let too = log.try_clone().doing("sharing", "the log")?;
        command.args(argv).current_dir(directory).stdout(too).stderr(log);
        self.open_gate(command)
    }

    fn open_gate(&mut self, mut command: Command) -> Result<Child, Error> {
        let mut process = command.spawn().doing("starting", "sh")?;
        self.watch(&process.id().to_string())?;
        let mut gate = process.stdin.take();
        gate.as_mut().map_or(Ok(()), |gate| gate.write_all(b"go\n")).doing("starting", "sh")?;
        Ok(process)
    }

    /// What was watched has ended and been reaped: its process id may soon be
    /// somebody else's.
    pub(super) fn watch_nothing(&mut self) {
        // A guardian that has gone watches nothing anyway.
        let _ = self.watch("");
    }

    fn watch(&mut self, pid: &str) -> Result<(), Error> {
        let orders = self.orders.as_mut();
        orders
            .map_or(Ok(()), |orders| writeln!(orders, "{pid}"))
            .doing("giving orders to", "the guardian")
    }

    /// Has everything stopped and removed, and waits for that.
    pub(super) fn clean_up(&mut self) {
        self.orders = None;
        // Nobody to tell: this runs in a drop, and the guardian does its work
        // whether we hear of its end or not.
        let _ = self.process.wait();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.clean_up();
    }
}

/// A shell with nothing of our environment, out of reach of the terminal's
/// Ctrl-C. Its arguments follow.
fn shell(script: &str, account: Account) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    plain_environment(&mut command);
    account.apply(&mut command);
    command
}

/// Nothing of our environment: no `PGHOST` or `PGDATA` of the person who runs
/// this, no translated messages, no directory that the servers' user cannot enter.
pub(super) fn plain_environment(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .current_dir("/");
}

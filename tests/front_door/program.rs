//! Runs a program that must come to an end: one that hangs fails its test and
//! says so, and does not hold up the whole run.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Far more than any of them takes on a loaded machine.
const LONGEST: Duration = Duration::from_secs(180);

/// Runs a program without input.
///
/// # Panics
/// If it cannot be started, or does not end.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let _ = ended.send(child.wait_with_output());
    });
    match end.recv_timeout(LONGEST) {
        Ok(output) => output.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        Err(RecvTimeoutError::Timeout) => {
            let _ = kill_process(pid, Signal::KILL);
            let said = end.recv_timeout(Duration::from_secs(5));
            panic!("{command:?} did not end within {LONGEST:?}: {said:?}")
        }
        Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends before it ends"),
    }
}

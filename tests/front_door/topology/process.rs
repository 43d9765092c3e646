//! Programs that tests start beside Postern: gone with the test, however it
//! ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running program and all that it has started.
pub(super) struct Process(Child);

impl Process {
    /// Starts a program, as another user if so wanted, its words in a file.
    pub(super) fn start(arguments: &[&str], user: Option<&str>, log: &Path) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        // It dies with the thread of the test, also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.arg("--").args(arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
    }

    /// Signals it and all its descendants.
    pub(super) fn signal(&self, signal: &str) {
        let mut family = vec![self.0.id()];
        let mut next = 0;
        while next < family.len() {
            family.extend(children(family[next]));
            next += 1;
        }
        let family: Vec<_> = family.iter().map(ToString::to_string).collect();
        // Some of them may have ended meanwhile.
        let _ = Command::new("kill").args(["-s", signal]).args(family).output();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.0.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_task = |task: fs::DirEntry| {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    tasks.flat_map(of_task).collect()
}

//! The HA manager of this host: Patroni, which promotes, and etcd, in which it
//! keeps who leads.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::Error;
use super::guardian::plain_environment;
use super::installation::Installation;

/// What Patroni runs of an installation.
const PROGRAMS: [&str; 7] =
    ["initdb", "postgres", "pg_ctl", "pg_controldata", "pg_isready", "pg_basebackup", "pg_rewind"];

/// The programs of the HA manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaManager {
    patroni: PathBuf,
    etcd: PathBuf,
}

impl HaManager {
    /// Looks for them in the directories of `PATH`.
    pub fn find() -> Result<Self, Error> {
        Self::find_in(&env::var_os("PATH").unwrap_or_default())
    }

    /// Looks for them in these directories, a list with colons.
    pub fn find_in(path: &OsStr) -> Result<Self, Error> {
        let lacking = |what: &str| Error::NoHaManager { lacking: what.to_owned() };
        let patroni = program_in(path, "patroni").ok_or_else(|| lacking("no patroni"))?;
        let etcd = program_in(path, "etcd").ok_or_else(|| lacking("no etcd"))?;
        if !knows_etcd(&patroni) {
            return Err(lacking("a patroni that does not know etcd"));
        }
        Ok(Self { patroni, etcd })
    }

    /// Whether it can work with this installation.
    pub fn check(&self, installation: &Installation) -> Result<(), Error> {
        let missing = PROGRAMS.iter().find(|name| !installation.program(name).is_file());
        missing.map_or(Ok(()), |name| {
            Err(Error::NoProgram { bin: installation.bin_dir().to_owned(), name })
        })
    }

    /// Patroni's program.
    pub(super) fn patroni(&self) -> &Path {
        &self.patroni
    }

    /// etcd's program.
    pub(super) fn etcd(&self) -> &Path {
        &self.etcd
    }
}

fn program_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).map(|directory| directory.join(name)).find(runs)
}

/// Debian has Patroni's client of etcd in a package of its own: asked of the
/// interpreter in the first line of the script. A patroni that is no script of
/// Python's brings along what it needs.
fn knows_etcd(patroni: &Path) -> bool {
    let script = fs::read(patroni).unwrap_or_default();
    let first = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let Some(python) = first.strip_prefix("#!").filter(|line| line.contains("python")) else {
        return true;
    };
    let mut words = python.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    plain_environment(&mut command);
    command.args(words).args(["-c", "import patroni.dcs.etcd3"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_with_its_packages() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let why = || HaManager::find_in(path.as_os_str()).unwrap_err().to_string();
        let said = why();
        for text in ["no patroni", "patroni, python3-etcd, python3-dnspython and etcd-server"] {
            assert!(said.contains(text), "{said}");
        }
        // A Patroni whose Python has no client of etcd.
        executable(&path.join("patroni"), "#!/usr/bin/false python\n");
        assert!(why().contains("no etcd"), "{}", why());
        executable(&path.join("etcd"), "#!/bin/sh\n");
        assert!(why().contains("does not know etcd"), "{}", why());
    }

    #[test]
    fn an_installation_without_pg_rewind_is_named() {
        let manager = HaManager { patroni: "/p".into(), etcd: "/e".into() };
        let found = super::super::Installations::find().unwrap();
        let found = found.postgresql().unwrap();
        manager.check(found).unwrap();
        let some = tempfile::tempdir().unwrap();
        for name in PROGRAMS.iter().filter(|name| **name != "pg_rewind") {
            std::os::unix::fs::symlink(found.program(name), some.path().join(name)).unwrap();
        }
        let why = manager.check(&Installation::at(some.path()).unwrap()).unwrap_err().to_string();
        assert!(why.contains("has no pg_rewind"), "{why}");
    }
}

//! The clients that `scripts/install test` installs, and how to run them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postern::cluster::Installations;

/// A client that hangs is a failure, too.
const PATIENCE: &str = "100s";

/// What `SQLAlchemy` does, on both endpoints.
pub(crate) const OF_SQLALCHEMY: [&str; 7] = [
    "tables",
    "objects",
    "savepoints",
    "an upsert",
    "isolation levels",
    "a query in portions",
    "asyncpg",
];

/// PostgreSQL's own clients of one version, with TLS.
pub(crate) struct Tools {
    pub(crate) bin: PathBuf,
    pub(crate) major: u32,
}

impl Tools {
    /// The distribution's: 15 on Debian 12.
    pub(crate) fn debian() -> Self {
        let installations = Installations::find().unwrap();
        let installation = installations.postgresql().unwrap();
        Self { bin: installation.bin_dir().to_owned(), major: installation.major() }
    }

    /// Those of PostgreSQL 18.
    pub(crate) fn newest() -> Self {
        Self { bin: named_by("POSTERN_TEST_CLIENTS_18"), major: 18 }
    }

    pub(crate) fn both() -> [Self; 2] {
        [Self::debian(), Self::newest()]
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// A command with nothing of this environment but where programs are: no
/// `PGHOST`, no `~/.pgpass`, no translated messages.
pub(crate) fn client(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5s", PATIENCE])
        .arg(program)
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// Runs one of the scripts beside this file with the client of its kind.
pub(crate) fn script(file: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(file);
    match path.extension().and_then(OsStr::to_str) {
        Some("py") => {
            let mut command = client(named_by("POSTERN_TEST_PYTHON"));
            command.args([OsStr::new("-B"), path.as_os_str()]);
            command
        }
        Some("js") => node(&path),
        Some("java") => java(&path),
        Some("sh") => {
            let mut command = client("sh");
            command.arg(path);
            command
        }
        _ => panic!("nothing runs {file}"),
    }
}

/// A file of JavaScript that may `require("pg")`.
pub(crate) fn node(path: &Path) -> Command {
    let mut command = client("node");
    command.arg(path).env("NODE_PATH", named_by("POSTERN_TEST_NODE_MODULES"));
    command
}

/// Compiles a file of Java; the command runs its class, with pgjdbc and
/// `HikariCP` at hand.
pub(crate) fn java(path: &Path) -> Command {
    let jdbc = named_by("POSTERN_TEST_JDBC");
    let class = path.file_stem().unwrap();
    let service = path.parent().and_then(Path::file_name).unwrap();
    let classes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("classes").join(service);
    fs::create_dir_all(&classes).unwrap();
    // Debian keeps them in one directory.
    let [pool, log] = ["HikariCP.jar", "slf4j-api.jar"].map(|name| jdbc.with_file_name(name));
    let class_path = env::join_paths([&jdbc, &pool, &log, &classes]).unwrap();
    let mut compiler = client("javac");
    compiler.arg("-cp").arg(&class_path).arg("-d").arg(&classes).arg(path);
    stdout(&run(&mut compiler));
    let mut command = client("java");
    command.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(class_path).arg(class);
    command
}

/// What `scripts/test` says about where a driver is.
pub(crate) fn named_by(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} is not set: run scripts/test"));
    assert!(path.exists(), "{} is missing: run scripts/install test", path.display());
    path
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; scripts/install test installs what is missing")
    })
}

/// The standard output of a command that must have succeeded.
pub(crate) fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    let status = output.status;
    assert!(status.success(), "{status}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs a script; it must name exactly these things that work.
pub(crate) fn assert_works(command: &mut Command, expected: &[&str]) {
    let seen = stdout(&run(command));
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

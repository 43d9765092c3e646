//! The demo that the tests of the drivers share.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::clients::{Tools, run, stdout};

/// Says what the demo gave it, and stays until this process has ended: only
/// then does its standard input end, and the demo with it.
const STAY: &str = "env && echo ready && cat >/dev/null";

/// A running demo.
pub(crate) struct Demo {
    _process: Child,
    environment: BTreeMap<String, String>,
}

/// The demo of all tests.
pub(crate) fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(Demo::start)
}

/// `postern demo` with these arguments.
pub(crate) fn postern_demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

impl Demo {
    fn start() -> Self {
        let mut command = postern_demo(&["--", "sh", "-c", STAY]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines: Vec<_> = lines.take_while(|line| line != "ready").collect();
        lines.retain(|line| line.starts_with("POSTERN_"));
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        let environment: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert!(environment.contains_key("POSTERN_DEMO_CA"), "the demo did not start");
        Self { _process: process, environment }
    }

    /// What the demo's command finds in its environment.
    pub(crate) fn variable(&self, name: &str) -> &str {
        let value = self.environment.get(name);
        value.unwrap_or_else(|| panic!("no {name} among {:?}", self.environment.keys()))
    }

    /// The names of the services, as `POSTERN_URI_<SERVICE>` spells them.
    pub(crate) fn services(&self) -> Vec<&str> {
        let names = self.environment.keys();
        names.filter_map(|name| name.strip_prefix("POSTERN_URI_")).collect()
    }

    /// The service URI.
    pub(crate) fn uri(&self, service: &str) -> &str {
        self.variable(&format!("POSTERN_URI_{service}"))
    }

    /// The service URI with a new database in it.
    pub(crate) fn database(&self, service: &str, name: &str) -> String {
        let uri = self.uri(service);
        let create = format!("CREATE DATABASE {name}");
        let psql = Tools::debian().program("psql");
        stdout(&run(Command::new(psql).args(["-Xqc", &create, uri])));
        uri.replace("/app?", &format!("/{name}?"))
    }

    /// The same on the transaction endpoint.
    pub(crate) fn pooled_database(&self, service: &str, name: &str) -> String {
        self.database(service, name);
        let uri = self.variable(&format!("POSTERN_POOLED_URI_{service}"));
        uri.replace("/app?", &format!("/{name}?"))
    }

    /// A file that is printed for a service.
    pub(crate) fn snippet(&self, service: &str, file: &str) -> PathBuf {
        let directory = PathBuf::from(self.variable("POSTERN_DEMO_SNIPPETS"));
        directory.join(service.to_ascii_lowercase()).join(file)
    }
}

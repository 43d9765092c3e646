//! An etcd of one member, which keeps the leader key of a Patroni cluster on
//! this host.
//!
//! One member is right where all nodes are on one host: more would end with it
//! as well. Who may write its keys could have Patroni run anything, so etcd
//! takes a password; its own peers are spoken to over a socket in its
//! directory, so that it listens on one port of the loopback and nowhere else.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::domain::Secret;

use super::account::Account;
use super::error::{Doing as _, Error};
use super::http;
use super::patroni::private;
use super::program::Program;

/// For a start, on a busy host.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// etcd's own name for the user who may do everything, and for his role.
pub(super) const ROOT: &str = "root";

/// A running etcd, or one that is stopped.
#[derive(Debug)]
pub struct Etcd {
    port: u16,
    program: Program,
}

impl Etcd {
    /// Makes one of this program in this directory, which takes this password from now on, or
    /// anybody without one. Waits until it answers; the lock stays locked while
    /// it runs.
    pub fn create(
        program: &Path,
        directory: &Path,
        password: Option<&Secret<String>>,
        lock: Option<File>,
    ) -> Result<Self, Error> {
        let account = Account::for_servers()?;
        fs::create_dir_all(directory).doing("making", directory)?;
        account.give(directory)?;
        let port = super::builder::free_port();
        let file = config_file(directory);
        private(&file, &configuration(directory, port).to_string(), account)?;
        let etcd = Self::open(program, directory)?;
        etcd.start(lock)?;
        etcd.wait_until_ready()?;
        if let Some(password) = password {
            etcd.take_password(password)?;
        }
        Ok(etcd)
    }

    /// One that was made before, and is not started.
    pub(super) fn open(program: &Path, directory: &Path) -> Result<Self, Error> {
        let file = config_file(directory);
        let read = fs::read_to_string(&file).doing("reading", &file)?;
        let port = super::patroni::port_in(&read, &["listen-client-urls"]);
        let port = port.ok_or_else(|| Error::Unreadable { file: file.clone() })?;
        let argv = [program.into(), "--config-file".into(), file.into()];
        let program = Program::new(argv.into(), directory, Account::for_servers()?);
        Ok(Self { port, program })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, unless it runs; the lock stays locked while it does.
    pub fn start(&self, lock: Option<File>) -> Result<(), Error> {
        self.program.start(None, lock)
    }

    /// Stops it.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Signals it: `KILL` is a crash, `STOP` a host that hangs.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.program.signal(signal)
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Waits until it answers.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        let start = Instant::now();
        while !matches!(http::get(self.port, "/health"), Ok(200)) {
            if self.program.has_died() || start.elapsed() > READY_WITHIN {
                return Err(Error::Program { name: "etcd", log: self.program.last_words() });
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn take_password(&self, password: &Secret<String>) -> Result<(), Error> {
        let user = json!({ "name": ROOT, "password": password.expose() }).to_string();
        let role = json!({ "name": ROOT }).to_string();
        let grant = json!({ "user": ROOT, "role": ROOT }).to_string();
        let orders = [
            ("/v3/auth/user/add", &*user),
            ("/v3/auth/role/add", &*role),
            ("/v3/auth/user/grant", &*grant),
            ("/v3/auth/enable", "{}"),
        ];
        orders.into_iter().try_for_each(|(path, order)| {
            let (status, answer) = http::post(self.port, path, order).doing("telling", "etcd")?;
            if status == 200 { Ok(()) } else { Err(Error::Program { name: "etcd", log: answer }) }
        })
    }
}

fn config_file(directory: &Path) -> PathBuf {
    directory.join("etcd.yml")
}

/// JSON, which is YAML too and knows what to quote.
fn configuration(directory: &Path, port: u16) -> serde_json::Value {
    let client = format!("http://127.0.0.1:{port}");
    // Nobody goes there: the only member is this one.
    let peer = "http://127.0.0.1:2380";
    json!({
        "name": "local",
        "data-dir": directory.join("data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        // A socket in the directory that it works in, called "peer:0".
        "listen-peer-urls": "unix://peer:0",
        "initial-advertise-peer-urls": peer,
        "initial-cluster": format!("local={peer}"),
        // Patroni speaks to it in JSON.
        "enable-grpc-gateway": true,
        // Patroni writes every other second: what was before is forgotten.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "logger": "zap",
        "log-level": "warn",
        "log-outputs": ["stderr"],
    })
}

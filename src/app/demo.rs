//! `postern demo`: real PostgreSQL nodes in a temporary directory, Postern in
//! front of them, and URIs that work as printed.
//!
//! What it makes is what an operator would make: roles by the SQL of `postern
//! node sql`, a configuration file, certificates. It listens on the loopback
//! only, and leaves nothing behind.

mod nodes;
mod snippets;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use aws_lc_rs::rand;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use tokio::signal::unix::{SignalKind, signal};

use super::assembly::{Postern, Runtimes};
use super::cli::DemoOptions;
use super::{Failure, certificate};
use crate::control::config;
use nodes::Nodes;
use snippets::Snippets;

/// The ports taken if they are free.
const SESSION_PORT: u16 = 15432;
const TRANSACTION_PORT: u16 = 16432;
/// The domain of the demo's host names: `.localhost` never leaves the host.
const DOMAIN: &str = "db.localhost";

/// Runs the demo; exits with the status of the command it was given.
#[must_use]
pub fn run(options: DemoOptions) -> ExitCode {
    match Demo::start(&options).and_then(|demo| demo.stay(&options.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("postern demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs, in the order in which it is stopped.
struct Demo {
    postern: Postern,
    snippets: Snippets,
    runtimes: Runtimes,
    _nodes: Nodes,
    _root: tempfile::TempDir,
}

/// Where the demo listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) session: u16,
    pub(super) transaction: u16,
}

impl Demo {
    fn start(options: &DemoOptions) -> Result<Self, Failure> {
        let ports = Ports {
            session: choose_port(options.session_port, SESSION_PORT)?,
            transaction: choose_port(options.transaction_port, TRANSACTION_PORT)?,
        };
        let root = tempfile::Builder::new().prefix("postern-demo-").tempdir()?;
        let tls = root.path().join("tls");
        let names = ["localhost", "127.0.0.1", "::1", DOMAIN, &format!("*.{DOMAIN}")];
        certificate::write(&tls, "Postern demo authority", &names)?;
        let nodes = Nodes::start(&tls)?;
        progress("starting Postern");
        let settings = configuration(root.path(), &nodes, ports)?;
        let runtimes = Runtimes::new(&settings)?;
        let postern = Postern::start(&settings, None, &runtimes)?;
        let snippets = Snippets::write(root.path(), &nodes, ports)?;
        Ok(Self { postern, snippets, runtimes, _nodes: nodes, _root: root })
    }

    fn stay(self, command: &[std::ffi::OsString]) -> Result<ExitCode, Failure> {
        let code = match command.split_first() {
            None => {
                println!("{}", self.snippets);
                println!("Ctrl-C stops everything.");
                self.runtimes.control.block_on(interrupted())?;
                eprintln!();
                ExitCode::SUCCESS
            }
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).envs(self.snippets.environment());
                exit_code(self.wait_for(command)?)
            }
        };
        progress("stopping");
        self.runtimes.control.block_on(self.postern.stop());
        Ok(code)
    }

    /// Waits for the command. The terminal's Ctrl-C reaches it as well; the
    /// demo goes on until it has ended.
    fn wait_for(&self, mut command: Command) -> Result<ExitStatus, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let ignored = self.runtimes.control.spawn(async {
            loop {
                if interrupted().await.is_err() {
                    return;
                }
            }
        });
        let status = command.status();
        ignored.abort();
        status.map_err(|error| Failure::new(format!("{program}: {error}")))
    }
}

async fn interrupted() -> std::io::Result<()> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}

/// As a shell: the command's own status, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A port that was asked for must be free; of the others, the preferred one if
/// it is.
fn choose_port(asked: Option<u16>, preferred: u16) -> Result<u16, Failure> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match asked {
        Some(port) => match bind(port) {
            Ok(_) => Ok(port),
            Err(error) => Err(Failure::new(format!("port {port} cannot be used: {error}"))),
        },
        None => {
            let listener = bind(preferred).or_else(|_| bind(0))?;
            Ok(listener.local_addr()?.port())
        }
    }
}

/// Writes the configuration an operator would write, and reads it.
fn configuration(root: &Path, nodes: &Nodes, ports: Ports) -> Result<config::Settings, Failure> {
    let mut text = format!(
        "[listen]\n\
         session = [\"127.0.0.1:{session}\", \"[::1]:{session}\"]\n\
         transaction = [\"127.0.0.1:{transaction}\", \"[::1]:{transaction}\"]\n\
         [tls]\n\
         certificate = \"tls/server.crt\"\n\
         key = \"tls/server.key\"\n\
         [auth]\n\
         secret_file = \"secret\"\n\
         [routing]\n\
         domains = [\"{DOMAIN}\"]\n\
         [metrics]\n\
         listen = \"127.0.0.1:{metrics}\"\n\
         [admin]\n\
         socket = \"admin.sock\"\n\
         [log]\n\
         level = \"warn\"\n",
        session = ports.session,
        transaction = ports.transaction,
        metrics = choose_port(None, 9127)?,
    );
    if !has_ipv6() {
        text = text.replace(&format!(", \"[::1]:{}\"", ports.session), "");
        text = text.replace(&format!(", \"[::1]:{}\"", ports.transaction), "");
    }
    for service in nodes.services() {
        let password_file = root.join(format!("{}.password", service.name));
        write_private(&password_file, &service.management_password)?;
        text.push_str(&service.configuration(&password_file));
    }
    let path = root.join("postern.toml");
    write_private(&path, &text)?;
    config::load(&path).map_err(|problems| Failure::new(problems.to_string()))
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

fn write_private(path: &PathBuf, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(file.and_then(|mut file| file.write_all(text.as_bytes()))?)
}

/// A password that needs no quoting anywhere.
fn random_password() -> String {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).expect("the system provides random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Progress goes to the standard error, so that a command's output is its own.
fn progress(what: &str) {
    eprintln!("postern demo: {what}");
}

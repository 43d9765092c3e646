//! `postern demo`: real PostgreSQL nodes in a temporary directory, Postern in
//! front of them, and URIs that work as printed.
//!
//! What it makes is what an operator would make: roles by the SQL of `postern
//! node sql`, a configuration file, certificates. It listens on the loopback
//! only, and leaves nothing behind.

mod failover;
mod keys;
mod nodes;
mod ports;
mod snippets;

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use aws_lc_rs::rand;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};

use super::assembly::{Postern, Runtimes};
use super::cli::DemoOptions;
use super::{Failure, certificate};
use crate::cluster::TemporaryDirectory;
use crate::control::config;
use failover::fail_over;
use keys::Keys;
use nodes::{DemoService, Nodes};
use ports::{Ports, Reserved, has_ipv6};
use snippets::Snippets;

/// The domain of the demo's host names: `.localhost` never leaves the host.
const DOMAIN: &str = "db.localhost";
/// The configuration's file.
const CONFIG: &str = "postern.toml";

/// Runs the demo; exits with the status of the command it was given.
#[must_use]
pub fn run(options: &DemoOptions) -> ExitCode {
    match Demo::start(options).and_then(|demo| demo.stay(options)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("postern demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The service that has a standby, from the moment that somebody wants to see
/// it fail over.
type Shop = Option<Arc<DemoService>>;

/// Everything that runs, in the order in which it is stopped.
struct Demo {
    postern: Postern,
    snippets: Snippets,
    runtimes: Runtimes,
    _nodes: Nodes,
    transaction_port: u16,
    root: TemporaryDirectory,
}

impl Demo {
    fn start(options: &DemoOptions) -> Result<Self, Failure> {
        let reserved = Reserved::choose(options)?;
        let ports = reserved.numbers;
        let root = TemporaryDirectory::create("postern-demo-")
            .map_err(|error| Failure::new(error.to_string()))?;
        let tls = root.path().join("tls");
        let names = ["localhost", "127.0.0.1", "::1", DOMAIN, &format!("*.{DOMAIN}")];
        certificate::write(&tls, "Postern demo authority", &names)?;
        let nodes = Nodes::start(&tls)?;
        progress("starting Postern");
        let settings = configuration(root.path(), &nodes, ports)?;
        let runtimes = Runtimes::new(&settings)?;
        let config = root.path().join(CONFIG);
        let turn = reserved.let_go()?;
        let postern = Postern::start(&settings, Some(&config), &runtimes)?;
        drop(turn);
        let snippets = Snippets::write(root.path(), &nodes, ports)?;
        Ok(Self {
            postern,
            snippets,
            runtimes,
            _nodes: nodes,
            transaction_port: ports.transaction,
            root,
        })
    }

    fn stay(self, options: &DemoOptions) -> Result<ExitCode, Failure> {
        let mut shop = None;
        let code = self.runtimes.control.block_on(async {
            let mut signals = Signals::new()?;
            match options.command.split_first() {
                None => {
                    let ended = tokio::select! {
                        ended = self.show(options.failover, &mut shop) => ended,
                        _ = signals.next() => Ok(()),
                    };
                    eprintln!();
                    ended.map(|()| ExitCode::SUCCESS)
                }
                Some((program, arguments)) => {
                    let mut command = Command::new(program);
                    command.args(arguments).envs(self.snippets.environment());
                    let status = run_to_its_end(command, &mut signals).await;
                    let name = program.to_string_lossy();
                    status.map(exit_code).map_err(|e| Failure::new(format!("{name}: {e}")))
                }
            }
        });
        progress("stopping");
        self.runtimes.control.block_on(self.postern.stop());
        code
    }

    /// Shows one failover, or prints everything and shows one with every Enter.
    async fn show(&self, failover: bool, shop: &mut Shop) -> Result<(), Failure> {
        if failover {
            return self.fail_over(shop).await;
        }
        println!("{}", self.snippets);
        println!(
            "Enter shows a failover: a service with a standby, its primary killed under load."
        );
        println!("Ctrl-C stops everything.");
        let mut keys = Keys::read();
        loop {
            keys.enter().await;
            self.fail_over(shop).await?;
            println!("Enter shows it again, the other way round. Ctrl-C stops everything.");
        }
    }

    async fn fail_over(&self, shop: &mut Shop) -> Result<(), Failure> {
        let shop = match shop {
            Some(shop) => shop,
            None => shop.insert(Arc::new(self.start_shop().await?)),
        };
        fail_over(shop, self.transaction_port).await
    }

    /// The service comes while Postern runs, as a customer's does.
    async fn start_shop(&self) -> Result<DemoService, Failure> {
        let tls = self.root.path().join("tls");
        let shop = blocking(move || DemoService::start_shop(&tls)).await?;
        declare(self.root.path(), &shop)?;
        let reloaded = self.postern.reload().await;
        reloaded.map_err(|problems| Failure::new(problems.join("\n")))?;
        println!("{}", self.snippets.uris(&shop));
        Ok(shop)
    }
}

/// Runs what blocks where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(error.to_string())))
}

/// What asks the demo to stop.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

enum Asked {
    ByTheTerminal,
    ByAProcess,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::ByTheTerminal,
            _ = self.terminate.recv() => Asked::ByAProcess,
        }
    }
}

/// Waits for the command, which decides when to end: the terminal's Ctrl-C
/// reaches it anyway, and SIGTERM is handed on.
async fn run_to_its_end(
    mut command: Command,
    signals: &mut Signals,
) -> std::io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            asked = signals.next() => match asked {
                Asked::ByTheTerminal => {}
                Asked::ByAProcess => terminate(&child),
            },
        }
    }
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    // One that has just ended needs no signal.
    let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
}

/// As a shell: the command's own status, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
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
        metrics = ports.metrics,
    );
    if !has_ipv6() {
        text = text.replace(&format!(", \"[::1]:{}\"", ports.session), "");
        text = text.replace(&format!(", \"[::1]:{}\"", ports.transaction), "");
    }
    let path = root.join(CONFIG);
    write_private(&path, &text)?;
    nodes.services().iter().try_for_each(|service| declare(root, service))?;
    config::load(&path).map_err(|problems| Failure::new(problems.to_string()))
}

/// Adds a service to the configuration.
fn declare(root: &Path, service: &DemoService) -> Result<(), Failure> {
    let password_file = root.join(format!("{}.password", service.name));
    write_private(&password_file, &service.management_password)?;
    let text = service.configuration(&password_file);
    let mut file = fs::OpenOptions::new().append(true).open(root.join(CONFIG))?;
    Ok(file.write_all(text.as_bytes())?)
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

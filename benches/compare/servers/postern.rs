//! Postern's release binary, as a process of its own.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::{MANAGEMENT, MANAGEMENT_PASSWORD, Stage};
use super::write_private;
use crate::Fallible;
use crate::point::{Endpoint, KeyType, POOL_SIZE};
use crate::process::Process;

/// More than any point needs of a session endpoint.
const PLAN_CONNECTIONS: u32 = 400;

/// The binary, and what it can do.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    pub version: String,
    /// Whether clients of the transaction endpoint share connections.
    pub pools: bool,
}

impl Program {
    /// `POSTERN_BENCH_POSTERN`, or the release build. `scratch` is a directory
    /// to try things in.
    pub fn find(scratch: &Path) -> Fallible<Self> {
        let named = env::var_os("POSTERN_BENCH_POSTERN").map(PathBuf::from);
        let built = named.unwrap_or_else(|| "target/release/postern".into());
        // A build that goes on meanwhile must not change what is compared.
        let path = scratch.join("postern");
        fs::copy(&built, &path).map_err(|error| format!("{}: {error}", built.display()))?;
        let output = Command::new(&path).arg("--version").output()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let pools = knows_pool_size(&path, scratch)?;
        Ok(Self { path, version, pools })
    }
}

/// Asks `postern check`, whose list of problems would name the unknown key.
fn knows_pool_size(path: &Path, scratch: &Path) -> Fallible<bool> {
    let file = scratch.join("pool-size.toml");
    write_private(&file, "[[services]]\npool_size = 20\n")?;
    let output = Command::new(path).arg("check").arg("--config").arg(&file).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(!String::from_utf8_lossy(&said).contains("pool_size"))
}

/// A running Postern.
#[derive(Debug)]
pub struct Postern {
    pub process: Process,
    pub address: SocketAddr,
}

impl Postern {
    pub fn start(stage: &Stage, workers: u32, endpoint: Endpoint, key: KeyType) -> Fallible<Self> {
        let directory = stage.directory().join(format!("postern-{workers}"));
        fs::create_dir_all(&directory)?;
        write_private(&directory.join("management.password"), MANAGEMENT_PASSWORD)?;
        write_private(&directory.join("plans.toml"), &plans())?;
        let (session, transaction) = (stage.ports.free()?, stage.ports.free()?);
        let path = directory.join("postern.toml");
        write_private(&path, &configuration(stage, workers, key, session, transaction))?;
        let address = match endpoint {
            Endpoint::Session => session,
            Endpoint::Transaction => transaction,
        };
        let arguments = [OsStr::new("serve"), OsStr::new("--config"), path.as_os_str()];
        let log = directory.join("log");
        let mut process = Process::start(&stage.postern.path, &arguments, None, &log)?;
        process.wait_until_listening(address).map_err(|error| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("postern: {error}\n{log}")
        })?;
        Ok(Self { process, address })
    }
}

/// As it is printed with the results.
pub fn configuration(
    stage: &Stage,
    workers: u32,
    key: KeyType,
    session: SocketAddr,
    transaction: SocketAddr,
) -> String {
    let certificate = stage.certificates.certificate(key);
    let pool_size =
        if stage.postern.pools { format!("pool_size = {POOL_SIZE}\n") } else { String::new() };
    format!(
        r#"[runtime]
workers = {workers}
[listen]
session = ["{session}"]
transaction = ["{transaction}"]
[tls]
mode = "allow"
certificate = "{certificate}"
key = "{key}"
[auth]
secret_file = "secret"
[routing]
default_service = "bench"
[metrics]
listen = ""
[admin]
socket = "admin.sock"
[limits]
max_unauthenticated_per_address = 0
[plans]
file = "plans.toml"
[[services]]
name = "bench"
kind = "postgresql"
plan = "bench"
nodes = ["{node}"]
node_tls = "disable"
{pool_size}management = {{ user = "{MANAGEMENT}", password_file = "management.password" }}
"#,
        certificate = certificate.display(),
        key = stage.certificates.key(key).display(),
        node = stage.server(),
    )
}

fn plans() -> String {
    format!(
        "[[plans]]\nname = \"bench\"\nmax_connections = {PLAN_CONNECTIONS}\nnodes = 1\n\
         backup_retention_days = 0\nmulti_az = false\navailability = \"none\"\n"
    )
}

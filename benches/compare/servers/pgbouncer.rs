//! `PgBouncer`, as a process of its own. It refuses to run as root.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::{Stage, USER};
use super::write_private;
use crate::Fallible;
use crate::point::{Endpoint, KeyType, POOL_SIZE};
use crate::process::{Process, User};

/// As many as Postern's plan has.
const SESSION_CONNECTIONS: u32 = 400;

/// The program, and what it can do.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// The first line of `--version`: `PgBouncer 1.18.0`.
    pub version: String,
    user: Option<User>,
}

impl Program {
    /// `POSTERN_BENCH_PGBOUNCER`, or Debian's.
    pub fn find() -> Fallible<Self> {
        let named = env::var_os("POSTERN_BENCH_PGBOUNCER").map(PathBuf::from);
        let path = named.unwrap_or_else(|| "/usr/sbin/pgbouncer".into());
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = said.lines().next().unwrap_or_default().to_owned();
        Ok(Self { path, version, user: user_for_servers()? })
    }

    /// Since 1.21 it keeps prepared statements in transaction mode.
    pub fn prepares(&self) -> bool {
        let number = self.version.split_whitespace().nth(1).unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        (parts.next(), parts.next()) >= (Some(1), Some(21))
    }
}

/// `postgres` where we are root.
fn user_for_servers() -> Fallible<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.ok_or("no user postgres")?.split(':').skip(2);
    let mut next = || fields.next().unwrap_or_default().parse();
    Ok(Some(User { uid: next()?, gid: next()? }))
}

/// A running `PgBouncer`.
#[derive(Debug)]
pub struct PgBouncer {
    pub process: Process,
    pub address: SocketAddr,
}

impl PgBouncer {
    pub fn start(stage: &Stage, endpoint: Endpoint, key: KeyType) -> Fallible<Self> {
        let program = &stage.pgbouncer;
        let address = stage.ports.free()?;
        let directory = stage.directory().join("pgbouncer");
        fs::create_dir_all(&directory)?;
        let certificate = fs::read_to_string(stage.certificates.certificate(key))?;
        let key = fs::read_to_string(stage.certificates.key(key))?;
        let path = directory.join("pgbouncer.ini");
        write_private(&directory.join("server.crt"), &certificate)?;
        write_private(&directory.join("server.key"), &key)?;
        write_private(&directory.join("users"), &format!("\"{USER}\" \"{}\"\n", stage.verifier))?;
        write_private(&path, &configuration(stage, endpoint, address))?;
        give(&directory, program.user)?;
        let log = directory.join("stderr");
        let arguments: [&OsStr; 1] = [path.as_os_str()];
        let mut process = Process::start(&program.path, &arguments, program.user, &log)?;
        process.wait_until_listening(address).map_err(|error| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("pgbouncer: {error}\n{log}")
        })?;
        Ok(Self { process, address })
    }
}

/// As it is printed with the results.
pub fn configuration(stage: &Stage, endpoint: Endpoint, address: SocketAddr) -> String {
    let (mode, size) = match endpoint {
        Endpoint::Session => ("session", SESSION_CONNECTIONS),
        Endpoint::Transaction => ("transaction", POOL_SIZE),
    };
    let prepared = if stage.pgbouncer.prepares() { "max_prepared_statements = 200\n" } else { "" };
    format!(
        r"[databases]
{USER} = host=127.0.0.1 port={port} dbname={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 10000
{prepared}client_tls_sslmode = allow
client_tls_cert_file = {directory}/server.crt
client_tls_key_file = {directory}/server.key
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
logfile = {directory}/log
",
        port = stage.server().port(),
        listen = address.port(),
        directory = stage.directory().join("pgbouncer").display(),
    )
}

/// Gives a directory and its files to a user.
fn give(directory: &Path, user: Option<User>) -> Fallible<()> {
    let Some(User { uid, gid }) = user else {
        return Ok(());
    };
    for entry in fs::read_dir(directory)? {
        chown(entry?.path(), Some(uid), Some(gid))?;
    }
    Ok(chown(directory, Some(uid), Some(gid))?)
}

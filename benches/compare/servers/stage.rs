//! The PostgreSQL server that all contenders work on, and what they share.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use postern::auth::client::{Keys, derive_keys};
use postern::auth::verifier::Verifier;
use postern::cluster::{Cluster, Installation, Installations, TemporaryDirectory};
use postern::control::management::node_sql;

use super::certificates::Certificates;
use super::pgbouncer;
use super::postern as under_test;
use crate::Fallible;
use crate::point::KeyType;
use crate::process::Ports;

/// The role and the database of all clients.
pub const USER: &str = "bench";
pub const PASSWORD: &str = "bench-secret";
/// The management role of Postern.
pub const MANAGEMENT: &str = "postern";
pub const MANAGEMENT_PASSWORD: &str = "management-secret";

/// More than the 20 server connections: TPC-B should wait for the pool, not for
/// the row of another client's branch.
const SCALE: &str = "40";

/// What stays for the whole run. Dropped, it leaves nothing behind.
pub struct Stage {
    pub ports: Ports,
    pub certificates: Certificates,
    pub pgbouncer: pgbouncer::Program,
    pub postern: under_test::Program,
    /// What PostgreSQL keeps of the clients' password.
    pub verifier: String,
    // Before the directory, so that it is gone first.
    cluster: Cluster,
    directory: TemporaryDirectory,
}

impl Stage {
    pub fn start() -> Fallible<Self> {
        raise_descriptor_limit()?;
        let installations = Installations::find()?;
        let directory = TemporaryDirectory::create("postern-bench-")?;
        // PgBouncer refuses root, and runs as a user who must find its files.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711))?;
        let certificates = Certificates::make(directory.path())?;
        let cluster = start_cluster(installations.postgresql()?, &certificates)?;
        fill(&cluster)?;
        let lookup = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'");
        let verifier = cluster.psql(&lookup)?;
        Ok(Self {
            ports: Ports::new(),
            pgbouncer: pgbouncer::Program::find()?,
            postern: under_test::Program::find(directory.path())?,
            verifier,
            certificates,
            cluster,
            directory,
        })
    }

    pub fn server(&self) -> SocketAddr {
        self.cluster.address()
    }

    pub fn installation(&self) -> &Installation {
        self.cluster.installation()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The clients' keys, so that thousands of logins cost one derivation.
    pub fn client_keys(&self) -> Fallible<Keys> {
        let verifier =
            Verifier::parse(&self.verifier).ok_or("the password is not kept as SCRAM")?;
        let iterations = verifier.iterations.try_into()?;
        Ok(derive_keys(PASSWORD, &verifier.salt, iterations))
    }
}

fn raise_descriptor_limit() -> Fallible<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

fn start_cluster(installation: &Installation, certificates: &Certificates) -> Fallible<Cluster> {
    let certificate = fs::read_to_string(certificates.certificate(KeyType::Ecdsa))?;
    let key = fs::read_to_string(certificates.key(KeyType::Ecdsa))?;
    let role = format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'");
    let management =
        format!("ALTER ROLE {MANAGEMENT} CONNECTION LIMIT -1 PASSWORD '{MANAGEMENT_PASSWORD}'");
    let started = Cluster::builder(installation)
        .durable(false)
        .max_connections(500)
        .setting("shared_buffers", "1GB")
        .setting("max_wal_size", "8GB")
        .setting("autovacuum", "off")
        .tls(certificate, key)
        .sql("postgres", node_sql(MANAGEMENT))
        .sql("postgres", management)
        .sql("postgres", role)
        .sql("postgres", format!("CREATE DATABASE {USER} OWNER {USER}"))
        .start();
    Ok(started?)
}

/// pgbench's tables, and one that COPY writes to.
fn fill(cluster: &Cluster) -> Fallible<()> {
    let mut pgbench = cluster.client("pgbench", USER);
    let output = pgbench.args(["--initialize", "--quiet", "--scale", SCALE]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    cluster.psql_in(USER, "CREATE UNLOGGED TABLE copied (line text)")?;
    cluster.psql_in(USER, &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {USER}"))?;
    cluster.psql_in(USER, "CHECKPOINT")?;
    Ok(())
}

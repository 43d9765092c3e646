//! The servers that all tests share, and what each test has for itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postern::app::assembly::{Postern, Runtimes};
use postern::app::certificate;
use postern::cluster::{Cluster, Installations};
use postern::control::config::{self, Settings};
use postern::control::management::node_sql;
use rustix::process::{Pid, Signal, kill_process};

pub use super::program::run;

/// The program itself.
pub const POSTERN: &str = env!("CARGO_BIN_EXE_postern");

pub const MANAGEMENT: &str = "postern";
pub const MANAGEMENT_PASSWORD: &str = "management-secret";

/// The directory with the tests' certificates: `ca.crt`, `server.crt`,
/// `server.key`.
pub fn certificates() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let names = ["localhost", "127.0.0.1", "::1", "*.db.example.com"];
            certificate::write(dir.path(), "Postern tests", &names).unwrap();
            dir
        })
        .path()
}

/// The PostgreSQL server that all tests share: TLS, SCRAM, plenty of room.
pub fn server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| start_server(Installations::find().unwrap().postgresql().unwrap()))
}

/// The server with pgvector that all tests share.
pub fn vector_server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| start_server(Installations::find().unwrap().vector().unwrap()))
}

/// A server for one test that does things to it.
pub fn start_server(installation: &postern::cluster::Installation) -> Cluster {
    server_builder(installation).start().unwrap()
}

/// The same, to be configured further.
pub fn server_builder(installation: &postern::cluster::Installation) -> postern::cluster::Builder {
    let mut builder = Cluster::builder(installation)
        .durable(false)
        .max_connections(500)
        .sql("postgres", node_sql(MANAGEMENT))
        .sql("postgres", format!("ALTER ROLE {MANAGEMENT} PASSWORD '{MANAGEMENT_PASSWORD}'"))
        // Every test's Postern has a management connection of its own.
        .sql("postgres", format!("ALTER ROLE {MANAGEMENT} CONNECTION LIMIT -1"));
    if installation.has_tls() {
        let read = |name| std::fs::read_to_string(certificates().join(name)).unwrap();
        builder = builder.tls(read("server.crt"), read("server.key"));
    }
    builder
}

/// One test's Postern, with a role and a database of its own.
pub struct Stage {
    pub postern: Option<Postern>,
    pub runtimes: Option<Runtimes>,
    pub role: String,
    pub directory: tempfile::TempDir,
    pub session_port: u16,
    pub transaction_port: u16,
    pub metrics_port: u16,
    audit: Audit,
}

/// How a test's Postern differs from the usual one.
pub struct Wanted<'a> {
    pub plan: &'a str,
    pub kind: &'a str,
    pub allowlist: &'a str,
    pub server: Option<&'a Cluster>,
    /// Replaces the address of the server.
    pub node: Option<String>,
    /// Lines for any section: `("limits", "max_clients = 5")`.
    pub settings: &'a [(&'a str, &'a str)],
    /// Further `[[services]]`.
    pub further: &'a str,
    /// Whether hand-overs are audited, and what that may find.
    pub audit: Audit,
}

/// Whether every hand-over of a pooled connection is audited (decision 28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// It is, and nothing may be found.
    Clean,
    /// It is, and something may be found.
    Found,
    /// It is not.
    Off,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            plan: "startup-4",
            kind: "postgresql",
            allowlist: "[\"0.0.0.0/0\", \"::/0\"]",
            server: None,
            node: None,
            settings: &[],
            further: "",
            audit: Audit::Off,
        }
    }
}

pub const PASSWORD: &str = "client-secret";

impl Stage {
    pub fn usual() -> Self {
        Self::new(&Wanted::default())
    }

    pub fn new(wanted: &Wanted<'_>) -> Self {
        let server = wanted.server.unwrap_or_else(|| server());
        let role = make_role(server);
        let directory = tempfile::tempdir().unwrap();
        let [session_port, transaction_port, metrics_port] = free_ports();
        let mut stage = Self {
            postern: None,
            runtimes: None,
            role,
            directory,
            session_port,
            transaction_port,
            metrics_port,
            audit: wanted.audit,
        };
        let node = wanted.node.clone().unwrap_or_else(|| server.address().to_string());
        let text = stage.configuration(wanted, &node);
        stage.write_configuration(&text);
        stage.start();
        stage
    }

    /// The usual one with these lines: `("limits", "max_clients = 5")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::new(&Wanted { settings, ..Wanted::default() })
    }

    /// The same, on this plan.
    pub fn on_plan(plan: &str, settings: &[(&str, &str)]) -> Self {
        Self::new(&Wanted { plan, settings, ..Wanted::default() })
    }

    fn start(&mut self) {
        let settings = self.settings();
        let runtimes = Runtimes::new(&settings).unwrap();
        let config = self.config_path();
        self.postern = Some(Postern::start(&settings, Some(&config), &runtimes).unwrap());
        self.runtimes = Some(runtimes);
    }

    /// Another process would find the same on the disk.
    pub fn restart(&mut self) {
        let (postern, runtimes) = (self.postern.take().unwrap(), self.runtimes.take().unwrap());
        runtimes.control.block_on(postern.stop());
        runtimes.shutdown_background();
        self.start();
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("postern.toml")
    }

    pub fn settings(&self) -> Settings {
        config::load(&self.config_path()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub fn write_configuration(&self, text: &str) {
        std::fs::write(self.config_path(), text).unwrap();
    }

    pub fn edit_configuration(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config_path()).unwrap();
        self.write_configuration(&edit(text));
    }

    fn configuration(&self, wanted: &Wanted<'_>, node: &str) -> String {
        let password_file = self.directory.path().join("management.password");
        write_private(&password_file, MANAGEMENT_PASSWORD);
        let section = |name: &str| -> String {
            let lines = wanted.settings.iter().filter(|(section, _)| *section == name);
            lines.flat_map(|(_, line)| [*line, "\n"]).collect()
        };
        let certificates = certificates().display();
        let (session, transaction) = (self.session_port, self.transaction_port);
        let (kind, plan, allowlist) = (wanted.kind, wanted.plan, wanted.allowlist);
        let dir = self.directory.path().display();
        format!(
            r#"[listen]
session = ["127.0.0.1:{session}", "[::1]:{session}", "{dir}:{session}"]
transaction = ["127.0.0.1:{transaction}"]
{listen}
[tls]
certificate = "{certificates}/server.crt"
key = "{certificates}/server.key"
{tls}
[auth]
secret_file = "secret"
[routing]
domains = ["db.example.com"]
{routing}
[metrics]
listen = "127.0.0.1:{metrics}"
[admin]
socket = "admin.sock"
[limits]
max_unauthenticated_per_address = 0
{limits}
[timeouts]
{timeouts}
[[services]]
name = "orders"
kind = "{kind}"
plan = "{plan}"
allowlist = {allowlist}
nodes = ["{node}"]
audit_every = {audit_every}
{service}
management = {{ user = "{MANAGEMENT}", password_file = "management.password" }}
{further}
"#,
            metrics = self.metrics_port,
            listen = section("listen"),
            tls = section("tls"),
            routing = section("routing"),
            limits = section("limits"),
            timeouts = section("timeouts"),
            service = section("services"),
            audit_every = u8::from(wanted.audit != Audit::Off),
            further = wanted.further,
        )
    }

    pub fn postern(&self) -> &Postern {
        self.postern.as_ref().unwrap()
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtimes.as_ref().unwrap().control.block_on(future)
    }

    /// A service URI over TLS, verified.
    pub fn uri(&self, rest: &str) -> String {
        let (role, port) = (&self.role, self.session_port);
        let ca = certificates().join("ca.crt");
        format!(
            "postgresql://{role}:{PASSWORD}@localhost:{port}/{role}?sslmode=verify-full\
             &sslrootcert={}&options=service%3Dorders{rest}",
            ca.display()
        )
    }

    /// A service URI without TLS.
    pub fn plain_uri(&self, rest: &str) -> String {
        let (role, port) = (&self.role, self.session_port);
        format!(
            "postgresql://{role}.orders:{PASSWORD}@127.0.0.1:{port}/{role}?sslmode=disable{rest}"
        )
    }

    /// `tokio-postgres`'s configuration for the service, without TLS.
    pub fn client_config(&self) -> tokio_postgres::Config {
        self.plain_uri("").parse().unwrap()
    }

    /// Connects with `tokio-postgres` and drives the connection.
    pub async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = self.client_config().connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// What the metrics page says of a series that counts.
    pub fn metric(&self, name: &str) -> u64 {
        let page = http_get(self.metrics_port, "/metrics");
        let sample = |line: &str| -> Option<u64> {
            let (series, value) = line.rsplit_once(' ')?;
            (!line.starts_with('#') && parts(series) == parts(name)).then(|| value.parse().unwrap())
        };
        page.lines().find_map(sample).unwrap_or_else(|| panic!("no {name} in:\n{page}"))
    }
}

/// `postern serve` as a process, with the stage's service.
pub struct Served {
    pub process: Child,
    pub session_port: u16,
    pub transaction_port: u16,
    pub config: PathBuf,
    log: PathBuf,
}

impl Served {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Stage {
    /// A second Postern beside the test's own, once it listens.
    pub fn serve(&self) -> Served {
        let [session_port, transaction_port, metrics] = free_ports();
        let text = std::fs::read_to_string(self.config_path()).unwrap();
        let text = text
            .replace(&self.session_port.to_string(), &session_port.to_string())
            .replace(&self.transaction_port.to_string(), &transaction_port.to_string())
            .replace(&self.metrics_port.to_string(), &metrics.to_string())
            .replace("admin.sock", "second.sock");
        let config = self.directory.path().join("second.toml");
        std::fs::write(&config, text).unwrap();
        let log = self.directory.path().join("log");
        let process = Command::new(POSTERN)
            .args(["serve", "--config"])
            .arg(&config)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut served = Served { process, session_port, transaction_port, config, log };
        eventually("postern to serve", || {
            let ended = served.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", served.log());
            std::net::TcpStream::connect(("127.0.0.1", session_port)).is_ok()
        });
        served
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let (Some(postern), Some(runtimes)) = (self.postern.take(), self.runtimes.take()) {
            if self.audit == Audit::Clean && !std::thread::panicking() {
                let found = postern.door().metrics.mismatches(&"orders".parse().unwrap());
                assert_eq!(found, 0, "server connections were not as they were believed to be");
            }
            runtimes.control.block_on(postern.stop());
            runtimes.shutdown_background();
        }
    }
}

/// A series' name and labels, in any order.
fn parts(series: &str) -> Vec<&str> {
    let mut parts: Vec<_> = series.split(['{', ',', '}']).collect();
    parts.sort_unstable();
    parts
}

/// A role with a database of its own on this server.
pub fn make_role(server: &Cluster) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let role = format!("role_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    server.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    server.psql(&format!("CREATE DATABASE {role} OWNER {role}")).unwrap();
    role
}

pub fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Ports below the range from which connections get theirs, each handed out
/// once in this process.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = 8000 + (std::process::id() % 40) * 200;
    std::array::from_fn(|_| {
        loop {
            let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
            let port = u16::try_from(port).unwrap();
            let free = |host: &str| std::net::TcpListener::bind((host, port)).is_ok();
            if free("127.0.0.1") && free("::1") {
                return port;
            }
        }
    })
}

/// A GET over HTTP; the body.
pub fn http_get(port: u16, path: &str) -> String {
    http_get_status(port, path).1
}

/// A GET over HTTP: status and body.
pub fn http_get_status(port: u16, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// Runs psql of the newest installation that knows TLS.
pub fn psql(uri: &str, sql: &str) -> Output {
    let psql = Installations::find().unwrap().postgresql().unwrap().program("psql");
    run(Command::new(psql).args(["-XAtq", "-v", "ON_ERROR_STOP=1", uri, "-c", sql]))
}

/// The standard output of a program that must succeed.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until something is true; panics with `what` if it is not in time.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

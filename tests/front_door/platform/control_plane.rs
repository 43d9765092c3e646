//! A Postern with a catalogue: `postern serve` as a process, its API, its
//! command line, and servers for its inventory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use postern::cluster::{Cluster, Installations};
use serde_json::Value;

use crate::stage::{eventually, free_ports, http_get_status, run, stdout, write_private};

pub const POSTERN: &str = env!("CARGO_BIN_EXE_postern");

/// The superuser's password on the nodes of the inventory.
pub const SUPERUSER_PASSWORD: &str = "superuser-secret";

pub struct ControlPlane {
    process: Option<Child>,
    pub directory: tempfile::TempDir,
    /// Where it finds programs; none: where the tests do.
    programs: Option<&'static str>,
    pub api_port: u16,
    metrics_port: u16,
    pub token: String,
}

impl ControlPlane {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With further lines of configuration.
    pub fn start_with(further: &str) -> Self {
        Self::start_in(further, None)
    }

    /// On a host that has programs only in this directory.
    pub fn start_without_programs(directory: &'static str) -> Self {
        Self::start_in("", Some(directory))
    }

    fn start_in(further: &str, programs: Option<&'static str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The servers of a test that runs as root are another user's.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let [session_port, transaction_port, metrics_port, api_port] = free_ports();
        let text = format!(
            r#"[listen]
session = ["127.0.0.1:{session_port}"]
transaction = ["127.0.0.1:{transaction_port}"]
[auth]
secret_file = "secret"
[metrics]
listen = "127.0.0.1:{metrics_port}"
[admin]
socket = "admin.sock"
listen = "127.0.0.1:{api_port}"
[catalog]
path = "catalog.db"
[local]
directory = "local"
{further}
"#
        );
        std::fs::write(directory.path().join("postern.toml"), text).unwrap();
        let token = String::new();
        let mut plane = Self { process: None, directory, programs, api_port, metrics_port, token };
        plane.serve();
        plane.token = plane.ok(&["token", "create", "tests", "--scope", "admin"]);
        plane
    }

    /// Starts the process, and waits until it answers its command line and
    /// listens to clients, which it does last.
    pub fn serve(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let mut serve = Command::new(POSTERN);
        serve.args(["serve", "--config"]).arg(self.path("postern.toml")).stderr(log.unwrap());
        if let Some(programs) = self.programs {
            serve.env("PATH", programs);
        }
        self.process = Some(serve.spawn().unwrap());
        let answers = || run(&mut self.command(&["status"])).status.success();
        let listens = || {
            let is_there = TcpStream::connect(("127.0.0.1", self.metrics_port)).is_ok();
            is_there && http_get_status(self.metrics_port, "/readyz").0 == 200
        };
        eventually("postern to serve", || answers() && listens());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// As a crash of Postern.
    pub fn kill_9(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = process.id().to_string();
        assert!(run(Command::new("kill").arg(pid)).status.success());
        assert!(process.wait().unwrap().success(), "{}", self.log());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(POSTERN);
        command.args(arguments).env("POSTERN_ADMIN_SOCKET", self.path("admin.sock"));
        command
    }

    /// The command line, over the socket.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// What a command prints that must succeed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        stdout(&self.run(arguments))
    }

    /// What a command says that must fail.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A request with the admin token.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Authorization: Bearer {}", self.token);
        self.ask_with(method, path, &[&bearer], body.map(Value::to_string).as_deref())
    }

    /// A request with these lines in its header.
    pub fn ask_with(&self, method: &str, path: &str, lines: &[&str], body: Option<&str>) -> Answer {
        let mut text = String::new();
        self.send(method, path, lines, body).read_to_string(&mut text).unwrap();
        Answer::read(&text)
    }

    /// A request, whose answer is yet to come.
    pub fn send(&self, method: &str, path: &str, lines: &[&str], body: Option<&str>) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api_port)).unwrap();
        let body = body.unwrap_or_default();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        let typed = lines.iter().any(|line| line.to_lowercase().starts_with("content-type"));
        if !body.is_empty() && !typed {
            head += "Content-Type: application/json\r\n";
        }
        for line in lines {
            head = head + line + "\r\n";
        }
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    /// Waits until a service runs; panics with what is said of it if it does
    /// not within a minute, in which a step that failed is tried six times.
    #[track_caller]
    pub fn wait_until_runs(&self, name: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let service = self.ask("GET", &format!("/v1/services/{name}"), None).json();
            if service["state"] == "running" {
                return;
            }
            assert!(Instant::now() < deadline, "{name} does not run: {service}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Registers a server as a node.
    #[track_caller]
    pub fn add_node(&self, id: &str, server: &Cluster) {
        let password = self.path("superuser.password");
        write_private(&password, SUPERUSER_PASSWORD);
        let address = server.address().to_string();
        self.ok(&[
            "node",
            "add",
            &address,
            "--id",
            id,
            "--cloud",
            "aws",
            "--region",
            "eu-west-1",
            "--zone",
            "a",
            "--password-file",
            password.to_str().unwrap(),
        ]);
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What the API said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        let read = serde_json::from_str(&self.body);
        read.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::trim)
    }

    /// The problem that it must be.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self:?}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }
}

/// A server of the operator's.
pub fn node(kind: &str) -> Cluster {
    node_with(kind, 200)
}

pub fn node_with(kind: &str, max_connections: u32) -> Cluster {
    let installations = Installations::find().unwrap();
    let installation = match kind {
        "vector" => installations.vector(),
        _ => installations.postgresql(),
    };
    Cluster::builder(installation.unwrap())
        .durable(false)
        .max_connections(max_connections)
        .password(SUPERUSER_PASSWORD)
        .start()
        .unwrap()
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

//! Who takes part in a comparison.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Fallible;
use crate::point::{Encryption, KeyType, Point};
use crate::process::{Cpu, Process};
use crate::servers::pgbouncer::PgBouncer;
use crate::servers::postern::Postern;
use crate::servers::{PASSWORD, Stage, USER};

/// A contender's kind, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    PgBouncer,
    PosternOneWorker,
    Postern,
    Direct,
}

impl Kind {
    pub const ALL: [Self; 4] =
        [Self::PgBouncer, Self::PosternOneWorker, Self::Postern, Self::Direct];

    pub const fn label(self) -> &'static str {
        match self {
            Self::PgBouncer => "PgBouncer",
            Self::PosternOneWorker => "Postern, 1 worker",
            Self::Postern => "Postern",
            Self::Direct => "direct",
        }
    }
}

/// A contender that clients can connect to.
pub struct Contender {
    kind: Kind,
    address: SocketAddr,
    encryption: Encryption,
    /// None for a direct connection, whose server costs nothing extra.
    process: Option<Process>,
}

impl Contender {
    pub fn start(stage: &Stage, point: &Point, kind: Kind) -> Fallible<Self> {
        let (endpoint, encryption) = (point.endpoint, point.encryption);
        let key = match encryption {
            Encryption::Plain => KeyType::Ecdsa,
            Encryption::Tls(key) => key,
        };
        let postern = |workers| Postern::start(stage, workers, endpoint, key);
        let (process, address) = match kind {
            Kind::Direct => (None, stage.server()),
            Kind::PgBouncer => {
                let started = PgBouncer::start(stage, endpoint, key)?;
                (Some(started.process), started.address)
            }
            Kind::PosternOneWorker => {
                let started = postern(1)?;
                (Some(started.process), started.address)
            }
            Kind::Postern => {
                let started = postern(0)?;
                (Some(started.process), started.address)
            }
        };
        let contender = Self { kind, address, encryption, process };
        contender.wait_until_it_answers(stage)?;
        Ok(contender)
    }

    /// Gives the contender a process that remembers nothing.
    pub fn restart(&mut self, stage: &Stage, point: &Point) -> Fallible<()> {
        self.process = None;
        *self = Self::start(stage, point, self.kind)?;
        Ok(())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.encryption, Encryption::Tls(_))
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The CPU time of its process so far; zero for a direct connection.
    pub fn cpu(&self) -> Fallible<Cpu> {
        let nothing = Cpu { user: Duration::ZERO, system: Duration::ZERO };
        self.pid().map_or(Ok(nothing), Cpu::of)
    }

    /// One of PostgreSQL's clients that will reach this contender, and is
    /// killed when it takes longer than `limit`.
    pub fn client(&self, stage: &Stage, program: &str, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.as_secs().max(1).to_string()]);
        self.name_to(command, stage, program)
    }

    /// The same, for whoever looks after its end. It ends with this process.
    pub fn unbounded_client(&self, stage: &Stage, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        self.name_to(command, stage, program)
    }

    fn name_to(&self, mut command: Command, stage: &Stage, program: &str) -> Command {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let encrypted = if self.is_encrypted() { "require" } else { "disable" };
        command.arg(stage.installation().program(program)).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("PGHOST", host).env("PGPORT", port).env("PGCONNECT_TIMEOUT", "20");
        command.env("PGUSER", USER).env("PGPASSWORD", PASSWORD).env("PGDATABASE", USER);
        command.env("PGSSLMODE", encrypted).env("PGGSSENCMODE", "disable");
        command
    }

    /// A proxy may listen before it can log anybody in.
    fn wait_until_it_answers(&self, stage: &Stage) -> Fallible<()> {
        let mut said = String::new();
        for _ in 0..50 {
            let mut psql = self.client(stage, "psql", Duration::from_secs(20));
            let output = psql.args(["-XAtqc", "SELECT 42"]).output()?;
            if output.stdout == b"42\n" {
                return Ok(());
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("{} does not answer: {said}", self.kind.label()).into())
    }
}

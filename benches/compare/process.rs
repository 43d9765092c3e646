//! A server that runs as a process of its own, and what the kernel knows of it.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Fallible;

const START_WITHIN: Duration = Duration::from_secs(15);

/// A running server; dropped, it is killed. The kernel kills it when we end in
/// any other way.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// A user that a server runs as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl Process {
    /// Starts a server that writes its log into a file; must be called by the
    /// thread that lives longest, whose end would end the server.
    pub fn start(
        program: &Path,
        arguments: &[&OsStr],
        user: Option<User>,
        log: &Path,
    ) -> Fallible<Self> {
        let log = File::create(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        if let Some(User { uid, gid }) = user {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().map_err(|error| format!("setpriv: {error}"))?;
        Ok(Self { child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns once somebody listens there.
    pub fn wait_until_listening(&mut self, address: SocketAddr) -> Fallible<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("ended at its start: {status}").into());
            }
            if start.elapsed() > START_WITHIN {
                return Err(format!("does not listen on {address}").into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process since its start, of threads that have ended too.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    /// Reads `/proc/PID/stat`: fields 14 and 15, in clock ticks.
    pub fn of(pid: u32) -> Fallible<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in the second field may hold anything.
        let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat is unlike itself")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        let mut next = || -> Fallible<Duration> {
            let ticks = times.next().ok_or("/proc/PID/stat is short")??;
            let per_second = rustix::param::clock_ticks_per_second();
            Ok(Duration::from_secs(1) * ticks / u32::try_from(per_second)?)
        };
        Ok(Self { user: next()?, system: next()? })
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// Bytes of memory that are a process's own share (PSS).
pub fn memory_of(pid: u32) -> Fallible<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.ok_or("no Pss in smaps_rollup")?.parse::<f64>()? * 1024.0)
}

/// Hands out ports that were free a moment ago, each once.
#[derive(Debug)]
pub struct Ports {
    next: Cell<u16>,
}

impl Ports {
    /// Below the range from which outgoing connections get theirs.
    pub fn new() -> Self {
        let place = u16::try_from(std::process::id() % 50).unwrap_or_default();
        Self { next: Cell::new(10_000 + place * 100) }
    }

    pub fn free(&self) -> Fallible<SocketAddr> {
        for _ in 0..1_000 {
            let port = self.next.replace(self.next.get() + 1);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok((Ipv4Addr::LOCALHOST, port).into());
            }
        }
        Err("no free port".into())
    }
}

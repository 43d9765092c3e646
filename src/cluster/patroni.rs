//! PostgreSQL servers that Patroni keeps together: a primary with its standbys,
//! one of which it promotes when the primary is gone.
//!
//! ```text
//! <directory>/      0700, the servers' user's
//!   lock            locked while anything of this runs
//!   ca.crt          the authority of the nodes' certificate, if they have one
//!   etcd/           who leads
//!   <name>-1/ …     a node: its Patroni and its PostgreSQL (member.rs)
//! ```
//!
//! What must stay true:
//!
//! * **Nobody here promotes a node**, or makes one a standby: Patroni does.
//! * **Patroni ends before etcd**, so that who led gives the lead up; the nodes'
//!   guardians hold on to etcd's.
//! * **Two processes never work on one directory**: the lock is held until the
//!   last of what an earlier one started has ended.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::domain::Secret;

use super::account::Account;
use super::data::make_empty;
use super::error::{Doing as _, Error};
use super::etcd::Etcd;
use super::installation::Installation;
use super::lock;
use super::manager::HaManager;
use super::member::Member;

/// For a new cluster until all its nodes take connections: `initdb`, and a base
/// backup for each standby.
const READY_WITHIN: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How fast Patroni notices, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// A leader that has not been heard of for this long is over.
    pub ttl: u32,
    /// From one look to the next.
    pub loop_wait: u32,
    /// How long etcd and PostgreSQL are asked again.
    pub retry_timeout: u32,
}

/// What the nodes and those who look after them prove themselves with.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// The superuser's, called `postgres`.
    pub superuser: Secret<String>,
    /// The standbys', as `replicator`.
    pub replication: Secret<String>,
    /// For orders to Patroni, as `postern`; none: it obeys everybody.
    pub rest_api: Option<Secret<String>>,
    /// Patroni's in etcd; none: etcd obeys everybody.
    pub etcd: Option<Secret<String>>,
}

/// The certificate of the nodes, and who issued it; all PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The authority.
    pub authority: String,
    /// The certificate (chain).
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
}

/// How a cluster is to be made.
#[derive(Clone, Debug)]
pub struct PatroniSettings {
    /// What its servers run on.
    pub installation: Installation,
    /// What it is called in etcd; its nodes get numbers behind that.
    pub name: String,
    /// How many nodes it has.
    pub nodes: u32,
    /// Its passwords.
    pub passwords: Passwords,
    /// TLS for the servers.
    pub tls: Option<Certified>,
    /// How fast Patroni is.
    pub timings: Timings,
    /// Whether a commit waits for a standby, so that none that was acknowledged
    /// is lost; Patroni promotes only such a standby.
    pub synchronous: bool,
    /// Whether a primary goes on without etcd while it reaches all standbys.
    pub failsafe: bool,
    /// Whether committed data survive a crash of the host.
    pub durable: bool,
    /// Settings of every node.
    pub parameters: Vec<(String, String)>,
}

/// A primary and its standbys. Dropped, they are stopped; the directory stays.
#[derive(Debug)]
pub struct PatroniCluster {
    directory: PathBuf,
    members: Vec<Member>,
    etcd: Etcd,
}

impl PatroniCluster {
    /// Makes one in this directory, which must be empty or absent, and waits
    /// until all its nodes take connections.
    pub fn create(
        manager: &HaManager,
        directory: &Path,
        settings: &PatroniSettings,
    ) -> Result<Self, Error> {
        manager.check(&settings.installation)?;
        let account = Account::for_servers()?;
        make_empty(directory)?;
        account.give(directory)?;
        if let Some(tls) = &settings.tls {
            private(&directory.join("ca.crt"), &tls.authority, account)?;
        }
        let password = settings.passwords.etcd.as_ref();
        let lock = Some(lock::acquire(directory)?);
        let etcd = Etcd::create(manager.etcd(), &directory.join("etcd"), password, lock)?;
        let make = |number| Member::create(manager, directory, settings, number, etcd.port());
        let members = (1..=settings.nodes).map(make).collect::<Result<_, _>>()?;
        let cluster = Self { directory: directory.to_owned(), members, etcd };
        cluster.start()?;
        cluster.wait_until_ready(settings.synchronous)?;
        Ok(cluster)
    }

    /// Starts one that was made in this directory before, by this process or
    /// another one. Waits for nothing but the end of that one's programs.
    pub fn open(manager: &HaManager, directory: &Path) -> Result<Self, Error> {
        let etcd = Etcd::open(manager.etcd(), &directory.join("etcd"))?;
        let members = Member::all_in(manager, directory)?;
        let cluster = Self { directory: directory.to_owned(), members, etcd };
        cluster.start()?;
        Ok(cluster)
    }

    /// Whether such a cluster was made in this directory.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join("etcd").is_dir()
    }

    /// The nodes, by their numbers.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Who keeps the leader key.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Starts what does not run. Waits for nothing but the end of what an
    /// earlier process started.
    pub fn start(&self) -> Result<(), Error> {
        let is_stopped = self.etcd.program().is_stopped();
        let lock = is_stopped.then(|| lock::acquire(&self.directory)).transpose()?;
        self.etcd.start(lock)?;
        self.members.iter().try_for_each(|member| member.start(&self.etcd))
    }

    /// Stops the nodes, then etcd.
    pub fn stop(&self) {
        thread::scope(|scope| {
            for member in &self.members {
                scope.spawn(|| member.stop());
            }
        });
        self.etcd.stop();
    }

    /// Whether something has ended and is to be started again: names it.
    #[must_use]
    pub fn died(&self) -> Option<&str> {
        if self.etcd.program().is_due() {
            return Some("etcd");
        }
        let mut members = self.members.iter();
        members.find(|member| member.is_due()).map(Member::name)
    }

    /// Starts again what has ended by itself, after a pause if it does not stay
    /// up; what was stopped stays so.
    pub fn revive(&self) -> Result<(), Error> {
        self.etcd.program().revive()?;
        self.members.iter().try_for_each(Member::revive)
    }

    fn wait_until_ready(&self, synchronous: bool) -> Result<(), Error> {
        let start = Instant::now();
        while !self.is_ready(synchronous) {
            let late = start.elapsed() > READY_WITHIN;
            if let Some(member) = self.members.iter().find(|member| late || member.has_died()) {
                return Err(Error::Program { name: "Patroni", log: member.last_words() });
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether one leads, all others follow it, and one of them could take over.
    fn is_ready(&self, synchronous: bool) -> bool {
        let leads = self.members.iter().filter(|member| member.leads()).count();
        let follow = self.members.iter().filter(|member| member.follows()).count();
        let mut members = self.members.iter();
        leads == 1
            && leads + follow == self.members.len()
            && (!synchronous || follow == 0 || members.any(Member::has_everything))
    }
}

impl Drop for PatroniCluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes a file that the servers' user alone may read.
pub(super) fn private(path: &Path, text: &str, account: Account) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).doing("writing", path)?;
    account.give(path)
}

/// The port in a setting of a configuration that we wrote: of `…:2379`.
pub(super) fn port_in(configuration: &str, path: &[&str]) -> Option<u16> {
    let value: serde_json::Value = serde_json::from_str(configuration).ok()?;
    let value = path.iter().try_fold(&value, |value, key| value.get(key))?;
    value.as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// Removes a directory, if it is there.
pub(super) fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing("removing", directory)
        }
        _ => Ok(()),
    }
}

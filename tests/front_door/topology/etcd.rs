//! A real etcd with the leader key, which the tests move by hand as Patroni
//! does.

use super::process::Process;
use super::*;
use crate::stage::{free_ports, start_server};
use postern::cluster::Installations;

const SOON: Duration = Duration::from_secs(10);

/// An etcd of one member.
pub(super) struct Etcd {
    pub(super) port: u16,
    process: Option<Process>,
    peer: u16,
    directory: tempfile::TempDir,
}

impl Etcd {
    pub(super) fn start() -> Self {
        let [port, peer] = free_ports();
        let directory = tempfile::tempdir().unwrap();
        let mut etcd = Self { port, process: None, peer, directory };
        etcd.run();
        etcd
    }

    pub(super) fn run(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let data = self.directory.path().join("data").display().to_string();
        let arguments = [
            "etcd",
            "--data-dir",
            &data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ];
        let log = self.directory.path().join("log");
        self.process = Some(Process::start(&arguments, None, &log));
        within(SOON, "etcd serves", || self.try_ctl(&["endpoint", "health"]).is_ok());
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut etcdctl = std::process::Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").arg(format!("--endpoints=http://127.0.0.1:{}", self.port));
        let output = etcdctl.args(arguments).output().expect("etcdctl: run scripts/install test");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub(super) fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap()
    }

    fn put_member(&self, name: &str, server: &Cluster) {
        let value = format!(
            r#"{{"conn_url":"postgres://{}/postgres","role":"replica"}}"#,
            server.address()
        );
        self.ctl(&["put", &format!("/service/main/members/{name}"), &value]);
    }

    fn put_leader(&self, name: &str) {
        self.ctl(&["put", "/service/main/leader", name]);
    }

    /// For the configuration; the other endpoint is always down.
    fn topology(&self) -> String {
        format!(
            "topology.etcd = {{ endpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"], scope = \"main\" }}",
            self.port
        )
    }
}

#[test]
fn e02_e04_the_leader_key_is_followed_once_its_holder_takes_writes() {
    let mut etcd = Etcd::start();
    let one = start_server(Installations::find().unwrap().postgresql().unwrap());
    let two = one.standby().unwrap();
    let stage = stage(&[&one, &two], &etcd.topology());
    within(SOON, "both were looked at", || stage.primary() == Err(Unavailable::NoPrimary));
    etcd.put_member("n1", &one);
    etcd.put_member("n2", &two);
    etcd.put_leader("n1");
    within(SOON, "one leads", || stage.leads_to(&one));
    assert_eq!(server_port(&stage), one.port().to_string());

    // The key is with a standby: from that moment nobody gets to the old one.
    etcd.put_leader("n2");
    let noticed = within(Duration::from_secs(2), "one is over", || stage.primary().is_err());
    eprintln!("a new leader key was noticed {noticed:?} after it was written");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stage.primary(), Err(Unavailable::NoPrimary), "its holder is in recovery");
    two.promote().unwrap();
    let followed = within(SOON, "two leads", || stage.leads_to(&two));
    eprintln!("and its holder {followed:?} after its promotion");

    // No key: the last primary goes on; without etcd, too.
    etcd.ctl(&["del", "/service/main/leader"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(stage.leads_to(&two));
    etcd.kill();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(stage.leads_to(&two));
    assert_eq!(server_port(&stage), two.port().to_string());

    // A store that has lost a write names one that is over.
    etcd.run();
    etcd.put_leader("n1");
    within(SOON, "the older timeline is not led to", || stage.primary().is_err());
    etcd.put_leader("stranger");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stage.primary(), Err(Unavailable::NoPrimary));
    etcd.put_leader("n2");
    within(SOON, "two leads", || stage.leads_to(&two));
}

#[test]
fn a_frozen_etcd_is_left_and_the_leader_key_found_again() {
    let etcd = Etcd::start();
    let one = start_server(Installations::find().unwrap().postgresql().unwrap());
    let stage = stage(&[&one], &etcd.topology());
    etcd.put_member("n1", &one);
    etcd.put_leader("n1");
    within(SOON, "one leads", || stage.leads_to(&one));
    etcd.process().signal("STOP");
    std::thread::sleep(Duration::from_secs(3));
    assert!(stage.leads_to(&one));
    etcd.process().signal("CONT");
    etcd.put_leader("stranger");
    within(SOON, "the key is seen again", || stage.primary().is_err());
}

//! A real etcd with the leader key, which the tests move by hand as Patroni
//! does.

use std::path::Path;

use postern::cluster::{self, Installations};
use rustix::process::Signal;

use super::*;
use crate::stage::start_server;

const SOON: Duration = Duration::from_secs(10);

/// An etcd of one member.
pub(super) struct Etcd {
    etcd: cluster::Etcd,
    // Gone behind the program that works in it.
    _directory: tempfile::TempDir,
}

impl Etcd {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let etcd = cluster::Etcd::create(Path::new("/usr/bin/etcd"), directory.path(), None, None);
        let etcd = etcd.expect("etcd: run scripts/install test");
        Self { etcd, _directory: directory }
    }

    fn run(&self) {
        self.etcd.start(None).unwrap();
        self.etcd.wait_until_ready().unwrap();
    }

    fn signal(&self, signal: Signal) {
        self.etcd.signal(signal).unwrap();
    }

    fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut etcdctl = std::process::Command::new("etcdctl");
        etcdctl
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=http://127.0.0.1:{}", self.etcd.port()));
        let output = etcdctl.args(arguments).output().expect("etcdctl: run scripts/install test");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn ctl(&self, arguments: &[&str]) -> String {
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
            self.etcd.port()
        )
    }
}

#[test]
fn e02_e04_the_leader_key_is_followed_once_its_holder_takes_writes() {
    let etcd = Etcd::start();
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
    etcd.signal(Signal::KILL);
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
    etcd.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    assert!(stage.leads_to(&one));
    etcd.signal(Signal::CONT);
    etcd.put_leader("stranger");
    within(SOON, "the key is seen again", || stage.primary().is_err());
}

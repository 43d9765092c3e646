//! What ten thousand services cost one Postern.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::stage::{POSTERN, eventually, free_ports, http_get_status, write_private};

/// A Postern with so many services, none of whose nodes answers.
struct Scaled {
    process: Child,
    metrics: u16,
    _directory: tempfile::TempDir,
}

impl Scaled {
    fn start(services: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [session, metrics] = free_ports();
        let mut text = format!(
            "[listen]\nsession = [\"127.0.0.1:{session}\"]\ntransaction = []\n\
             [admin]\nsocket = \"admin.sock\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [auth]\nsecret_file = \"secret\"\n[topology]\nstate_file = \"topology.json\"\n"
        );
        for number in 0..services {
            let [high, low] = number.to_be_bytes();
            write!(
                text,
                "[[services]]\nname = \"service-{number}\"\nplan = \"hobbyist\"\n\
                 nodes = [\"127.1.{high}.{low}:1\"]\n\
                 management = {{ user = \"postern\", password_file = \"password\" }}\n"
            )
            .unwrap();
        }
        write_private(&directory.path().join("password"), "secret");
        let config = directory.path().join("postern.toml");
        std::fs::write(&config, text).unwrap();
        let mut postern = Command::new(POSTERN);
        let process = postern.args(["serve", "--config"]).arg(&config).stderr(Stdio::null());
        let process = process.spawn().unwrap();
        let scaled = Self { process, metrics, _directory: directory };
        eventually("postern to be ready", || {
            let listens = std::net::TcpStream::connect(("127.0.0.1", metrics)).is_ok();
            listens && http_get_status(metrics, "/readyz").0 == 200
        });
        scaled
    }

    /// Resident memory, in KiB.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Seconds of CPU spent so far.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = std::fs::read_to_string(path).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        // Linux counts hundredths of seconds here, whatever the kernel's tick.
        ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What ten thousand services may take beyond one, in KiB. All of them are
/// down here, so that each is looked at again and again.
const MEMORY: u64 = 100 * 1024;
/// For a page.
const PAGE_WITHIN: Duration = Duration::from_secs(1);
/// From the start of the process to its readiness: the bar is two seconds of a
/// machine of its own. Built without optimisation, and beside other tests, the
/// file alone takes longer to read.
const READY_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });
/// What may be spent on services that nobody uses, of one core.
const IDLE: f64 = 0.5;

/// Run with `--nocapture` to see the numbers.
#[test]
fn e15_ten_thousand_services_that_are_down_stay_within_their_memory() {
    let one = Scaled::start(1).resident();
    let began = Instant::now();
    let all = Scaled::start(10_000);
    let ready = began.elapsed();
    println!("10,000 services: ready after {ready:?}");
    assert!(ready < READY_WITHIN, "ready after {ready:?}");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        let (status, page) = http_get_status(all.metrics, "/metrics");
        let took = began.elapsed();
        println!("/metrics: {took:?}, {} bytes", page.len());
        assert_eq!(status, 200);
        assert!(took < PAGE_WITHIN, "/metrics took {took:?}");
        // Services at rest cost no series but that they lack a primary.
        let named = page.lines().filter(|line| line.contains("service=\"service-"));
        let without = |line: &str| line.starts_with("postern_service_without_primary{");
        assert!(named.clone().all(without), "{:?}", named.clone().find(|line| !without(line)));
    }
    let more = all.resident() - one;
    println!("{more} KiB more than one service");
    assert!(more < MEMORY, "{more} KiB more than one service");
    let (before, began) = (all.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let share = (all.cpu() - before) / began.elapsed().as_secs_f64();
    println!("{share:.2} of a core for services that nobody uses");
    assert!(share < IDLE, "{share:.2} of a core for services that nobody uses");
}

//! A network that is cut: nothing is refused and nothing is answered, and the
//! node behind it goes on as if nothing were.
//!
//! Postern runs in a network namespace of its own, with a cable to each node
//! and one to its clients. The nodes reach each other all the time.

use std::process::Command;

use postern::cluster::Installations;
use postern::rehearsal::{Load, rows, without_tls};

use super::process::Process;
use super::*;
use crate::stage::{PASSWORD, POSTERN, free_ports, server_builder};

const SOON: Duration = Duration::from_secs(10);
/// Cables: to the clients, to one node, to the other.
const CLIENTS: u32 = 0;
const ONE: u32 = 1;
const TWO: u32 = 2;

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// A network namespace and its cables; they go with it.
struct Network {
    name: String,
    /// The second number of its addresses.
    number: u32,
}

impl Network {
    fn new() -> Self {
        let pid = std::process::id();
        let network = Self { name: format!("cut{pid}"), number: 64 + pid % 128 };
        let name = &network.name;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        for cable in [CLIENTS, ONE, TWO] {
            let (near, far) = (network.near(cable), format!("far{cable}"));
            ip(&format!("link add {near} type veth peer name {far} netns {name}"));
            ip(&format!("address add {}/24 dev {near}", network.outside(cable)));
            ip(&format!("-n {name} address add {}/24 dev {far}", network.inside(cable)));
            ip(&format!("link set {near} up"));
            ip(&format!("-n {name} link set {far} up"));
        }
        network
    }

    fn near(&self, cable: u32) -> String {
        format!("n{cable}{}", self.name)
    }

    /// This host's end.
    fn outside(&self, cable: u32) -> String {
        format!("10.{}.{cable}.1", self.number)
    }

    /// Postern's end.
    fn inside(&self, cable: u32) -> String {
        format!("10.{}.{cable}.2", self.number)
    }

    fn cut(&self, cable: u32) {
        ip(&format!("link set {} down", self.near(cable)));
    }

    fn mend(&self, cable: u32) {
        ip(&format!("link set {} up", self.near(cable)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.name));
    }
}

/// The address of the server that answers, if one does within three seconds:
/// what was asked of a standby before it was seen to be gone waits for the
/// keepalive.
fn server_address(uri: &str) -> String {
    let psql = Installations::find().unwrap().postgresql().unwrap().program("psql");
    let mut client = Command::new("timeout");
    client.arg("3").arg(psql).args(["-XAtqc", "SELECT host(inet_server_addr())", uri]);
    String::from_utf8(client.output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs root, for a network of its own: scripts/test-failover"]
fn a_node_that_is_cut_off_is_left_and_gets_no_client_when_it_is_back() {
    let network = Network::new();
    let one = server_builder(Installations::find().unwrap().postgresql().unwrap())
        .setting("listen_addresses", "*")
        .hba("host all all 10.0.0.0/8 scram-sha-256")
        .start()
        .unwrap();
    let two = one.standby().unwrap();
    let nodes = [(ONE, &one), (TWO, &two)]
        .map(|(cable, node)| format!("{}:{}", network.outside(cable), node.port()));
    let stage = Stage::new(&Wanted {
        plan: "premium-4",
        server: Some(&one),
        node: Some(nodes.join("\", \"")),
        settings: &[
            ("services", "read_only_fallback = true"),
            ("tls", "plain_from = [\"10.0.0.0/8\", \"127.0.0.0/8\"]"),
        ],
        ..Wanted::default()
    });
    let [session, transaction, metrics] = free_ports();
    stage.edit_configuration(|text| {
        text.replace(&format!("127.0.0.1:{}", stage.session_port), &format!("0.0.0.0:{session}"))
            .replace(&stage.session_port.to_string(), &session.to_string())
            .replace(
                &format!("127.0.0.1:{}", stage.transaction_port),
                &format!("0.0.0.0:{transaction}"),
            )
            .replace(&stage.metrics_port.to_string(), &metrics.to_string())
            .replace("admin.sock", "second.sock")
    });
    let config = stage.config_path().display().to_string();
    let log = stage.directory.path().join("second.log");
    let serve = ["ip", "netns", "exec", &network.name, POSTERN, "serve", "--config", &config];
    let _postern = Process::start(&serve, None, &log);

    let (role, host) = (&stage.role, network.inside(CLIENTS));
    let uri = |port: u16, access: &str| {
        format!(
            "postgresql://{role}:{PASSWORD}@{host}:{port}/{role}?sslmode=disable\
             &connect_timeout=15&options=service%3Dorders{access}"
        )
    };
    let reads_from = |cable: u32| {
        let uri = uri(transaction, "%20access%3Dread-only");
        server_address(&uri) == network.outside(cable)
    };
    let writes_to = |cable: u32| server_address(&uri(session, "")) == network.outside(cable);
    within(2 * SOON, "a primary", || writes_to(ONE));
    within(2 * SOON, "a standby that serves readers", || reads_from(TWO));

    // Readers leave a standby that is cut off, and come back to it.
    network.cut(TWO);
    let left = within(2 * SOON, "readers of the primary", || reads_from(ONE));
    network.mend(TWO);
    let back = within(2 * SOON, "readers of the standby", || reads_from(TWO));
    eprintln!("readers left the standby after {left:?}, and came back after {back:?}");

    // Writers leave a primary that is cut off, once another one leads.
    let load = Load {
        connect: without_tls(uri(transaction, "").parse().unwrap()),
        writers: 16,
        pause: Duration::from_millis(5),
    };
    let (report, followed) = stage.block_on(async {
        Load::prepare(&(load.connect)().await.unwrap()).await.unwrap();
        let running = load.start().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let promoted = tokio::task::block_in_place(|| {
            network.cut(ONE);
            std::thread::sleep(Duration::from_secs(1));
            two.promote().unwrap();
            Instant::now()
        });
        tokio::time::sleep(Duration::from_secs(8)).await;
        let account = running.stop().await;
        let first = account.attempts.iter().map(|own| {
            let told = own.iter().find(|attempt| attempt.ended > promoted);
            told.expect("an answer for every writer").ended
        });
        let all_told = first.max().unwrap();
        let rows = rows(&(load.connect)().await.unwrap()).await.unwrap();
        (account.report(&rows), all_told - promoted)
    });
    eprintln!("every writer had heard something {followed:?} after the promotion\n{report}");
    assert_eq!((report.disconnected, report.failed_but_found), (0, 0), "{report}");
    assert!(report.failed_in_all() + report.unknown <= 16, "{report}");
    assert!(followed < Duration::from_secs(5), "{followed:?}: stuck on a primary cut off");

    // It is back, up and writable; nobody comes, and whoever is left there from
    // before says nothing.
    network.mend(ONE);
    let back = one.psql("SELECT now()").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(writes_to(TWO));
    let active = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE usename = '{role}' AND greatest(backend_start, state_change) > '{back}'"
    );
    assert_eq!(one.psql(&active).unwrap(), "0");
}

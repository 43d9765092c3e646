//! Services with standbys on servers that Postern makes: Patroni and etcd run
//! with Postern, promote without it, and go with it. It takes as long as three
//! servers and their failovers take, so it runs in `scripts/test-failover`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::platform::control_plane::{ControlPlane, exists};
use crate::stage::run;

/// For servers to be made, stopped or healed on a busy host.
const LONG: Duration = Duration::from_secs(180);

/// A service of the catalogue on this host.
struct Local<'a> {
    plane: &'a ControlPlane,
    name: &'a str,
}

impl Local<'_> {
    fn shown(&self) -> Value {
        self.plane.ask("GET", &format!("/v1/services/{}", self.name), None).json()
    }

    /// The ids of the nodes that have this role.
    fn with_role(&self, role: &str) -> Vec<String> {
        let shown = self.shown();
        let nodes = shown["nodes"].as_array().unwrap();
        let nodes = nodes.iter().filter(|node| node["role"] == role);
        nodes.map(|node| node["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Until it has a primary and these many standbys, one of which could take
    /// over: the primary.
    #[track_caller]
    fn settled(&self, standbys: usize) -> String {
        within(LONG, "a primary and its standbys", || {
            let (primary, followers) = (self.with_role("primary"), self.with_role("standby"));
            self.shown()["state"] == "running"
                && followers.len() == standbys
                && primary.iter().any(|node| self.is_safe(node))
        });
        self.with_role("primary").pop().unwrap()
    }

    /// Whether a node leads, and then has a standby that has everything: while
    /// it has none, Patroni would promote nobody else.
    fn is_safe(&self, node: &str) -> bool {
        let address = self.rest_api(node);
        let asked = |path| ask(&address, &format!("GET {path} HTTP/1.0\r\n\r\n"));
        let leads = asked("/primary").is_some_and(|(status, _)| status == 200);
        leads && asked("/cluster").is_some_and(|(_, said)| said.contains("sync_standby"))
    }

    /// Where a node's Patroni is told to listen.
    fn rest_api(&self, node: &str) -> String {
        let file = format!("local/{}/{node}/patroni.yml", self.name);
        let told = fs::read_to_string(self.plane.path(&file)).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        told["restapi"]["listen"].as_str().unwrap().to_owned()
    }

    fn uri(&self) -> String {
        self.plane.ok(&["service", "uri", self.name])
    }

    #[track_caller]
    fn answers(&self, sql: &str) -> String {
        stdout(&psql(&self.uri(), sql))
    }

    fn postmaster(&self, node: &str) -> u32 {
        let file = format!("local/{}/{node}/data/postmaster.pid", self.name);
        let text = fs::read_to_string(self.plane.path(&file)).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Has every process of a node killed at once.
    fn kill(&self, node: &str) {
        let postmaster = self.postmaster(node);
        let configuration = self.plane.path(&format!("local/{}/{node}/patroni.yml", self.name));
        let mut all = processes_with(&configuration);
        assert_eq!(all.len(), 1, "one Patroni of {node}");
        all.push(postmaster);
        let mut pgrep = std::process::Command::new("pgrep");
        let backends = stdout(&run(pgrep.args(["-P", &postmaster.to_string()])));
        all.extend(backends.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        kill_9(&all);
    }

    /// What its nodes' Patroni said last, for a failure.
    fn logs(&self) -> String {
        let last = |node: &Value| {
            let file = format!("local/{}/{}/patroni.log", self.name, node["id"].as_str().unwrap());
            let log = fs::read_to_string(self.plane.path(&file)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            format!("{node}:\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        self.shown()["nodes"].as_array().unwrap().iter().map(last).collect()
    }

    /// Writes until a write succeeds: how long that took.
    #[track_caller]
    fn heals(&self, what: &str) -> Duration {
        let uri = format!("{}&connect_timeout=5", self.uri());
        let sql = format!("INSERT INTO t VALUES ('{what}')");
        let took = within(LONG, what, || psql(&uri, &sql).status.success());
        eprintln!("{}: a write {took:.1?} after {what}", self.name);
        took
    }
}

fn kill_9(pids: &[u32]) {
    let mut kill = std::process::Command::new("kill");
    // Some of them may have ended with the others.
    run(kill.arg("-9").args(pids.iter().map(ToString::to_string)));
}

/// The processes that have this path among their arguments, guardians left out.
fn processes_with(path: &Path) -> Vec<u32> {
    let path = path.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        arguments.contains(path) && !arguments.starts_with("/bin/sh")
    };
    pids.filter(names).collect()
}

/// The processes that work in a directory or below it.
fn processes_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let within = processes.filter(|process| {
        let works_in = fs::read_link(process.path().join("cwd"));
        works_in.is_ok_and(|works_in| works_in.starts_with(directory))
    });
    let named = within.map(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).replace('\0', " ")
    });
    named.collect()
}

fn create(plane: &ControlPlane, name: &str, plan: &str, kind: &str) {
    let start = Instant::now();
    plane.ok(&["service", "create", name, "--plan", plan, "--kind", kind, "--provider", "local"]);
    eprintln!("{name}: {plan} made in {:.1?}", start.elapsed());
}

#[test]
#[ignore = "takes as long as servers and their failovers take: scripts/test-failover"]
fn a_local_service_with_a_standby_heals_by_itself_and_goes_without_a_trace() {
    let mut plane = ControlPlane::start();
    create(&plane, "orders", "business-4", "postgresql");
    let orders = Local { plane: &plane, name: "orders" };
    let first = orders.settled(1);
    assert!(orders.with_role("standby")[0].starts_with("orders-"));
    orders.answers("CREATE TABLE t (what text)");
    let read_only = orders.shown()["connection"]["read_only_uri"].as_str().unwrap().to_owned();
    within(LONG, "a reader on the standby", || {
        let output = psql(&read_only, "SELECT pg_is_in_recovery()");
        output.status.success() && stdout(&output) == "t"
    });

    kill_9(&[orders.postmaster(&first)]);
    orders.heals("the death of the postmaster");
    let second = orders.settled(1);
    assert_ne!(first, second, "Patroni has promoted the standby");

    // It is started again before it is over, and goes on where it stopped.
    orders.kill(&second);
    orders.heals("the death of the whole node");
    let third = orders.settled(1);
    // One that cannot be started again is over after a while.
    let told = plane.path(&format!("local/orders/{third}/patroni.yml"));
    let hidden = told.with_extension("hidden");
    fs::rename(&told, &hidden).unwrap();
    orders.kill(&third);
    orders.heals("the death of a node that does not come back");
    fs::rename(&hidden, &told).unwrap();
    let fourth = orders.settled(1);
    assert_ne!(third, fourth, "Patroni has promoted the standby");
    let written = "SELECT count(*) FROM t WHERE what ~ 'death'";
    assert_eq!(orders.answers(written), "3", "what was acknowledged is there");

    let etcd = processes_with(&plane.path("local/orders/etcd/etcd.yml"));
    kill_9(&etcd);
    orders.heals("the death of etcd");
    within(LONG, "etcd to run again", || {
        let now = processes_with(&plane.path("local/orders/etcd/etcd.yml"));
        now.len() == 1 && now != etcd
    });

    assert_eq!(orders.settled(1), fourth, "nothing happened without etcd");
    let switched = plane.ask("POST", "/v1/services/orders/switchover", Some(&json!({})));
    assert_eq!(switched.status, 200, "{switched:?}");
    let fifth = orders.settled(1);
    assert_ne!(fourth, fifth, "{switched:?}\n{}", orders.logs());
    // Nobody else gives orders to Patroni.
    let order = "POST /switchover HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(ask(&orders.rest_api("orders-1"), order).unwrap().0, 401);

    let off = plane.ok(&["service", "update", "orders", "--power", "off"]);
    assert!(off.contains("sessions ended"), "{off}");
    let home = plane.path("local/orders");
    within(LONG, "everything to stop", || processes_in(&home).is_empty());
    plane.ok(&["service", "update", "orders", "--power", "on"]);
    orders.heals("power on");
    orders.settled(1);

    plane.kill_9();
    plane.serve();
    let orders = Local { plane: &plane, name: "orders" };
    orders.heals("the death of Postern");
    orders.settled(1);
    assert_eq!(orders.answers(written), "5", "what was acknowledged is there");

    plane.ok(&["service", "delete", "orders"]);
    assert!(!exists(&plane.path("local/orders")));
    assert_eq!(processes_in(&plane.path("local")), [""; 0]);
    plane.stop();
}

/// The status of an answer, and the whole of it; none: nobody is there.
fn ask(address: &str, question: &str) -> Option<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

#[test]
#[ignore = "takes as long as making three servers takes: scripts/test-failover"]
fn local_vectors_with_two_standbys_whose_making_was_cut_off_are_made_anew() {
    let mut plane = ControlPlane::start();
    for (round, delay) in [500, 4_000, 9_000].into_iter().enumerate() {
        let name = format!("s{round}");
        let body = json!({
            "name": name, "plan": "premium-4", "kind": "vector", "provider": "local"
        });
        assert_eq!(plane.ask("POST", "/v1/services", Some(&body)).status, 201);
        std::thread::sleep(Duration::from_millis(delay));
        plane.kill_9();
        plane.serve();
        let service = Local { plane: &plane, name: &name };
        within(LONG, "the service to run", || service.shown()["state"] == "running");
        let nearest = "SELECT '[1,2]'::vector <-> '[1,5]'";
        within(LONG, "the service to answer", || psql(&service.uri(), nearest).status.success());
        service.settled(2);
        // A Postern that ends in an orderly way takes all with it, too.
        if round == 1 {
            plane.stop();
            within(LONG, "everything to stop", || processes_in(&plane.path("local")).is_empty());
            plane.serve();
            Local { plane: &plane, name: &name }.settled(2);
        }
        plane.ok(&["service", "delete", &name]);
        assert!(!exists(&plane.path(&format!("local/{name}"))));
        assert_eq!(processes_in(&plane.path("local")), [""; 0]);
    }
}

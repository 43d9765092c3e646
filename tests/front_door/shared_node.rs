//! A node that another Postern serves as well: both say so, and both serve.

use postern::cluster::{Cluster, Installations};
use postern::control::admin::AdminClient;

use super::raw::Raw;
use super::stage::{PASSWORD, Stage, Wanted, eventually, start_server};

/// A client that stays, so that its service is looked after.
fn client(stage: &Stage, port: u16, service: &str) -> Raw {
    let user = format!("{}.{service}", stage.role);
    let parameters = [("user", &user[..]), ("database", &stage.role)];
    Raw::enter_with(port, &parameters, PASSWORD).map(|(raw, _)| raw).ok().unwrap()
}

/// The Posterns on this server, and the connections on which they are.
fn posterns(server: &Cluster) -> String {
    let sql = "SELECT count(DISTINCT objid), count(*) FROM pg_locks \
        WHERE locktype = 'advisory' AND classid = 1347638350 AND objsubid = 2";
    server.psql(sql).unwrap().trim().to_owned()
}

#[test]
fn another_postern_on_a_node_is_told_of_until_it_has_ended() {
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let node = server.address().to_string();
    let further = format!(
        "[[services]]\nname = \"stock\"\nkind = \"postgresql\"\nplan = \"startup-4\"\n\
         allowlist = [\"0.0.0.0/0\"]\nnodes = [\"{node}\"]\n\
         management = {{ user = \"postern\", password_file = \"management.password\" }}"
    );
    let mut stage =
        Stage::new(&Wanted { server: Some(&server), further: &further, ..Wanted::default() });
    let others = |stage: &Stage, service: &str| {
        let labels = format!("node=\"{node}\",service=\"{service}\"");
        stage.metric(&format!("postern_node_other_posterns{{{labels}}}"))
    };

    // Two services of one Postern are one Postern.
    let _stock = client(&stage, stage.session_port, "stock");
    eventually("one service to be there", || posterns(&server) == "1|1");
    let _orders = client(&stage, stage.session_port, "orders");
    eventually("both services to be there", || posterns(&server) == "1|2");

    let told = "another Postern serves a node";
    let mut second = stage.serve();
    let _client = client(&stage, second.session_port, "orders");
    eventually("the second to notice the first", || second.log().contains(told));
    assert!(second.log().contains("others=1"), "{}", second.log());
    assert_eq!(posterns(&server), "2|3");
    for service in ["orders", "stock"] {
        eventually("the first to notice the second", || others(&stage, service) == 1);
    }
    let admin = AdminClient::new(stage.directory.path().join("admin.sock"));
    let status = stage.block_on(admin.status()).unwrap();
    assert!(status.to_string().contains("primary, 1 other Postern"), "{status}");

    // However it ends.
    second.process.kill().unwrap();
    eventually("it to be gone", || posterns(&server) == "1|2");
    for service in ["orders", "stock"] {
        eventually("the first to notice that", || others(&stage, service) == 0);
    }

    let third = stage.serve();
    let _client = client(&stage, third.session_port, "orders");
    eventually("the third to notice the first", || third.log().contains(told));
    let runtimes = stage.runtimes.as_ref().unwrap();
    runtimes.control.block_on(stage.postern.take().unwrap().stop());
    eventually("the first to be gone", || posterns(&server) == "1|1");
    let gone = "no other Postern serves a node any more";
    eventually("the third to notice that", || third.log().contains(gone));
    assert_eq!(third.log().matches(told).count(), 1, "{}", third.log());
}

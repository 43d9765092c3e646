//! The admin API against its own document: schemathesis makes requests of
//! every kind that the document allows, and of kinds that it does not, and
//! demands no 5xx, no answer that is not documented, and no way in without a
//! token.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::clients::{client, named_by, run, stdout};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,negative_data_rejection,ignored_auth";

struct Postern(Child);

impl Drop for Postern {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_api_keeps_to_its_document() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = directory.path().join("postern.toml");
    let text = format!(
        "[listen]\nsession = []\ntransaction = [\"{0}:5432\"]\n[auth]\nsecret_file = \"secret\"\n\
         [metrics]\nlisten = \"\"\n[admin]\nsocket = \"admin.sock\"\nlisten = \"127.0.0.1:{port}\"\n\
         [topology]\nstate_file = \"topology.json\"\n\
         [catalog]\npath = \"catalog.db\"\n[local]\ndirectory = \"local\"\n",
        directory.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_postern"));
    let _postern = Postern(serve.args(["serve", "--config"]).arg(&config).spawn().unwrap());
    wait_for(&directory.path().join("admin.sock"));
    let postern = |arguments: &[&str]| {
        let mut command = client(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).arg("--socket").arg(directory.path().join("admin.sock"));
        stdout(&run(&mut command))
    };
    // One that is there and stays, so that not every path ends in 404.
    let orders = ["service", "create", "orders", "--plan", "hobbyist", "--provider", "local"];
    postern(&[&orders[..], &["--termination-protection"]].concat());
    let known = directory.path().join("schemathesis.toml");
    // 412 is a refusal, too: of what was changed since it was read.
    let text = "[parameters]\n\"path.name\" = \"orders\"\n\
                [checks.negative_data_rejection]\nexpected-statuses = [\"4xx\"]\n";
    std::fs::write(known, text).unwrap();
    let token = postern(&["token", "create", "tests", "--scope", "admin"]);
    let url = format!("http://127.0.0.1:{port}");
    let mut schemathesis = Command::new("timeout");
    schemathesis
        .args(["--kill-after=5s", "300s"])
        .arg(named_by("POSTERN_TEST_SCHEMATHESIS"))
        .args(["run", &format!("{url}/openapi.json"), "--url", &url, "--checks", CHECKS])
        .args(["--phases", "examples,coverage", "--request-timeout", "60"])
        // They wait for a promotion that nobody makes here.
        .args(["--exclude-path-regex", "(switchover|drill)$"])
        .args(["-H", &format!("Authorization: Bearer {}", token.trim())])
        .stdin(Stdio::null())
        .current_dir(directory.path());
    println!("{}", stdout(&run(&mut schemathesis)));
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Bound, and about to be served.
    std::thread::sleep(Duration::from_millis(200));
}

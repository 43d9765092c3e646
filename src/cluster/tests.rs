//! Against real servers: a host without one fails here, with the error that
//! says what to install.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::*;

/// Set for the process that [`nothing_outlives_a_killed_owner`] kills.
const TO_BE_KILLED: &str = "POSTERN_TEST_CLUSTER_OWNER";

fn tls_installation() -> Installation {
    Installations::find().unwrap().postgresql().unwrap().clone()
}

fn quick(installation: &Installation) -> Builder {
    Cluster::builder(installation).durable(false)
}

/// Waits for something that another process is about to do.
fn eventually(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn every_installation_of_this_host_serves() {
    let installations = Installations::find().unwrap();
    installations.postgresql().unwrap();
    installations.vector().unwrap();
    for installation in installations.iter() {
        let cluster = quick(installation).start().unwrap();
        let version = cluster.psql("SHOW server_version_num").unwrap();
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, installation.major());
        if installation.has_pgvector() {
            let sql = "CREATE EXTENSION vector; SELECT '[3,4]'::vector <-> '[0,0]'";
            assert_eq!(cluster.psql(sql).unwrap(), "5");
        }
    }
}

#[test]
fn a_cluster_is_what_its_builder_said() {
    let cluster = quick(&tls_installation())
        .superuser("owner")
        .password("it's \\ secret")
        .max_connections(28)
        .setting("cluster_name", "it's")
        .database("Orders \"1\"")
        .sql("Orders \"1\"", "CREATE TABLE t AS SELECT 7 AS n")
        .start()
        .unwrap();
    assert_eq!(cluster.psql("SELECT current_user").unwrap(), "owner");
    assert_eq!(cluster.psql("SHOW max_connections; SHOW cluster_name").unwrap(), "28\nit's");
    assert_eq!(cluster.psql_in("Orders \"1\"", "SELECT n FROM t").unwrap(), "7");
    let error = cluster.psql("SELECT 1; SELECT nothing").unwrap_err().to_string();
    assert!(error.contains("column \"nothing\" does not exist"), "{error}");
    assert!(cluster.log().unwrap().contains("column \"nothing\" does not exist"));
    assert!(!format!("{cluster:?}").contains("secret"));
}

#[test]
fn every_way_in_takes_a_password() {
    let cluster = quick(&tls_installation()).ipv6().start().unwrap();
    for host in [cluster.socket_dir(), Path::new("127.0.0.1"), Path::new("::1")] {
        let login = |password: &str| {
            let mut psql = cluster.client("psql", "postgres");
            psql.env("PGHOST", host).env("PGPASSWORD", password);
            psql.args(["-XAtc", "SELECT 1"]).output().unwrap()
        };
        assert_eq!(login(cluster.password()).stdout, b"1\n", "{}", host.display());
        let refused = String::from_utf8(login("wrong").stderr).unwrap();
        assert!(refused.contains("password authentication failed"), "{refused}");
    }
    assert_eq!(
        cluster.psql("SELECT DISTINCT auth_method FROM pg_hba_file_rules").unwrap(),
        "scram-sha-256"
    );
}

#[test]
fn tls_is_on_with_a_certificate() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let cluster = quick(&tls_installation())
        .tls(certificate.clone(), key.clone())
        .hba("hostnossl all all 127.0.0.1/32 reject")
        .start()
        .unwrap();
    let login = |sslmode: &str| {
        let mut psql = cluster.client("psql", "postgres");
        psql.env("PGHOST", "127.0.0.1").env("PGSSLMODE", sslmode);
        psql.args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]);
        String::from_utf8(psql.output().unwrap().stdout).unwrap()
    };
    assert_eq!(login("require"), "t\n");
    assert_eq!(login("disable"), "");

    let installations = Installations::find().unwrap();
    if let Some(without) = installations.iter().find(|found| !found.has_tls()) {
        let refused = quick(without).tls(certificate, key).start();
        assert!(matches!(refused, Err(Error::NoTls { .. })));
    }
}

#[test]
fn a_server_stops_and_starts_on_its_port_with_its_data() {
    let cluster =
        quick(&tls_installation()).sql("postgres", "CREATE TABLE kept ()").start().unwrap();
    let (port, first) = (cluster.port(), cluster.pid().unwrap());
    for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
        cluster.stop(mode).unwrap();
        assert_eq!(cluster.pid(), None);
        assert!(!runs(first));
        assert!(matches!(cluster.reload(), Err(Error::Stopped)));
        cluster.stop(mode).unwrap();
        cluster.start().unwrap();
        cluster.start().unwrap();
    }
    cluster.restart().unwrap();
    assert_eq!(cluster.port(), port);
    assert_ne!(cluster.pid(), Some(first));
    assert_eq!(cluster.psql("SELECT count(*) FROM kept").unwrap(), "0");
}

#[test]
fn a_killed_server_recovers_although_a_backend_was_busy() {
    let cluster = quick(&tls_installation()).start().unwrap();
    let mut psql = cluster.client("psql", "postgres");
    let busy = "DO $$BEGIN LOOP END LOOP; END$$";
    let mut client = psql.args(["-Xc", busy]).stderr(Stdio::null()).spawn().unwrap();
    let seen = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'";
    eventually(Duration::from_secs(10), "a busy backend", || cluster.psql(seen).unwrap() == "1");
    cluster.kill_9().unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(2));
    cluster.start().unwrap();
    assert_eq!(cluster.psql("SELECT 1").unwrap(), "1");
}

#[test]
fn reload_reads_the_configuration_again() {
    let cluster = quick(&tls_installation()).start().unwrap();
    cluster.psql("ALTER SYSTEM SET work_mem = '7MB'").unwrap();
    cluster.reload().unwrap();
    let shown = || cluster.psql("SHOW work_mem").unwrap() == "7MB";
    eventually(Duration::from_secs(10), "the new setting", shown);
}

#[test]
fn a_frozen_server_answers_nobody_until_it_is_thawed_or_dropped() {
    let cluster = quick(&tls_installation()).start().unwrap();
    cluster.freeze().unwrap();
    let mut psql = cluster.client("psql", "postgres");
    let mut client = psql.args(["-Xqc", "SELECT 1"]).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(client.try_wait().unwrap().is_none());
    cluster.thaw().unwrap();
    assert!(client.wait().unwrap().success());
    cluster.freeze().unwrap();
    let start = Instant::now();
    drop(cluster);
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_standby_streams_is_promoted_and_the_former_primary_rejoins() {
    let one = quick(&tls_installation()).superuser("an owner").password("a:b\\'c").start().unwrap();
    let two = one.standby().unwrap();
    let three = one.standby().unwrap();
    one.psql("CREATE TABLE t AS SELECT 7 AS n").unwrap();
    two.wait_until_caught_up(&one).unwrap();
    assert_eq!(two.psql("SELECT n, pg_is_in_recovery() FROM t").unwrap(), "7|t");

    one.freeze().unwrap();
    one.crash().unwrap();
    assert_eq!(one.pid(), None);
    two.promote().unwrap();
    two.psql("INSERT INTO t VALUES (8)").unwrap();
    three.follow(&two).unwrap();
    three.wait_until_caught_up(&two).unwrap();
    assert_eq!(three.psql("SELECT count(*) FROM t").unwrap(), "2");

    // As it was: a second primary, with nothing of what came after it.
    one.start().unwrap();
    assert_eq!(one.psql("SELECT count(*), pg_is_in_recovery() FROM t").unwrap(), "1|f");
    one.rejoin(&two).unwrap();
    assert_eq!(one.psql("SELECT count(*), pg_is_in_recovery() FROM t").unwrap(), "2|t");
}

#[test]
fn a_taken_port_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let refused = quick(&tls_installation()).port(port).start();
    assert!(matches!(refused, Err(Error::PortTaken { port: named }) if named == port));
    // With a second address PostgreSQL itself would be content.
    let refused = quick(&tls_installation()).port(port).ipv6().start();
    assert!(matches!(refused, Err(Error::PortTaken { port: named }) if named == port));
}

#[test]
fn a_failed_start_quotes_the_log() {
    let refused = quick(&tls_installation()).setting("shared_buffers", "much").start();
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("invalid value for parameter \"shared_buffers\""), "{error}");
    let refused = quick(&tls_installation()).superuser("pg_not_allowed").start();
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("initdb failed") && error.contains("pg_not_allowed"), "{error}");
}

#[test]
fn a_drop_removes_the_temporary_directory_and_keeps_a_given_one() {
    let installation = tls_installation();
    let cluster = quick(&installation).start().unwrap();
    let (data, pid) = (cluster.data_dir().to_owned(), cluster.pid().unwrap());
    drop(cluster);
    assert!(!runs(pid) && !data.parent().unwrap().exists());

    let given = tempfile::Builder::new().prefix("postern-given-").tempdir().unwrap();
    fs::set_permissions(given.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = given.path().join("node");
    let cluster = quick(&installation).directory(&directory).start().unwrap();
    let pid = cluster.pid().unwrap();
    drop(cluster);
    assert!(!runs(pid) && directory.join("data/PG_VERSION").exists());
    let refused = quick(&installation).directory(&directory).start();
    assert!(matches!(refused, Err(Error::NotEmpty { .. })));
}

/// What an earlier process left at work counts, too: it has the lock as long.
#[test]
fn a_directory_is_worked_on_by_one_cluster_at_a_time() {
    let installation = tls_installation();
    let given = tempfile::Builder::new().prefix("postern-given-").tempdir().unwrap();
    fs::set_permissions(given.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = given.path().join("node");
    let kept = || quick(&installation).password("secret").directory(&directory);
    let first = kept().start().unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| kept().open().unwrap());
        thread::sleep(Duration::from_secs(1));
        assert!(!second.is_finished(), "it did not wait");
        drop(first);
        assert_eq!(second.join().unwrap().psql("SELECT 1").unwrap(), "1");
    });
}

#[test]
fn nothing_outlives_a_killed_owner() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--ignored"]).arg(own_path("an_owner_to_be_killed"));
    let mut owner = command.env(TO_BE_KILLED, "1").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).find_map(|line| {
        let (pid, directory) = line.split_once("owns ")?.1.split_once(' ')?;
        Some((pid.parse::<u32>().ok()?, PathBuf::from(directory)))
    });
    let (pid, directory) = told.unwrap();
    assert!(runs(pid) && directory.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = || !runs(pid) && !directory.exists();
    eventually(Duration::from_secs(15), "the server and its directory gone", gone);
}

#[test]
#[ignore = "a process for nothing_outlives_a_killed_owner"]
fn an_owner_to_be_killed() {
    if env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let cluster = quick(&tls_installation()).start().unwrap();
    let directory = cluster.data_dir().parent().unwrap();
    println!("owns {} {}", cluster.pid().unwrap(), directory.display());
    thread::sleep(Duration::from_secs(60));
}

/// The name that the test harness gives to a test of this file.
fn own_path(test: &str) -> String {
    let (_, module) = module_path!().split_once("::").unwrap();
    format!("{module}::{test}")
}

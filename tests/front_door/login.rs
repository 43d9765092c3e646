//! Authentication against PostgreSQL's verifiers, and the login on the node.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::pooled_client::ask;
use super::raw::{Message, Raw, V3_0, message, startup_packet};
use super::stage::{
    MANAGEMENT, PASSWORD, Stage, Wanted, eventually, psql, run, server, start_server, stdout,
};
use postern::cluster::{Installations, StopMode};

/// Postern's answer to a login: the SQLSTATE, or nothing.
fn verdict(stage: &Stage, password: &str) -> Option<String> {
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    let answer = raw.authenticate(password);
    (answer.kind == b'E').then(|| answer.sqlstate())
}

/// How long the old credential is still taken after a change on the server.
fn refused_after(stage: &Stage, sql: &str) -> Duration {
    assert_eq!(verdict(stage, PASSWORD), None);
    let changed = Instant::now();
    server().psql(sql).unwrap();
    while verdict(stage, PASSWORD).is_none() {
        assert!(changed.elapsed() < Duration::from_secs(10), "still let in after {sql}");
        std::thread::sleep(Duration::from_millis(50));
    }
    changed.elapsed()
}

#[test]
fn old_credentials_are_refused_within_five_seconds() {
    for change in ["PASSWORD 'new'", "NOLOGIN", "VALID UNTIL '2001-01-01'"] {
        let stage = Stage::usual();
        let took = refused_after(&stage, &format!("ALTER ROLE {} {change}", stage.role));
        println!("{change}: refused after {took:?}");
        assert!(took < Duration::from_secs(5));
    }
}

#[test]
fn a_dropped_role_is_refused_within_five_seconds() {
    let stage = Stage::usual();
    let role = &stage.role;
    assert_eq!(verdict(&stage, PASSWORD), None);
    server().psql(&format!("ALTER DATABASE {role} OWNER TO postgres")).unwrap();
    let took = refused_after(&stage, &format!("DROP ROLE {role}"));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_new_password_works_soon_after_the_old_one_fails() {
    let stage = Stage::usual();
    assert_eq!(verdict(&stage, PASSWORD), None);
    server().psql(&format!("ALTER ROLE {} PASSWORD 'new'", stage.role)).unwrap();
    let changed = Instant::now();
    eventually("the new password to be taken", || verdict(&stage, "new").is_none());
    assert!(changed.elapsed() < Duration::from_secs(5), "{:?}", changed.elapsed());
}

#[test]
fn a06_an_expired_role_is_refused_as_a_wrong_password_is() {
    let stage = Stage::usual();
    server().psql(&format!("ALTER ROLE {} VALID UNTIL '2001-01-01'", stage.role)).unwrap();
    assert_eq!(verdict(&stage, PASSWORD).as_deref(), Some("28P01"));
}

#[test]
fn a08_roles_without_a_scram_verifier_are_refused() {
    let stage = Stage::usual();
    let role = &stage.role;
    for change in [
        format!("ALTER ROLE {role} PASSWORD NULL"),
        format!("SET password_encryption = 'md5'; ALTER ROLE {role} PASSWORD '{PASSWORD}'"),
    ] {
        server().psql(&change).unwrap();
        let fresh = Stage::usual();
        let mut raw = Raw::connect(fresh.session_port);
        raw.startup(V3_0, &[("user", &format!("{role}.orders"))]);
        assert_eq!(raw.authenticate(PASSWORD).sqlstate(), "28P01", "{change}");
    }
    let mut raw = Raw::connect(stage.session_port);
    raw.startup(V3_0, &[("user", &format!("{MANAGEMENT}_missing.orders"))]);
    assert_eq!(raw.authenticate(PASSWORD).sqlstate(), "28P01");
}

#[test]
fn a05_no_client_setting_reaches_the_management_connection() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.session_port);
    let user = format!("{}.orders", stage.role);
    let parameters = [
        ("user", user.as_str()),
        ("search_path", "evil"),
        ("options", "-c search_path=evil -c role=postgres"),
    ];
    raw.startup(V3_0, &parameters);
    assert_eq!(raw.read().kind, b'R');
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{MANAGEMENT}' AND query LIKE '%evil%'"
    );
    assert_eq!(server().psql(&sql).unwrap().trim(), "0");
}

#[test]
fn a25_logins_go_on_after_server_restart_and_reload() {
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
    assert_eq!(stdout(&psql(&stage.uri(""), "SELECT 1")), "1");
    let mut pooled = Raw::connect(stage.transaction_port);
    pooled.startup(V3_0, &[("user", &format!("{}.orders", stage.role))]);
    assert_eq!(pooled.authenticate(PASSWORD).kind, b'R');
    pooled.read_until(b'Z');
    // A client of the pool logs in on the server anew with the keys of its own
    // login, however long ago that was.
    let mut answers = || {
        pooled.query("SELECT 1");
        pooled.read_until(b'Z').iter().any(|message| message.kind == b'D')
    };
    assert!(answers());
    server.restart().unwrap();
    eventually("a login after the restart", || psql(&stage.uri(""), "SELECT 1").status.success());
    eventually("the pool to be filled again", &mut answers);
    stage.block_on(stage.postern().reload()).unwrap();
    assert_eq!(stdout(&psql(&stage.uri(""), "SELECT 1")), "1");
    server.restart().unwrap();
    eventually("the pool to be filled after the reload", answers);
}

#[test]
fn a26_long_passwords_work() {
    for length in [996, 1_024, 4_096, 16_000] {
        let stage = Stage::usual();
        let password = "p".repeat(length);
        server().psql(&format!("ALTER ROLE {} PASSWORD '{password}'", stage.role)).unwrap();
        assert_eq!(verdict(&stage, &password), None, "{length}");
        assert_eq!(verdict(&stage, &password[1..]).as_deref(), Some("28P01"), "{length}");
    }
}

#[test]
fn a28_a_primary_that_is_down_is_waited_for_and_then_57p03() {
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let wanted = Wanted {
        server: Some(&server),
        settings: &[("timeouts", "failover_wait = \"1s\"")],
        ..Wanted::default()
    };
    let stage = Stage::new(&wanted);
    // A service that was never used is not watched.
    assert_eq!(verdict(&stage, PASSWORD), None);
    server.stop(StopMode::Fast).unwrap();
    eventually("the node to be seen down", || {
        let service = stage.postern().door().directory.service(&"orders".parse().unwrap());
        service.unwrap().topology.primary.is_err()
    });
    let started = Instant::now();
    assert_eq!(verdict(&stage, PASSWORD).as_deref(), Some("57P03"));
    let held = started.elapsed();
    assert!(held >= Duration::from_secs(1) && held < Duration::from_secs(5), "{held:?}");
    server.start().unwrap();
    eventually("logins to work again", || verdict(&stage, PASSWORD).is_none());
}

#[test]
fn a28_a_login_that_waits_gets_in_when_the_primary_is_back() {
    let server = start_server(Installations::find().unwrap().postgresql().unwrap());
    let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
    assert_eq!(verdict(&stage, PASSWORD), None);
    server.stop(StopMode::Fast).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Raw::log_in(&stage, &[]).map(|_| ()));
        std::thread::sleep(Duration::from_millis(700));
        assert!(!waiting.is_finished());
        server.start().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

/// A list of PGOPTIONS strings must mean to PostgreSQL behind Postern what
/// they mean to PostgreSQL.
#[test]
fn a19_options_mean_what_they_mean_to_postgresql() {
    let stage = Stage::usual();
    let direct = format!(
        "host=127.0.0.1 port={} user={} dbname={} password={PASSWORD} sslmode=disable",
        server().port(),
        stage.role,
        stage.role
    );
    let proxied = format!(
        "host=127.0.0.1 port={} user={}.orders dbname={} password={PASSWORD} sslmode=disable",
        stage.session_port, stage.role, stage.role
    );
    let cases = [
        "-c search_path=my-customers",
        "-c timezone=Etc/GMT+3",
        "-csearch_path=a,b",
        "--search_path=x --work_mem=1MB",
        "-c search_path=a\\ b",
        "-c search_path=a\\\\b",
        "-c application_name=x=y=z",
        "-c statement_timeout=5s -c lock_timeout=7",
        "-c search_path='a b'",
        "  -c   work_mem=2MB\t-c timezone=UTC ",
        "-c nonsense",
        "-c no_such_setting=1",
        "-x",
        "",
        "-c search_path=\u{00fc}\u{1F418}",
        "-c datestyle=German -c intervalstyle=iso_8601",
        "-c myapp.tenant=42",
    ];
    let shown = "SELECT name || '=' || setting FROM pg_settings WHERE name IN \
        ('search_path','TimeZone','work_mem','application_name','statement_timeout','lock_timeout','DateStyle','IntervalStyle') \
        OR source = 'client' ORDER BY name";
    for options in cases {
        let say = |conninfo: &str| {
            let psql = Installations::find().unwrap().postgresql().unwrap().program("psql");
            let mut command = Command::new(psql);
            command.args(["-XAtq", conninfo, "-c", shown]).env("PGOPTIONS", options);
            let out = run(&mut command);
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let error = said(&out.stderr);
            (said(&out.stdout), error.rsplit_once("FATAL:").map(|(_, text)| text.to_owned()))
        };
        assert_eq!(say(&proxied), say(&direct), "PGOPTIONS={options:?}");
    }
}

#[test]
fn startup_settings_that_postgresql_does_not_like_are_its_to_refuse() {
    let stage = Stage::usual();
    let refused = Raw::log_in(&stage, &[("work_mem", "plenty")]).err().unwrap();
    assert_eq!(refused.sqlstate(), "22023");
    let refused = Raw::log_in(&stage, &[("no_such_setting", "1")]).err().unwrap();
    assert_eq!(refused.sqlstate(), "42704");
    for (name, value) in
        [("extra_float_digits", "3"), ("search_path", "a,b"), ("application_name", "")]
    {
        assert!(Raw::log_in(&stage, &[(name, value)]).is_ok(), "{name}");
    }
}

#[test]
fn the_client_hears_the_servers_own_process_id_and_parameters() {
    let stage = Stage::usual();
    let parameters = [("application_name", "probe"), ("timezone", "Europe/Berlin")];
    let (mut raw, messages) = Raw::log_in(&stage, &parameters).unwrap();
    let said = |name: &str| {
        messages.iter().filter(|m| m.kind == b'S').find_map(|m| {
            let mut parts = m.body.split(|b| *b == 0);
            (parts.next()? == name.as_bytes())
                .then(|| String::from_utf8(parts.next().unwrap().to_vec()).unwrap())
        })
    };
    assert_eq!(said("application_name").as_deref(), Some("probe"));
    assert_eq!(said("TimeZone").as_deref(), Some("Europe/Berlin"));
    assert!(said("server_version").is_some());
    let key = messages.iter().find(|m| m.kind == b'K').unwrap();
    let process_id = u32::from_be_bytes(key.body[..4].try_into().unwrap());
    assert_eq!(ask(&mut raw, "SELECT pg_backend_pid()"), process_id.to_string());
}

/// A server that says what it is told to, after it has read a startup packet.
fn fake_server(script: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let script = script.clone();
            std::thread::spawn(move || speak(stream.unwrap(), &script));
        }
    });
    address
}

fn speak(mut stream: TcpStream, script: &[Vec<u8>]) {
    let mut buffer = [0; 4096];
    let mut script = script.iter();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if buffer[..read] == super::raw::SSL_REQUEST {
            let _ = stream.write_all(b"N");
            continue;
        }
        match script.next() {
            Some(bytes) => {
                let _ = stream.write_all(bytes);
            }
            None => return,
        }
    }
}

fn node(address: &str) -> postern::directory::Node {
    postern::directory::Node {
        service: "orders".parse().unwrap(),
        address: address.parse().unwrap(),
        tls: postern::domain::NodeTls::Prefer,
        authorities: None,
        capacity: 1,
        pooling: postern::directory::Pooling::default(),
    }
}

/// Logs in on a fake server directly, as Postern does after its own SCRAM.
fn against(
    script: Vec<Vec<u8>>,
) -> Result<postern::upstream::LoggedIn, postern::upstream::LoginFailure> {
    use postern::auth::client::derive_keys;
    let node = node(&fake_server(script));
    let keys = derive_keys(PASSWORD, b"salt", 1.try_into().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let dialer = postern::upstream::Dialer::default();
        let mut reached = dialer.dial(&node, deadline).await.unwrap();
        let parameters = [("user".into(), "bob".into())];
        let login = postern::upstream::login::log_in(
            &mut reached.connection,
            None,
            &parameters,
            &keys,
            &[7; 18],
        );
        tokio::time::timeout_at(deadline, login).await.unwrap()
    })
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

#[test]
fn a02_long_scram_messages_of_a_server_fail_cleanly() {
    let offer = authentication(10, b"SCRAM-SHA-256\0\0");
    for long in [
        format!("r={},s=AAAA,i=1", "x".repeat(65_536)),
        format!("r=x,s={},i=1", "A".repeat(65_536)),
        format!("r=x,s=AAAA,i={}", "9".repeat(65_536)),
        "x".repeat(100_000),
    ] {
        let challenge = authentication(11, long.as_bytes());
        assert!(against(vec![offer.clone(), challenge]).is_err());
    }
    assert!(against(vec![message(b'R', &vec![0; 2 << 20])]).is_err());
}

#[test]
fn a03_a_servers_error_without_sqlstate_is_survived() {
    use postern::domain::refusal::ServerLoginFailure;
    use postern::upstream::LoginFailure;
    for body in [
        &b"\0"[..],
        b"",
        b"SFATAL\0Mno code\0\0",
        b"SFATAL\0C\0Mempty\0\0",
        b"SFATAL\0C3D000\0Mno end",
        b"garbage",
    ] {
        let failure = against(vec![message(b'E', body)]).unwrap_err();
        assert!(matches!(failure, LoginFailure::Garbled(_)), "not to be passed on: {body:?}");
        assert_eq!(failure.kind(), ServerLoginFailure::Broken, "{body:?}");
    }
    let told = against(vec![message(b'E', b"SFATAL\0C3D000\0Mnone\0\0")]).unwrap_err();
    assert!(matches!(told, LoginFailure::Refused { sqlstate, .. } if sqlstate == "3D000"));
}

#[test]
fn b08_a_server_that_tells_no_cancel_key_is_logged_in_to() {
    let trusted = [authentication(0, b""), message(b'S', b"a\0b\0"), message(b'Z', b"I")].concat();
    let logged_in = against(vec![trusted]).unwrap();
    assert_eq!((logged_in.process_id, logged_in.cancel_key.len()), (0, 0));
    let without_key =
        [authentication(0, b""), message(b'K', &[0, 0, 0, 9]), message(b'Z', b"I")].concat();
    let logged_in = against(vec![without_key]).unwrap();
    assert_eq!(logged_in.process_id, 9);
    let node = std::sync::Arc::new(node("127.0.0.1:5432"));
    let tenure = std::sync::Arc::default();
    let key = &logged_in.cancel_key;
    assert!(postern::upstream::cancel::Backend::new(&node, &tenure, 9, key).is_none());
}

#[test]
fn other_authentication_methods_are_named_and_refused() {
    use postern::domain::refusal::ServerLoginFailure;
    for code in [3, 5, 7] {
        let failure = against(vec![authentication(code, &[0; 4])]).unwrap_err();
        assert_eq!(failure.kind(), ServerLoginFailure::UnsupportedAuthentication, "{code}");
    }
}

/// Both directions of a whole login, cut into single bytes.
#[test]
fn d04_a_login_in_single_bytes_works() {
    let stage = Stage::usual();
    let mut raw = Raw::connect(stage.session_port);
    let user = format!("{}.orders", stage.role);
    for byte in startup_packet(V3_0, &[("user", &user), ("database", &stage.role)]) {
        raw.send(&[byte]);
    }
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    for byte in message(b'Q', b"SELECT 'whole'\0") {
        raw.send(&[byte]);
        std::thread::sleep(Duration::from_micros(300));
    }
    let messages: Vec<Message> = raw.read_until(b'Z');
    assert!(messages.iter().any(|m| m.kind == b'D' && m.body.ends_with(b"whole")));
}

//! What a user hears about each kind of mistake, word for word.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::reference;
use super::{Settings, load, parse};

/// A directory for a configuration and the files it names, gone when dropped.
pub(super) struct Directory(tempfile::TempDir);

impl Directory {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A service that is right, but for what `keys` says.
fn service(keys: &str) -> String {
    let mut lines = vec![
        "name = \"orders\"",
        "plan = \"startup-4\"",
        "nodes = [\"db1:5432\"]",
        "management = { user = \"postern\", password_file = \"orders.password\" }",
    ];
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    lines.retain(|line| !keys.lines().any(|own| key(own.trim()) == key(line)));
    format!("[[services]]\n{}\n{keys}\n", lines.join("\n"))
}

fn without(line: &str) -> String {
    let service = service("");
    assert!(service.contains(line));
    let others = service.lines().filter(|l| !l.starts_with(line));
    others.collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Result<Settings, Vec<String>> {
    let directory = reference::directory();
    let lines = |problems: super::Problems| {
        let base = format!("{}/", directory.path().display());
        problems
            .to_string()
            .lines()
            .map(|line| line.replace(&base, ""))
            .collect()
    };
    parse(text, directory.path()).map_err(lines)
}

fn accepted(text: &str) -> Settings {
    read(text).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

#[track_caller]
fn refused(text: &str, problems: &[&str]) {
    let found = read(text).map(|_| ()).unwrap_err();
    assert_eq!(found, problems, "{text}");
}

#[test]
fn every_problem_is_reported_at_once() {
    refused(
        r#"
        [listen]
        session = ["127.0.0.1:5432", "localhost:5432", 5]
        [tls]
        mode = "on"
        modus = "require"
        [limits]
        max_clients = 0
        [timeouts]
        drain_timeout = 30
        [[services]]
        name = "orders"
        plan = "startup4"
        allowlist = ["everyone", "10.0.0.0/8"]
        nodes = ["db1:5432"]
        [[services]]
        name = "orders"
        "#,
        &[
            "listen.session[1]: expected \"IP:port\", \"[IPv6]:port\" or a socket directory and port such as \"/run/postern:5432\"; found \"localhost:5432\"",
            "listen.session[2]: expected \"IP:port\", \"[IPv6]:port\" or a socket directory and port such as \"/run/postern:5432\", found 5",
            "tls.mode: expected \"disable\", \"allow\" or \"require\", found \"on\"",
            "limits.max_clients: expected a number from 1 to 10000000, found 0",
            "timeouts.drain_timeout: expected a duration with its unit, such as \"30s\", \"1500ms\" or \"5m\", found 30",
            "services[0].plan: no plan \"startup4\" in the catalogue; is \"startup-4\" meant?",
            "services[0].allowlist[0]: an allowlist entry is an IP address, a CIDR block such as \"10.0.0.0/8\" or \"2001:db8::/32\", or \"local\"; found \"everyone\"",
            "services[0].management.user: is missing; expected a text that is not empty",
            "services[0].management.password_file: is missing; expected a path",
            "services[1].name: there is a service \"orders\" already",
            "services[1].plan: is missing; expected a text that is not empty",
            "services[1].nodes: is missing; expected a list in [ ]",
            "services[1].management.user: is missing; expected a text that is not empty",
            "services[1].management.password_file: is missing; expected a path",
            "tls.modus: unknown key; is \"mode\" meant?",
        ],
    );
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    refused(
        "[lissten]\n",
        &["lissten: unknown key; is \"listen\" meant?"],
    );
    refused(
        "[limits]\ndrain_timeout = \"5s\"\n",
        &["limits.drain_timeout: unknown key; is \"timeouts.drain_timeout\" meant?"],
    );
    refused(
        "[log]\ncolour = true\n",
        &["log.colour: unknown key; known here: format and level"],
    );
    refused(
        &service("alowlist = []"),
        &["services[0].alowlist: unknown key; is \"allowlist\" meant?"],
    );
}

#[test]
fn syntax_errors_show_line_and_column() {
    refused(
        "[log]\nformat = text\n[tls\nmode = \"allow\"\n",
        &[
            "line 2, column 10: invalid boolean, expected `true`",
            "line 3, column 5: unclosed table, expected `]`",
        ],
    );
    refused(
        "log.level = \"info\"\nlog.level = \"warn\"",
        &["line 2, column 5: duplicate key"],
    );
    refused(
        "log.level = \"é\" x",
        &["line 1, column 17: unexpected key or value, expected newline, `#`"],
    );
}

#[test]
fn sections_and_lists_of_them_are_told_apart() {
    refused("tls = 5", &["tls: expected a section [tls], found 5"]);
    refused(
        "[services]\nname = \"orders\"",
        &["services: expected sections [[services]], found a section"],
    );
    refused("[[log]]", &["log: expected a section [log], found a list"]);
    refused(
        "services = [5]",
        &["services: expected sections [[services]], found a list"],
    );
}

#[test]
fn listeners_are_unique_and_there_is_one() {
    refused(
        "[listen]\nsession = [\"127.0.0.1:5432\"]\ntransaction = [\"[::1]:1\", \"127.0.0.1:5432\"]",
        &["listen.transaction[1]: 127.0.0.1:5432 is listed at listen.session[0] already"],
    );
    refused(
        "[listen]\nsession = []\ntransaction = []",
        &["listen.session: expected at least one listener, here or in listen.transaction"],
    );
    refused(
        "[listen]\nsession = \"127.0.0.1:5432\"",
        &["listen.session: expected a list in [ ], found \"127.0.0.1:5432\""],
    );
    refused(
        "[listen]\nproxy_protocol_from = [\"lb1\", \"10.0.0.1\"]",
        &[
            "listen.proxy_protocol_from[0]: expected an IP address or a CIDR block such as \"10.0.0.0/8\", found \"lb1\"",
        ],
    );
}

#[test]
fn a_listener_for_other_hosts_needs_a_certificate() {
    let listen = "[listen]\nsession = [\"127.0.0.1:5432\", \"0.0.0.0:5432\"]\n";
    refused(
        listen,
        &[
            "tls.certificate: is missing, and other hosts can reach the listener 0.0.0.0:5432: make one with \"postern cert --self-signed DIR\", or set tls.mode = \"disable\"",
        ],
    );
    accepted(&format!("{listen}[tls]\nmode = \"disable\""));
    accepted(&format!(
        "{listen}[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\""
    ));
    accepted("[tls]\nmode = \"require\"");
}

#[test]
fn certificates_come_with_their_keys() {
    refused(
        "[tls]\ncertificate = \"server.crt\"",
        &["tls.key: is missing; tls.certificate is given"],
    );
    refused(
        "[tls]\nkey = \"server.key\"",
        &["tls.certificate: is missing; tls.key is given"],
    );
    refused(
        "[[tls.certificates]]\ncertificate = \"other.crt\"\nkey = \"other.key\"",
        &["tls.certificate: is missing; clients that name no host are shown this one"],
    );
    refused(
        "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n[[tls.certificates]]\nkey = \"other.key\"",
        &["tls.certificates[0].certificate: is missing; expected a path"],
    );
}

#[test]
fn files_must_be_there_and_secrets_private() {
    refused(
        "[tls]\ncertificate = \"none.crt\"\nkey = \".\"",
        &[
            "tls.certificate: cannot read none.crt: No such file or directory (os error 2)",
            "tls.key: cannot read .: it is not a regular file",
        ],
    );
    let directory = reference::directory();
    for (mode, private) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
        directory.file("server.key", "", mode);
        let text = "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"";
        assert_eq!(parse(text, directory.path()).is_ok(), private, "{mode:o}");
    }
    directory.file("orders.password", "x", 0o644);
    let path = directory.path().join("orders.password");
    let path = path.display();
    assert_eq!(
        parse(&service(""), directory.path())
            .unwrap_err()
            .to_string(),
        format!(
            "services[0].management.password_file: {path} holds a secret and is open to every user (mode 0644): chmod o= {path}"
        )
    );
}

#[test]
fn a_secret_file_may_be_missing_but_not_open() {
    let directory = Directory::new();
    let text = "[auth]\nsecret_file = \"secret\"";
    let settings = parse(text, directory.path()).unwrap();
    assert_eq!(settings.auth.secret_file, directory.path().join("secret"));
    directory.file("secret", "x", 0o604);
    assert!(parse(text, directory.path()).is_err());
}

#[test]
fn passwords_are_read_without_their_newline_and_never_shown() {
    let directory = Directory::new();
    let password = |content: &[u8]| {
        directory.file("orders.password", content, 0o600);
        parse(&service(""), directory.path()).map(|settings| {
            assert!(!format!("{settings:?}").contains("hunter2"));
            settings.services[0].management.password.expose().clone()
        })
    };
    for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        assert_eq!(password(content.as_bytes()).unwrap(), "hunter2");
    }
    assert_eq!(password(b" hunter2 \n").unwrap(), " hunter2 ");
    let cases: [(&[u8], &str); 5] = [
        (b"", "expected a password, found an empty file"),
        (b"\n", "expected a password, found an empty file"),
        (
            b"hunter2\nhunter3\n",
            "expected a password as the only line of the file",
        ),
        (b"hunter2\xff\n", "byte 7 is not UTF-8"),
        (&[b'x'; 16_385], "it is larger than 16384 bytes"),
    ];
    for (content, why) in cases {
        let text = password(content).unwrap_err().to_string();
        assert!(text.ends_with(why), "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[test]
fn a_service_keeps_its_plans_promise() {
    refused(
        &service("nodes = [\"db1:5432\", \"db2:5432\"]"),
        &["services[0].nodes: plan \"startup-4\" has nodes: 1, listed: 2"],
    );
    refused(
        &service("nodes = []"),
        &["services[0].nodes: expected at least one node"],
    );
    refused(
        &service("plan = \"premium-4\"\nnodes = [\"db1:5432\", \"db2:5432\", \"db1:5432\"]"),
        &["services[0].nodes[2]: db1:5432 is listed twice"],
    );
    refused(
        &service("plan = \"gold\""),
        &[
            "services[0].plan: no plan \"gold\" in the catalogue; there are hobbyist, startup-4, business-4, business-16, premium-4, premium-8",
        ],
    );
    let settings = accepted(&service("plan = \"premium-4\""));
    assert_eq!(
        settings.warnings[0].to_string(),
        "services[0].nodes: plan \"premium-4\" has nodes: 3, listed: 1"
    );
}

#[test]
fn each_required_key_of_a_service_is_missed() {
    for (line, problem) in [
        (
            "name",
            "services[0].name: is missing; expected a service name",
        ),
        (
            "plan",
            "services[0].plan: is missing; expected a text that is not empty",
        ),
        (
            "nodes",
            "services[0].nodes: is missing; expected a list in [ ]",
        ),
    ] {
        refused(&without(line), &[problem]);
    }
    refused(
        &service("name = \"orders-ro\""),
        &[
            "services[0].name: a service name does not end in \"-\", \"-ro\" or \"-pooler\"; found \"orders-ro\"",
        ],
    );
    refused(
        &service("nodes = [\"db1\"]"),
        &[
            "services[0].nodes[0]: a node address ends in \":port\", as in \"db1.internal:5432\" or \"[::1]:5432\"; found \"db1\"",
        ],
    );
    refused(
        &service("kind = \"mysql\""),
        &["services[0].kind: expected \"postgresql\" or \"vector\", found \"mysql\""],
    );
}

#[test]
fn verified_nodes_need_an_authority() {
    refused(
        &service("node_tls = \"verify-full\""),
        &["services[0].node_ca: is missing; expected a path"],
    );
    let settings = accepted(&service(
        "node_tls = \"verify-ca\"\nnode_ca = \"nodes-ca.crt\"",
    ));
    assert!(settings.services[0].node_ca.is_some());
}

#[test]
fn an_empty_allowlist_lets_nobody_in() {
    let local = crate::domain::ClientAddress::Local;
    let admits = |keys| {
        accepted(&service(keys)).services[0]
            .allowlist
            .permits(&local)
    };
    assert!(admits(""));
    assert!(admits("allowlist = [\"local\"]"));
    assert!(!admits("allowlist = []"));
}

#[test]
fn the_default_service_is_declared() {
    let routed = |default: &str, services: &str| {
        format!("[routing]\ndefault_service = \"{default}\"\n{services}")
    };
    accepted(&routed("orders", &service("")));
    refused(
        &routed("order", &service("")),
        &["routing.default_service: no service \"order\" is declared; is \"orders\" meant?"],
    );
    refused(
        &routed("a", ""),
        &["routing.default_service: no service \"a\" is declared"],
    );
    // A service that cannot be read is declared all the same.
    let text = routed("orders", &service("plan = \"startup4\""));
    assert_eq!(read(&text).unwrap_err().len(), 1);
}

#[test]
fn domains_are_checked_and_unique() {
    refused(
        "[routing]\ndomains = [\"a.example\", \"*.example\", \"A.example\"]",
        &["routing.domains[1]: expected a domain such as \"db.example.com\"; found \"*.example\""],
    );
    refused(
        "[routing]\ndomains = [\"a.example\", \"A.example\"]",
        &["routing.domains[1]: \"a.example\" is listed twice"],
    );
}

#[test]
fn metrics_can_be_off_and_sockets_have_short_paths() {
    assert_eq!(accepted("[metrics]\nlisten = \"\"").metrics.listen, None);
    refused(
        "[metrics]\nlisten = \"9127\"",
        &["metrics.listen: expected \"IP:port\", \"[IPv6]:port\" or \"\" for none, found \"9127\""],
    );
    let long = "a".repeat(108);
    refused(
        &format!("[admin]\nsocket = \"/{long}\""),
        &["admin.socket: the path of a socket has at most 107 bytes"],
    );
}

#[test]
fn numbers_have_limits() {
    for (value, found) in [
        ("-1", "-1"),
        ("1025", "1025"),
        ("1.5", "1.5"),
        ("\"4\"", "\"4\""),
    ] {
        refused(
            &format!("[runtime]\nworkers = {value}"),
            &[&format!(
                "runtime.workers: expected a number from 0 to 1024, found {found}"
            )],
        );
    }
    let cap = |n: u32| accepted(&format!("[limits]\nmax_unauthenticated_per_address = {n}"));
    assert_eq!(cap(0).limits.max_unauthenticated_per_address, None);
    assert!(cap(1).limits.max_unauthenticated_per_address.is_some());
}

/// Each key of `[timeouts]` with its limits, as a problem shows them.
const DURATIONS: [(&str, &str); 7] = [
    ("client_login_timeout", "1ms to 1day"),
    ("drain_timeout", "1ms to 1day"),
    ("server_connect_timeout", "1ms to 1day"),
    ("server_close_timeout", "1ms to 1day"),
    ("session_wait", "0s to 1day"),
    ("failover_wait", "0s to 1day"),
    ("verifier_max_age", "1s to 5s"),
];

fn duration_of(settings: &Settings, key: &str) -> Duration {
    let timeouts = &settings.timeouts;
    match key {
        "client_login_timeout" => timeouts.client_login,
        "drain_timeout" => timeouts.drain,
        "server_connect_timeout" => timeouts.server_connect,
        "server_close_timeout" => timeouts.server_close,
        "session_wait" => timeouts.session_wait,
        "failover_wait" => timeouts.failover_wait,
        "verifier_max_age" => timeouts.verifier_max_age,
        other => panic!("{other}"),
    }
}

#[test]
fn c11_every_duration_has_a_unit() {
    for (key, limits) in DURATIONS {
        let text = |value: &str| format!("[timeouts]\n{key} = {value}");
        let read = |value: &str| duration_of(&accepted(&text(value)), key);
        assert_eq!(read("\"1500ms\""), Duration::from_millis(1500), "{key}");
        if limits.ends_with("1day") {
            assert_eq!(read("\"5m\""), Duration::from_secs(300), "{key}");
        }
        for bare in ["30", "1.5", "\"30\""] {
            refused(
                &text(bare),
                &[&format!(
                    "timeouts.{key}: expected a duration with its unit, such as \"30s\", \"1500ms\" or \"5m\", found {bare}"
                )],
            );
        }
        for wrong in ["\"\"", "\"-1s\"", "\"1 fortnight\"", "true", "\"2days\""] {
            refused(
                &text(wrong),
                &[&format!(
                    "timeouts.{key}: expected a duration from {limits}, found {wrong}"
                )],
            );
        }
    }
}

#[test]
fn c12_zero_is_off_where_waiting_is_a_choice_and_refused_elsewhere() {
    for (key, limits) in DURATIONS {
        for zero in ["0", "\"0\"", "\"0s\""] {
            let text = format!("[timeouts]\n{key} = {zero}");
            if limits.starts_with("0s") {
                assert_eq!(duration_of(&accepted(&text), key), Duration::ZERO);
            } else {
                refused(
                    &text,
                    &[&format!(
                        "timeouts.{key}: expected a duration from {limits}, found {zero}"
                    )],
                );
            }
        }
    }
}

#[test]
fn the_catalogues_problems_are_reported_at_the_key_that_names_it() {
    let directory = Directory::new();
    let with = |catalogue: &str| {
        directory.file("plans.toml", catalogue, 0o644);
        let text = format!("[plans]\nfile = \"plans.toml\"\n{}", service(""));
        directory.file("orders.password", "x", 0o600);
        let problems = parse(&text, directory.path()).unwrap_err().to_string();
        problems.replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(
        with(""),
        "plans.file: plans.toml: plans: expected at least one [[plans]]"
    );
    let row = "[[plans]]\nname = \"a\"\nmax_connections = 1\nnodes = 1\n";
    assert_eq!(
        with(&format!("{row}{row}")),
        "plans.file: plans.toml: plans[1].name: there is a plan \"a\" already"
    );
    assert_eq!(
        with("[[plans]]\nname = \"a b\"\nmax_connections = 100001\nnodes = 0\nstandbys = 1"),
        "plans.file: plans.toml: plans[0].name: expected a plan's name of 1 to 63 letters, digits, \"-\", \"_\" or \".\"; found \"a b\"\n\
         plans.file: plans.toml: plans[0].max_connections: expected a number from 1 to 100000, found 100001\n\
         plans.file: plans.toml: plans[0].nodes: expected a number from 1 to 100, found 0\n\
         plans.file: plans.toml: plans[0].standbys: unknown key; known here: name, max_connections, nodes, backup_retention_days, multi_az and availability"
    );
    assert_eq!(
        with("[[plans]]\nname = \"a\""),
        "plans.file: plans.toml: plans[0].max_connections: is missing; expected a number from 1 to 100000\n\
         plans.file: plans.toml: plans[0].nodes: is missing; expected a number from 1 to 100"
    );
    // The plans of another catalogue are those that services can be on.
    assert_eq!(
        with(row),
        "services[0].plan: no plan \"startup-4\" in the catalogue; there are a"
    );
}

#[test]
fn no_service_is_a_warning() {
    let settings = accepted("");
    assert_eq!(
        settings.warnings[0].to_string(),
        "services: no service is declared: every client will be refused"
    );
}

#[test]
fn a_reload_knows_what_needs_a_restart() {
    let old = accepted("");
    assert!(old.restart_needed(&old).is_empty());
    assert!(
        old.restart_needed(&accepted("[limits]\nmax_clients = 5"))
            .is_empty()
    );
    let new = accepted(
        r#"
        runtime.workers = 3
        listen = { session = ["[::1]:5432"], transaction = [], proxy_protocol_from = ["10.0.0.1"] }
        auth.secret_file = "secret"
        metrics.listen = ""
        admin.socket = "admin.sock"
        log = { format = "json", level = "debug" }
        "#,
    );
    assert_eq!(
        old.restart_needed(&new),
        [
            "runtime.workers",
            "listen.session",
            "listen.transaction",
            "listen.proxy_protocol_from",
            "auth.secret_file",
            "metrics.listen",
            "admin.socket",
            "log.format",
            "log.level",
        ]
    );
}

#[test]
fn a_file_is_found_beside_its_configuration() {
    let directory = reference::directory();
    directory.file("postern.toml", service(""), 0o644);
    let settings = load(&directory.path().join("postern.toml")).unwrap();
    assert_eq!(settings.services[0].management.password.expose(), "secret");
    let missing = directory.path().join("none.toml");
    assert_eq!(
        load(&missing).unwrap_err().to_string(),
        format!(
            "cannot open {}: No such file or directory (os error 2)",
            missing.display()
        )
    );
    directory.file("postern.toml", b"# \xff", 0o644);
    let refused = load(&directory.path().join("postern.toml")).unwrap_err();
    assert!(refused.to_string().ends_with("byte 2 is not UTF-8"));
}

#[test]
fn a_file_of_more_than_16_mib_is_refused() {
    let directory = Directory::new();
    directory.file("postern.toml", vec![b'\n'; 16 * 1024 * 1024 + 1], 0o644);
    let refused = load(&directory.path().join("postern.toml")).unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("it is larger than 16777216 bytes")
    );
}

#[test]
fn long_values_are_shown_shortened() {
    let text = format!("[tls]\nmode = \"{}\"", "é".repeat(1000));
    let found = read(&text).unwrap_err().remove(0);
    assert!(
        found.ends_with(&format!("found \"{}\"…", "é".repeat(60))),
        "{found}"
    );
}

/// Replaces a part of the reference by something else.
fn mutated() -> impl Strategy<Value = String> {
    let text = reference::uncommented();
    let value = prop_oneof![
        "\\PC{0,40}",
        Just("[]".to_owned()),
        Just("\n[[services]]\n".to_owned()),
        Just("= { a = [[1], {}] }\n".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("\"18446744073709551615years\"".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("nan".to_owned()),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..40, value);
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, length, value) in edits {
            let start = at.index(chars.len());
            let end = (start + length).min(chars.len());
            chars.splice(start..end, value.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), Path::new("/nonexistent"));
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "([a-z.]{1,8} = )?[\\[\\]{}\",=#.0-9a-z\n]{0,200}") {
        let _ = parse(&text, Path::new("/nonexistent"));
    }

    #[test]
    fn a_mutated_configuration_is_read_or_refused(text in mutated()) {
        match parse(&text, Path::new("/nonexistent")) {
            Ok(settings) => prop_assert!(settings.restart_needed(&settings).is_empty()),
            Err(problems) => prop_assert!(!problems.to_string().is_empty()),
        }
    }
}

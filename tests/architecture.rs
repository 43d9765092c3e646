//! Folders are floors: a module imports only from floors below its own, and
//! siblings never import each other (`ARCHITECTURE.md` has the same table).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use postern::domain::refusal::{
    Aftermath, InvalidOption, Overdue, ProtocolViolation, ServerLoginFailure, Unavailable,
};
use postern::domain::{ClientAddress, PinReason, Refusal};

/// Every folder of `src`, and its floor.
const FLOORS: &[(&str, u32)] = &[
    ("domain", 0),
    ("wire", 1),
    ("directory", 1),
    ("metrics", 1),
    ("shutdown", 1),
    ("cluster", 1),
    ("rehearsal", 1),
    ("disk", 1),
    ("net", 2),
    ("auth", 2),
    ("admission", 2),
    ("routing", 2),
    ("state", 2),
    ("upstream", 3),
    ("pool", 4),
    ("session", 5),
    ("control", 5),
    ("app", 6),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut files: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).collect();
    files.extend(folders.iter().flat_map(|folder| rust_files(folder)));
    files
}

/// The folders that a file names as `crate::<folder>`, comments left out.
fn named_folders(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1).map(leading_identifier)).collect()
}

fn leading_identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_folder_has_a_floor() {
    let mut folders: Vec<String> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut known: Vec<String> = FLOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    folders.sort();
    known.sort();
    assert_eq!(folders, known);
}

#[test]
fn imports_go_down_and_never_sideways() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut imports = 0;
    for (folder, floor) in FLOORS {
        for file in rust_files(&source().join(folder)) {
            for named in named_folders(&fs::read_to_string(&file).unwrap()) {
                let Some(other) = floors.get(named.as_str()) else {
                    continue;
                };
                imports += 1;
                if named != *folder && other >= floor {
                    wrong.push(format!("{}: {folder} imports {named}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(imports > 100, "only {imports} imports were found: the test is blind");
}

#[test]
fn the_document_has_the_same_floors() {
    let document = fs::read_to_string(source().join("../ARCHITECTURE.md")).unwrap();
    for (folder, floor) in FLOORS {
        let row = document.lines().find(|line| line.starts_with(&format!("| {floor} |")));
        let row = row.unwrap_or_else(|| panic!("no row for floor {floor}"));
        assert!(row.contains(&format!("`{folder}`")), "{folder} is not in: {row}");
    }
}

#[test]
fn no_global_state_outside_the_relays_scratch() {
    for file in rust_files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let name = file.to_string_lossy();
        let is_test = ["fixture", "/tests/"].iter().any(|word| name.contains(word));
        let is_test = is_test || file.ends_with("tests.rs");
        for word in ["OnceLock", "LazyLock", "static mut", "lazy_static"] {
            let found = code.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
            assert!(!found || is_test, "{}: {word}", file.display());
        }
    }
}

/// Proofs, server signatures and cancel keys are held against secrets in
/// constant time, and no other code compares what `Secret` guards: it has no
/// `PartialEq`, and whatever is exposed is not compared with an operator.
#[test]
fn a13_secrets_are_compared_in_constant_time() {
    for (file, places) in
        [("auth/server.rs", 1), ("auth/client.rs", 1), ("directory/cancel_keys.rs", 1)]
    {
        let code = without_tests(&fs::read_to_string(source().join(file)).unwrap());
        let compared = code.matches("constant_time::verify_slices_are_equal(").count();
        assert_eq!(compared, places, "{file}");
    }
    let exposed = [".expose()", "stored_key ", "server_signature"];
    for file in rust_files(&source()) {
        let code = without_tests(&fs::read_to_string(&file).unwrap());
        for line in code.lines().filter(|line| line.contains("==") || line.contains("!=")) {
            let secret = exposed.iter().find(|name| line.contains(**name));
            assert_eq!(secret, None, "{}: {line}", file.display());
        }
    }
}

fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

#[test]
fn the_readme_repeats_the_refusal_table() {
    let readme = fs::read_to_string(source().join("../README.md")).unwrap();
    let table = readme.split("<!-- refusals -->").nth(1).expect("the table has its marks");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let refusals = every_refusal();
    assert!(refusals.iter().all(is_named));
    let expected: Vec<String> = refusals.iter().map(beginning_of_row).collect();
    let same = rows.len() == expected.len()
        && rows.iter().zip(&expected).all(|(row, expected)| row.starts_with(expected));
    assert!(same, "the README's rows should begin with:\n{}", expected.join("\n"));
}

/// Label, SQLSTATE and message; when it is heard is for the README to say.
fn beginning_of_row(refusal: &Refusal) -> String {
    let answer = refusal.answer();
    format!("| `{}` | {} | {} |", answer.label, answer.sqlstate.as_str(), answer.message)
}

fn every_refusal() -> Vec<Refusal> {
    use InvalidOption as Option;
    use ProtocolViolation as Violation;
    let address = ClientAddress::tcp("203.0.113.9:50000".parse().unwrap());
    let no_primary = |reason| Refusal::NoPrimary { service: "orders".parse().unwrap(), reason };
    let lacking = Unavailable::NoPgvector { nodes: vec!["db1:5432".to_owned()] };
    vec![
        Refusal::UnsupportedProtocol { major: 2, minor: 0 },
        Refusal::ProtocolViolation(Violation::StartupLength),
        Refusal::ProtocolViolation(Violation::StartupLayout),
        Refusal::ProtocolViolation(Violation::DataAfterSslRequest),
        Refusal::ProtocolViolation(Violation::DataAfterGssRequest),
        Refusal::ProtocolViolation(Violation::ExpectedSasl(b'Q')),
        Refusal::ProtocolViolation(Violation::SaslMechanism),
        Refusal::ProtocolViolation(Violation::MalformedScram),
        Refusal::ProtocolViolation(Violation::ScramMismatch),
        Refusal::ShuttingDown,
        Refusal::TlsRequired { address },
        Refusal::NoUser,
        Refusal::ServiceDisagreement,
        Refusal::InvalidOption(Option::Access),
        Refusal::InvalidOption(Option::Pool),
        Refusal::NoConsole,
        Refusal::NotPermitted { address },
        Refusal::PasswordFailed { user: "app".to_owned() },
        Refusal::ChannelBindingMismatch,
        Refusal::LoginTimeout,
        Refusal::TooManyClients,
        Refusal::PlanFull(Box::default()),
        Refusal::QueueTimeout { seconds: 120, pool_size: 25 },
        Refusal::StateRefused { reason: PinReason::Listen },
        Refusal::CanceledWhileWaiting,
        no_primary(Unavailable::Unreachable),
        no_primary(Unavailable::NoPrimary),
        no_primary(lacking),
        no_primary(Unavailable::NoStandby),
        no_primary(Unavailable::PoweredOff),
        no_primary(Unavailable::Paused),
        Refusal::ServerLogin(ServerLoginFailure::Broken),
        Refusal::ServerLogin(ServerLoginFailure::UnsupportedAuthentication),
        Refusal::ServerLogin(ServerLoginFailure::Untrusted),
        Refusal::TooManyPooledClients { most: 500 },
        Refusal::Overdue(Overdue::Idle),
        Refusal::Overdue(Overdue::IdleInTransaction),
        Refusal::Overdue(Overdue::Transaction),
        Refusal::Overdue(Overdue::Query),
        Refusal::Overdue(Overdue::Write),
        Refusal::AdminShutdown,
        Refusal::NoLongerPermitted,
        Refusal::ServerLost(Aftermath::Ends),
        Refusal::TransactionLost(Aftermath::Ends),
        Refusal::OutcomeUnknown(Aftermath::Ends),
    ]
}

/// Does not compile when a cause is added: [`every_refusal`] then needs an
/// example of it, as well.
fn is_named(refusal: &Refusal) -> bool {
    use ProtocolViolation as Violation;
    use ServerLoginFailure as Login;
    match refusal {
        Refusal::UnsupportedProtocol { .. }
        | Refusal::ProtocolViolation(
            Violation::StartupLength
            | Violation::StartupLayout
            | Violation::DataAfterSslRequest
            | Violation::DataAfterGssRequest
            | Violation::ExpectedSasl(_)
            | Violation::SaslMechanism
            | Violation::MalformedScram
            | Violation::ScramMismatch,
        )
        | Refusal::ShuttingDown
        | Refusal::TlsRequired { .. }
        | Refusal::NoUser
        | Refusal::ServiceDisagreement
        | Refusal::InvalidOption(InvalidOption::Access | InvalidOption::Pool)
        | Refusal::NoConsole
        | Refusal::NotPermitted { .. }
        | Refusal::PasswordFailed { .. }
        | Refusal::ChannelBindingMismatch
        | Refusal::LoginTimeout
        | Refusal::TooManyClients
        | Refusal::PlanFull(_)
        | Refusal::QueueTimeout { .. }
        | Refusal::StateRefused { .. }
        | Refusal::CanceledWhileWaiting
        | Refusal::NoPrimary {
            reason:
                Unavailable::Unreachable
                | Unavailable::NoPrimary
                | Unavailable::NoPgvector { .. }
                | Unavailable::NoStandby
                | Unavailable::PoweredOff
                | Unavailable::Paused,
            ..
        }
        | Refusal::ServerLogin(
            Login::Broken | Login::UnsupportedAuthentication | Login::Untrusted,
        )
        | Refusal::TooManyPooledClients { .. }
        | Refusal::Overdue(
            Overdue::Idle
            | Overdue::IdleInTransaction
            | Overdue::Transaction
            | Overdue::Query
            | Overdue::Write,
        )
        | Refusal::AdminShutdown
        | Refusal::NoLongerPermitted
        | Refusal::ServerLost(_)
        | Refusal::TransactionLost(_)
        | Refusal::OutcomeUnknown(_) => true,
    }
}

/// Alerts and dashboard speak of metrics that there are.
#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let source: String =
        rust_files(&source()).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for file in ["alerts.yml", "dashboard.json"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let named: Vec<_> = text.split("postern_").skip(1).map(leading_identifier).collect();
        assert!(named.len() > 5, "{file}");
        for name in named {
            let name = name.trim_end_matches("_bucket");
            let literal = format!("\"postern_{name}\"");
            assert!(source.contains(&literal), "{file}: there is no postern_{name}");
        }
    }
    let dashboard = fs::read_to_string(root.join("dashboard.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

/// A guard that matches nothing any more would be noticed only by whoever runs
/// `scripts/guards` next.
#[test]
fn every_guard_stands_where_it_is_said_to_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/guards.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let entries = table["guard"].as_array().unwrap();
    assert!(entries.len() > 100);
    let word = |entry: &toml::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let removable = entries.iter().filter(|entry| entry.get("constructed").is_none());
    let lost = removable.filter(|entry| {
        let file = fs::read_to_string(root.join(word(entry, "file"))).unwrap();
        let found = file.matches(&word(entry, "guard")).count();
        match entry.get("occurrence").and_then(toml::Value::as_integer) {
            None => found != 1,
            Some(occurrence) => usize::try_from(occurrence).unwrap() > found,
        }
    });
    let lost: Vec<_> = lost.map(|entry| (word(entry, "trap"), word(entry, "guard"))).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

//! `postern demo` as a command: how it starts, how it ends, and that nothing
//! of it is left.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::clients::run;
use super::demo::{demo, postern_demo};

/// As long as a server may take to stop when nobody hurries it.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A temporary directory that a demo has for itself, open to the servers' user
/// as `/tmp` is.
fn own_directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    directory
}

fn in_directory(directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = postern_demo(arguments);
    command.env("TMPDIR", directory.path());
    command
}

/// The command lines of the processes that name this directory.
fn processes_naming(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(directory.to_str().unwrap())).collect()
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn assert_nothing_is_left(directory: &TempDir) {
    let directory = directory.path();
    assert_eq!(files_in(directory), [""; 0]);
    assert_eq!(processes_naming(directory), [""; 0]);
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(process: &Child, name: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// What it prints up to a line with this end.
fn read_until(output: &mut impl BufRead, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(&format!("{end}\n")) {
        assert_ne!(output.read_line(&mut text).unwrap(), 0, "no {end:?} in:\n{text}");
    }
    text
}

/// Starts a demo and reads what it prints up to and with this line.
fn start_until(mut command: Command, line: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let text = read_until(&mut output, line);
    (process, output, text)
}

#[test]
fn it_exits_as_its_command_does_and_leaves_nothing() {
    let shell = |script| vec!["--", "sh", "-c", script];
    for (arguments, code) in [(vec!["--", "false"], 1), (shell("kill -9 $$"), 137)] {
        let directory = own_directory();
        let output = run(&mut in_directory(&directory, &arguments));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_nothing_is_left(&directory);
    }
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let directory = own_directory();
    let output = run(&mut in_directory(&directory, &["--", "no-such-command"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no-such-command: No such file"), "{}", stderr(&output));
    assert_nothing_is_left(&directory);
}

#[test]
fn ctrl_c_ends_it_well_after_it_has_printed_every_snippet() {
    let directory = own_directory();
    let demo = in_directory(&directory, &[]);
    let (mut process, _output, printed) = start_until(demo, "Ctrl-C stops everything.");
    let root = files_in(directory.path()).into_iter().find(|name| name.contains("demo")).unwrap();
    let snippets = directory.path().join(root).join("snippets");
    for service in files_in(&snippets) {
        for file in files_in(&snippets.join(&service)) {
            let text = fs::read_to_string(snippets.join(&service).join(&file)).unwrap();
            assert!(printed.contains(&text), "{service}/{file} is not in:\n{printed}");
        }
    }
    signal(&process, "INT");
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_nothing_is_left(&directory);
}

#[test]
fn enter_shows_a_failover_there_and_back() {
    let directory = own_directory();
    let mut demo = in_directory(&directory, &[]);
    demo.stdin(Stdio::piped());
    let (mut process, mut output, _) = start_until(demo, "Ctrl-C stops everything.");
    let mut keyboard = process.stdin.take().unwrap();
    for _ in 0..2 {
        keyboard.write_all(b"\n").unwrap();
        let shown = read_until(&mut output, "the other way round. Ctrl-C stops everything.");
        for expected in ["16 writers\n", " of them found again\n", "connections    0 lost\n"] {
            assert!(shown.contains(expected), "{shown}");
        }
        let pause = shown.lines().find_map(|line| line.strip_prefix("pause          p50 "));
        let pause: f64 = pause.unwrap().split(' ').next().unwrap().parse().unwrap();
        // The second before the promotion is part of it.
        assert!(pause > 1.0, "{shown}");
    }
    signal(&process, "INT");
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_nothing_is_left(&directory);
}

#[test]
fn killed_it_leaves_neither_servers_nor_files() {
    let directory = own_directory();
    let demo = in_directory(&directory, &[]);
    let (mut process, _output, _) = start_until(demo, "Ctrl-C stops everything.");
    let running = processes_naming(directory.path());
    assert!(running.iter().any(|line| line.contains("/postgres ")), "{running:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    let deadline = Instant::now() + GONE_WITHIN;
    while !files_in(directory.path()).is_empty() || !processes_naming(directory.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", processes_naming(directory.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sigterm_reaches_the_command_which_decides_how_it_ends() {
    let directory = own_directory();
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let demo = in_directory(&directory, &["--", "sh", "-c", script]);
    let (mut process, mut output, _) = start_until(demo, "ready");
    signal(&process, "TERM");
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!((process.wait().unwrap().code(), rest.as_str()), (Some(3), "told\n"));
    assert_nothing_is_left(&directory);
}

#[test]
fn a_taken_port_that_was_asked_for_is_named() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let taken = match TcpListener::bind(address) {
            Ok(taken) => taken,
            // A host without IPv6 has no such port to take.
            Err(_) if address.starts_with('[') => continue,
            Err(error) => panic!("{address}: {error}"),
        };
        let port = taken.local_addr().unwrap().port().to_string();
        for option in ["--session-port", "--transaction-port"] {
            let output = run(&mut postern_demo(&[option, &port, "--", "true"]));
            assert_eq!(output.status.code(), Some(1), "{option} {port}");
            let expected = format!("postern demo: port {port} cannot be used: ");
            assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
        }
    }
}

#[test]
fn a_taken_port_that_is_only_preferred_is_replaced_by_a_free_one() {
    // Held by this, by the demo of the other tests or by anybody else.
    let _taken = TcpListener::bind("127.0.0.1:15432");
    let script = "echo \"$POSTERN_URI_ORDERS\"; psql -XAtc 'SELECT 42' \"$POSTERN_URI_ORDERS\"";
    let output = run(&mut postern_demo(&["--", "sh", "-c", script]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (uri, answer) = text.split_once('\n').unwrap();
    assert!(!uri.contains("@localhost:15432/"), "{uri}");
    assert_ne!(uri, demo().uri("ORDERS"));
    assert_eq!(answer.trim(), "42", "{}", stderr(&output));
}

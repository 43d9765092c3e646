//! The command line from another host: the API over TLS, with a token.

use std::process::Output;

use super::ControlPlane;
use super::control_plane::node;
use crate::stage::{certificates, psql, run, stdout};

/// A Postern whose API listens beyond loopback, and so speaks TLS.
fn listening() -> ControlPlane {
    let directory = certificates().display();
    let mut plane = ControlPlane::start_with(&format!(
        "[tls]\ncertificate = \"{directory}/server.crt\"\nkey = \"{directory}/server.key\""
    ));
    let port = plane.api_port;
    let config = plane.path("postern.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let everywhere = text.replace(&format!("127.0.0.1:{port}"), &format!("0.0.0.0:{port}"));
    assert_ne!(text, everywhere);
    std::fs::write(&config, everywhere).unwrap();
    plane.kill_9();
    plane.serve();
    plane
}

/// The command line with this URL and token, and this authority.
fn remotely(plane: &ControlPlane, url: &str, token: &str, ca: &str, arguments: &[&str]) -> Output {
    let mut command = plane.command(arguments);
    command.env("POSTERN_ADMIN_SOCKET", "/nowhere").env("POSTERN_API", url);
    run(command.env("POSTERN_TOKEN", token).env("POSTERN_API_CA", ca))
}

#[test]
fn the_whole_life_of_a_role_over_tls() {
    let (plane, server) = (listening(), node("postgresql"));
    plane.add_node("db1", &server);
    let url = format!("https://localhost:{}", plane.api_port);
    let ca = certificates().join("ca.crt");
    let ask = |arguments: &[&str]| {
        stdout(&remotely(&plane, &url, &plane.token, ca.to_str().unwrap(), arguments))
    };
    ask(&["service", "create", "orders", "--plan", "hobbyist"]);
    let first = ask(&["role", "create", "orders", "app"]);
    let second = ask(&["role", "rotate", "orders", "app", "--grace", "10m"]);
    let uri = ask(&["service", "uri", "orders"]);
    let admin = uri.split(['/', '@']).nth(2).unwrap().to_owned();
    for password in [&first, &second] {
        let uri = uri.replace(&admin, &format!("app:{password}"));
        assert_eq!(stdout(&psql(&uri, "SELECT current_user")), "app");
    }
    assert!(ask(&["role", "list", "orders"]).contains("app"));
    ask(&["role", "delete", "orders", "app"]);
    assert!(!ask(&["role", "list", "orders"]).contains("app"));
}

#[test]
fn nobody_is_heard_without_tls_its_authority_and_a_token() {
    let plane = listening();
    let ca = certificates().join("ca.crt");
    let ca = ca.to_str().unwrap();
    let (secure, plain) = (
        format!("https://localhost:{}", plane.api_port),
        format!("http://localhost:{}", plane.api_port),
    );
    let other = tempfile::tempdir().unwrap();
    postern::app::certificate::write(other.path(), "Somebody else", &["localhost"]).unwrap();
    let other = other.path().join("ca.crt");
    let list = ["service", "list"];
    let refused = |url: &str, token: &str, ca: &str| {
        let output = remotely(&plane, url, token, ca, &list);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    stdout(&remotely(&plane, &secure, &plane.token, ca, &list));
    assert!(refused(&secure, "pst_00000000_wrong", ca).contains("valid token"));
    let unknown = refused(&secure, &plane.token, other.to_str().unwrap());
    assert!(unknown.contains("cannot connect"), "{unknown}");
    let unencrypted = refused(&plain, &plane.token, ca);
    assert!(unencrypted.contains("no answer"), "{unencrypted}");
    assert!(!plane.log().contains(&plane.token));
}

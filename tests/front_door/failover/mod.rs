//! Clients keep their connection while servers come and go.
//!
//! `loss` holds decision 33 row by row, on one server whose processes are
//! killed; `crash` is about a primary that dies and a standby that follows;
//! `reading` about the endpoint that standbys serve, `planned` about orders.

mod crash;
mod loss;
mod planned;
mod reading;

use super::raw::{Message, Raw, V3_0, message};
use super::stage::{PASSWORD, Stage};

/// A client of the transaction endpoint.
fn pooled(stage: &Stage) -> Raw {
    logged_in(stage, stage.transaction_port)
}

/// A client of the session endpoint.
fn session(stage: &Stage) -> Raw {
    logged_in(stage, stage.session_port)
}

fn logged_in(stage: &Stage, port: u16) -> Raw {
    let mut raw = Raw::connect(port);
    let user = format!("{}.orders", stage.role);
    raw.startup(V3_0, &[("user", &user), ("database", &stage.role)]);
    assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
    raw.read_until(b'Z');
    raw
}

/// What a client hears up to `ReadyForQuery`: kinds of messages, SQLSTATEs and
/// the status, as in `"T D C:I"` or `"40001:E"`.
fn hear(raw: &mut Raw) -> String {
    let mut heard = Vec::new();
    loop {
        let message = raw.read();
        match message.kind {
            b'E' => heard.push(message.sqlstate()),
            b'Z' => return format!("{}:{}", heard.join(" "), char::from(message.body[0])),
            kind => heard.push(char::from(kind).to_string()),
        }
    }
}

fn ask(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql);
    hear(raw)
}

/// The first column of the first row.
fn value(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql);
    let messages = raw.read_until(b'Z');
    let row = messages.iter().find(|m| m.kind == b'D').unwrap_or_else(|| panic!("{messages:?}"));
    String::from_utf8(row.body[6..].to_vec()).unwrap()
}

/// The session's last words: the one error before the end of the stream.
fn last_words(raw: &mut Raw) -> Message {
    let error = raw.read_until(b'E').pop().unwrap();
    assert_eq!(error.field(b'S').unwrap(), "FATAL");
    assert!(raw.read_rest().is_empty());
    error
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn bind(name: &str) -> Vec<u8> {
    message(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn simple(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

//! Clients of the transaction endpoint, and what they say, message by message.

use super::raw::{Message, Raw, message};
use super::stage::{Audit, PASSWORD, Stage, Wanted, server};

/// A stage whose pools hold one server connection.
pub fn narrow() -> Stage {
    narrow_with(Audit::Clean)
}

/// The same, with its hand-overs audited in this way.
pub fn narrow_with(audit: Audit) -> Stage {
    let settings = &[("services", "pool_size = 1")];
    Stage::new(&Wanted { settings, audit, ..Wanted::default() })
}

pub fn pooled_with(stage: &Stage, further: &[(&str, &str)]) -> Raw {
    entered(Raw::enter(stage, stage.transaction_port, further))
}

pub fn pooled(stage: &Stage) -> Raw {
    pooled_with(stage, &[])
}

/// The transaction endpoint's URI, without TLS.
pub fn transaction_uri(stage: &Stage) -> String {
    let (session, transaction) = (stage.session_port, stage.transaction_port);
    stage.plain_uri("").replace(&session.to_string(), &transaction.to_string())
}

pub fn direct(stage: &Stage) -> Raw {
    let parameters = [("user", &stage.role[..]), ("database", &stage.role)];
    entered(Raw::enter_with(server().port(), &parameters, PASSWORD))
}

pub fn session(stage: &Stage) -> Raw {
    entered(Raw::log_in(stage, &[]))
}

fn entered(login: Result<(Raw, Vec<Message>), Message>) -> Raw {
    login.unwrap_or_else(|error| panic!("{error:?}")).0
}

/// The first column of the first row.
pub fn value(messages: &[Message]) -> String {
    let row = messages.iter().find(|m| m.kind == b'D').unwrap_or_else(|| panic!("{messages:?}"));
    let length = i32::from_be_bytes(row.body[2..6].try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    String::from_utf8(row.body[6..6 + length].to_vec()).unwrap()
}

pub fn ask(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql);
    value(&raw.read_until(b'Z'))
}

pub fn run(raw: &mut Raw, sql: &str) {
    raw.query(sql);
    let messages = raw.read_until(b'Z');
    assert!(messages.iter().all(|m| m.kind != b'E'), "{sql}: {messages:?}");
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

pub fn bind(name: &str) -> Vec<u8> {
    message(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

pub fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn close(name: &str) -> Vec<u8> {
    message(b'C', &[b"S", name.as_bytes(), b"\0"].concat())
}

pub fn describe(name: &str) -> Vec<u8> {
    message(b'D', &[b"S", name.as_bytes(), b"\0"].concat())
}

pub fn send(raw: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    raw.send(&messages.concat());
    raw.read_until(b'Z')
}

pub fn kinds(messages: &[Message]) -> String {
    messages.iter().map(|m| char::from(m.kind)).collect()
}

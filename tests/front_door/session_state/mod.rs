//! The state of a session on the transaction endpoint: what a client has set
//! or made is there for it on whatever connection, and for nobody else.

mod audit;
mod compatibility;
mod model;
mod pins;
mod routines;
mod sequences;
mod settings;

use super::pooled_client::{ask, direct, narrow, pooled, pooled_with, run};
use super::raw::{Message, Raw};
use super::stage::{Stage, server};

/// The error that a text is answered with, and the session's status behind it.
fn refused(raw: &mut Raw, sql: &str) -> Message {
    raw.query(sql);
    let messages = raw.read_until(b'Z');
    messages.into_iter().find(|m| m.kind == b'E').unwrap_or_else(|| panic!("{sql}: no error"))
}

/// The backend that a client has for this moment.
fn backend(raw: &mut Raw) -> String {
    ask(raw, "SELECT pg_backend_pid()")
}

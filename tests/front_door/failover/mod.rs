//! Clients keep their connection while servers come and go.
//!
//! `loss` holds decision 33 row by row, on one server whose processes are
//! killed; `crash` is about a primary that dies and a standby that follows;
//! `reading` about the endpoint that standbys serve, `planned` about orders,
//! `drill` about rehearsing them, `pools` about the pools that clients bring.

mod crash;
mod drill;
mod loss;
mod planned;
mod pools;
mod reading;

use super::pooled_client::{ask as value, bind, execute, parse, pooled, session, sync};
use super::raw::Raw;

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

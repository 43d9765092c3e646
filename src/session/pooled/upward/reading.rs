//! A statement that is prepared again reads its literals by the settings by
//! which it was prepared first, whatever the client has set since: PostgreSQL
//! makes `'02/03/2024'` a date once, when it parses the text.
//!
//! The settings change for the transaction, and back behind the Parse, all in
//! the client's own batch: if it fails, nothing of this has happened.

use bytes::BytesMut;

use super::TRIAL;
use crate::session::pooled::expected::Owed;
use crate::session::pooled::pending::Exchange;
use crate::state::reports::Reports;
use crate::wire::request::{put_bind, put_close, put_close_portal, put_execute, put_parse};

/// Puts the Parse that `parse` makes between what it needs to be read by these
/// settings; none: by those of the moment.
pub(super) fn read_by(
    then: Option<&Reports>,
    exchange: &mut Exchange<'_>,
    out: &mut BytesMut,
    parse: impl FnOnce(&mut Exchange<'_>, &mut BytesMut),
) {
    let Some(then) = then else { return parse(exchange, out) };
    let [set, undo] = then.local_reading(exchange.client.reading());
    run(&set, exchange, out);
    parse(exchange, out);
    run(&undo, exchange, out);
}

fn run(sql: &[u8], exchange: &mut Exchange<'_>, out: &mut BytesMut) {
    put_parse(out, TRIAL, &[sql, &b"\0\0\0"[..]].concat());
    owe(b'P', exchange);
    put_bind(out, TRIAL, TRIAL);
    owe(b'B', exchange);
    put_execute(out, TRIAL);
    owe(b'E', exchange);
    put_close_portal(out, TRIAL);
    owe(b'C', exchange);
    put_close(out, TRIAL);
    owe(b'C', exchange);
}

/// The server owes an answer to this message, of which the client hears
/// nothing.
fn owe(kind: u8, exchange: &mut Exchange<'_>) {
    let owed = match kind {
        b'P' => Owed::PARSED_ASIDE,
        b'C' => Owed::CLOSED_ASIDE,
        _ => Owed::Aside { number: exchange.conversation.next_batched() },
    };
    exchange.expected.push(exchange.conversation.group(), owed);
    exchange.conversation.from_client(kind);
}

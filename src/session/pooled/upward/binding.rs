//! A Bind: what it runs may change the session, and must be on the server.

use std::sync::Arc;

use super::run::Run;
use super::statements::{bring, bring_unnamed};
use super::texts::expect;
use crate::session::pooled::pending::Exchange;
use crate::wire::frame::HEADER;
use crate::wire::request::{bound_value, put_bind_head, split_string};

/// Whether the values of a Bind of this statement matter.
pub(super) fn needs_values(name: &[u8], exchange: &Exchange<'_>) -> bool {
    let look = exchange.client.statements.find(name).and_then(|statement| statement.look.as_ref());
    look.is_some_and(|look| !look.name_parameters.is_empty())
}

/// A statement is about to be run: `body` is the whole of its Bind, if it is
/// there.
pub(super) fn bound(
    name: &[u8],
    body: Option<&[u8]>,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let Some(statement) = exchange.client.statements.find(name) else { return };
    let statement = Arc::clone(statement);
    if exchange.client.fingerprint.is_some() {
        let text = split_string(&statement.definition).map_or(&b""[..], |(text, _)| text);
        exchange.client.note_text(text);
    }
    let Some(look) = &statement.look else { return };
    expect(look, false, exchange, run);
    for number in &look.name_parameters {
        let value = body.and_then(|body| bound_value(body, *number));
        exchange.client.touch_named(value);
    }
}

/// A Bind: what it binds must be on the server. Returns whether its beginning
/// was replaced.
pub(super) fn bind(
    portal: &[u8],
    name: &[u8],
    total: usize,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> bool {
    if name.is_empty() {
        bring_unnamed(exchange, run);
        return false;
    }
    let Some(shared) = bring(name, exchange, run) else { return false };
    let head = HEADER + portal.len() + name.len() + 2;
    let body = total - HEADER + shared.len() - name.len();
    put_bind_head(run.replace(head), body, portal, shared.as_bytes());
    exchange.conversation.from_client(b'B');
    true
}

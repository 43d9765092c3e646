//! A Bind: what it runs may change the session, and must be on the server.

use std::sync::Arc;

use super::executing::take_bound;
use super::failing::plain;
use super::run::Run;
use super::statements::{bring, bring_unnamed, is_there};
use super::texts::{Moment, expect};
use crate::domain::SqlState;
use crate::domain::refusal::Answer;
use crate::session::pooled::pending::Exchange;
use crate::state::parameter_count;
use crate::wire::conversation::TransactionStatus;
use crate::wire::frame::HEADER;
use crate::wire::request::{bound_value, put_bind_head, split_string, value_count};

/// Whether the values of a Bind of this statement matter.
pub(super) fn needs_values(name: &[u8], exchange: &Exchange<'_>) -> bool {
    if exchange.conversation.status() == TransactionStatus::Failed {
        return true;
    }
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
    exchange.client.look_again(name);
    let Some(statement) = exchange.client.statements.find(name) else { return };
    let statement = Arc::clone(statement);
    if exchange.client.fingerprint.is_some() {
        let text = split_string(&statement.definition).map_or(&b""[..], |(text, _)| text);
        exchange.client.note_text(text);
    }
    let Some(look) = &statement.look else { return };
    expect(look, Moment::Bound, exchange, run);
    for number in &look.name_parameters {
        let value = body.and_then(|body| bound_value(body, *number));
        exchange.client.touch_named(value);
    }
}

/// What PostgreSQL would say of a Bind with too few or too many values. In a
/// failed block it says so before it refuses the statement; but one that has to
/// be prepared again is refused then.
pub(super) fn miscounted(name: &[u8], body: &[u8], exchange: &mut Exchange<'_>) -> Option<Answer> {
    if exchange.conversation.status() != TransactionStatus::Failed || is_there(name, exchange) {
        return None;
    }
    let statement = exchange.client.statements.find(name)?;
    let standard = exchange.client.reports.has_standard_strings();
    let wanted = parameter_count(&statement.definition, standard);
    let given = usize::from(value_count(body)?);
    let name = String::from_utf8_lossy(name);
    let message = format!(
        "bind message supplies {given} parameters, \
         but prepared statement \"{name}\" requires {wanted}"
    );
    (given != wanted).then(|| plain(SqlState::PROTOCOL_VIOLATION, message))
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
    let statement = exchange.client.statements.find(name);
    let statement = statement.filter(|statement| statement.look.is_some()).cloned();
    let is_replaced = bring_bound(portal, name, total, exchange, run);
    if let Some(look) = statement.as_ref().and_then(|statement| statement.look.as_ref()) {
        take_bound(look, exchange);
    }
    is_replaced
}

fn bring_bound(
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

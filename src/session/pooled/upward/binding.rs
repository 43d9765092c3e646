//! A Bind: what it runs may change the session, and must be on the server.

use std::sync::Arc;

use super::executing::take_bound;
use super::failing::{fail, plain};
use super::run::Run;
use super::statements::{Place, bring, bring_unnamed, find, is_there};
use super::texts::{Moment, expect};
use crate::domain::SqlState;
use crate::domain::refusal::Answer;
use crate::session::pooled::client_state::ClientState;
use crate::session::pooled::pending::Exchange;
use crate::session::pooled::unanswered::Running;
use crate::state::parameter_count;
use crate::state::statements::Statement;
use crate::wire::conversation::TransactionStatus;
use crate::wire::frame::HEADER;
use crate::wire::request::{bound_value, put_bind_head, split_string, value_count};

/// Whether the values of a Bind of this statement matter.
pub(super) fn needs_values(name: &[u8], exchange: &Exchange<'_>) -> bool {
    if may_have_failed(exchange) {
        return true;
    }
    let look = exchange.client.statements.find(name).and_then(|statement| statement.look.as_ref());
    look.is_some_and(|look| !look.name_parameters.is_empty())
}

/// A statement is about to be run: `body` is the whole of its Bind, if it is
/// there.
fn bound(name: &[u8], body: Option<&[u8]>, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    exchange.client.look_again(name);
    let Some(statement) = exchange.client.statements.find(name) else {
        // SQL may have prepared it.
        return exchange.client.expect_execute(name);
    };
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

/// What there is to say of how many values a Bind has.
pub(super) enum Count {
    /// Nothing, or the server says it.
    Nothing,
    /// It depends on what becomes of the batches before.
    Open,
    /// This, in the place of the server.
    Wrong(Answer),
}

/// What PostgreSQL would say of a Bind with too few or too many values. In a
/// failed block it says so before it refuses the statement; but one that has to
/// be prepared again is refused then.
pub(super) fn count_values(name: &[u8], body: &[u8], exchange: &mut Exchange<'_>) -> Count {
    if !may_have_failed(exchange) || is_there(name, exchange) {
        return Count::Nothing;
    }
    let Some(statement) = exchange.client.statements.find(name) else { return Count::Nothing };
    match miscounted(name, statement, body, exchange) {
        None => Count::Nothing,
        Some(_) if exchange.conversation.status() != TransactionStatus::Failed => Count::Open,
        Some(answer) => Count::Wrong(answer),
    }
}

/// What PostgreSQL says of a Bind with other than the statement's number of
/// values, before it looks at anything else.
fn miscounted(
    name: &[u8],
    statement: &Statement,
    body: &[u8],
    exchange: &Exchange<'_>,
) -> Option<Answer> {
    let standard = exchange.client.reports.has_standard_strings();
    let wanted = parameter_count(&statement.definition, standard);
    let given = value_count(body).map_or(wanted, usize::from);
    (given != wanted).then(|| {
        let name = String::from_utf8_lossy(name);
        let message = format!(
            "bind message supplies {given} parameters, \
             but prepared statement \"{name}\" requires {wanted}"
        );
        plain(SqlState::PROTOCOL_VIOLATION, message)
    })
}

/// Whether the transaction that the next message belongs to has failed, as far
/// as is known before all that was sent is answered.
fn may_have_failed(exchange: &Exchange<'_>) -> bool {
    let conversation = &exchange.conversation;
    conversation.status() == TransactionStatus::Failed
        || conversation.answering() < conversation.group() && !conversation.is_copying_in()
}

/// A Bind: what it binds must be on the server. `body` is the whole of it, if it
/// is there. Returns how much of the beginning was replaced.
pub(super) fn bind(
    (portal, name): (&[u8], &[u8]),
    body: Option<&[u8]>,
    total: usize,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> Option<usize> {
    // What it means is decided by the settings before it is run.
    let before = openness(exchange.client);
    bound(name, body, exchange, run);
    let behind = openness(exchange.client);
    set_openness(exchange.client, before);
    let statement = exchange.client.statements.find(name);
    let statement = statement.filter(|statement| statement.look.is_some()).cloned();
    let replaced = bring_bound((portal, name), body, total, exchange, run);
    set_openness(exchange.client, behind);
    exchange.client.runs();
    if let Some(look) = statement.as_ref().and_then(|statement| statement.look.as_ref()) {
        take_bound(look, exchange);
    }
    replaced
}

/// Whether it is open how the names and the literals of statements are read.
fn openness(client: &ClientState) -> (bool, Running) {
    (client.meaning.is_unsettled, client.unanswered.run)
}

fn set_openness(client: &mut ClientState, (names, run): (bool, Running)) {
    client.meaning.is_unsettled = names;
    client.unanswered.run = run;
}

fn bring_bound(
    (portal, name): (&[u8], &[u8]),
    body: Option<&[u8]>,
    total: usize,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> Option<usize> {
    let place = if name.is_empty() { None } else { Some(find(name, exchange)) };
    let missing = match &place {
        None if is_there(name, exchange) => None,
        None => exchange.client.statements.unnamed.as_ref(),
        Some(Place::Elsewhere(_, statement)) => Some(statement),
        Some(Place::Server(_) | Place::Nowhere(_)) => None,
    };
    let answer = missing.zip(body).and_then(|(statement, body)| {
        // Preparing it again might fail with something else.
        miscounted(name, statement, body, exchange)
    });
    if let Some(answer) = answer {
        fail(answer, total, exchange, run);
        return Some(total);
    }
    let Some(place) = place else {
        bring_unnamed(exchange, run);
        return None;
    };
    let shared = bring(place, exchange, run)?;
    let head = HEADER + portal.len() + name.len() + 2;
    let length = total - HEADER + shared.len() - name.len();
    put_bind_head(run.replace(head), length, portal, shared.as_bytes());
    exchange.conversation.from_client(b'B');
    Some(head)
}

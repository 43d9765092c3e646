//! Prepared statements: a client's name becomes one that is shared, and what
//! the server at hand lacks is prepared there first.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::failing::{already_exists, fail, too_many_statements};
use super::reading::read_by;
use super::run::Run;
use super::sequences::forget_sequences;
use super::texts::{Moment, make_all_real};
use super::{NOBODY, TRIAL};
use crate::domain::Refusal;
use crate::session::pooled::client_state::ClientState;
use crate::session::pooled::expected::{Owed, Reply};
use crate::session::pooled::pending::Exchange;
use crate::state::reports::Reports;
use crate::state::statements::{
    Meaning, Owner, SHARED_PREFIX, Statement, StatementId, Unnamed, shared_name,
};
use crate::state::{PinReason, may_fold_dates};
use crate::wire::conversation::TransactionStatus;
use crate::wire::frame::HEADER;
use crate::wire::request::{put_close, put_describe, put_parse, split_string, statement_name};

/// A Parse: remembered, and left out if the server has the statement. Returns
/// whether something was sent in its place.
pub(super) fn parse(
    body: &[u8],
    whole: bool,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> bool {
    let parts = split_string(body).filter(|_| whole);
    let parts = parts.and_then(|(name, rest)| Some((name, rest, split_string(rest)?.0)));
    let Some((name, definition, text)) = parts else {
        exchange.client.pins.insert(PinReason::Unparsed);
        if split_string(body).is_some_and(|(name, _)| name.is_empty()) {
            // What is there is the client's, and nobody can bring it elsewhere.
            exchange.client.statements.unnamed = None;
            exchange.statements.unnamed = None;
        }
        let owed =
            Owed::Parsed { reply: Reply::Forward, on_server: None, named: None, unnamed: false };
        exchange.expected.push(exchange.conversation.group(), owed);
        return false;
    };
    exchange.client.note_database_command(text);
    let look = exchange.client.look(text);
    let look = (!look.is_without_effect()).then(|| Box::new(look));
    if let Some(look) = &look {
        if let Some(reason) = exchange.client.refusal(look) {
            let answer = Refusal::StateRefused { reason }.answer();
            fail(answer, HEADER + body.len(), exchange, run);
            return true;
        }
        forget_sequences(look, exchange, run);
        // What it speaks of is looked up when it is prepared, and again when
        // it is run.
        make_all_real(look, Moment::Before, exchange, run);
    }
    let owner = owner(text, exchange);
    let schema = exchange.statements.schema.now();
    let client = &*exchange.client;
    let mut statement =
        Statement::new(definition, &client.meaning, &client.reports, schema, owner, look);
    statement.routines = exchange.client.routines_version();
    let statement = Arc::new(statement);
    if name.is_empty() {
        unnamed_parsed(statement, exchange);
        return false;
    }
    named_parse(name, &statement, exchange, run);
    true
}

/// Whose a statement with this text is.
fn owner(text: &[u8], exchange: &Exchange<'_>) -> Owner {
    if exchange.client.reading().is_none() {
        return Owner::Once(exchange.expected.pushed());
    }
    let folds_dates = may_fold_dates(text, exchange.client.reports.has_standard_strings());
    if folds_dates { Owner::Client } else { Owner::Everybody }
}

/// The unnamed statement is the client's from now on, and on this server.
pub(super) fn unnamed_parsed(statement: Arc<Statement>, exchange: &mut Exchange<'_>) {
    let client = &mut *exchange.client;
    let has_literals = statement.has_literals();
    let before = client.statements.unnamed.replace(statement);
    if has_literals {
        client.prepares_literals(false);
    }
    client.unnamed_count += 1;
    exchange.statements.unnamed = Some(unnamed_of(client));
    let owed = Owed::Unnamed { number: exchange.conversation.next_batched(), before };
    exchange.expected.push(exchange.conversation.group(), owed);
}

pub(super) fn unnamed_of(client: &ClientState) -> Unnamed {
    (client.id, client.unnamed_count)
}

pub(super) fn named_parse(
    name: &[u8],
    statement: &Arc<Statement>,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let message = HEADER + name.len() + 1 + statement.definition.len();
    if exchange.client.statements.get(name).is_some() {
        // Whatever is wrong with it otherwise, PostgreSQL says first.
        try_to_parse(TRIAL, statement, exchange, run);
        return fail(already_exists(name), message, exchange, run);
    }
    if exchange.client.pins.contains(PinReason::SqlPrepare) {
        // SQL may have taken the name.
        try_to_parse(name, statement, exchange, run);
    } else if exchange.conversation.status() == TransactionStatus::Failed {
        // Only what ends the block can be parsed.
        try_to_parse(TRIAL, statement, exchange, run);
    }
    let client = &mut *exchange.client;
    if statement.has_literals() {
        client.prepares_literals(true);
    }
    let id = statement.id(&client.meaning);
    let own_name = Bytes::copy_from_slice(name);
    if client.statements.insert(own_name.clone(), Arc::clone(statement)).is_err() {
        return fail(too_many_statements(), message, exchange, run);
    }
    let named = Some(own_name);
    if exchange.statements.uses(&id) {
        let group = exchange.conversation.group();
        let out = run.replace(message);
        put_close(out, NOBODY);
        exchange.conversation.from_client(b'C');
        let reply = Reply::AsParsed;
        let owed =
            Owed::Closed { reply, from_server: None, named, forgotten: None, unnamed: false };
        exchange.expected.push(group, owed);
    } else {
        let out = run.replace(message);
        let asked = Asked { reply: Reply::Forward, named, then: None };
        prepare_on_server(id, statement, asked, out, exchange);
    }
}

/// Has a statement prepared that goes again at once: the client hears of it
/// only if that fails.
fn try_to_parse(
    name: &[u8],
    statement: &Statement,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let (out, group) = (run.insert(), exchange.conversation.group());
    put_parse(out, name, &statement.definition);
    exchange.conversation.from_client(b'P');
    exchange.expected.push(group, Owed::PARSED_ASIDE);
    put_close(out, name);
    exchange.conversation.from_client(b'C');
    exchange.expected.push(group, Owed::CLOSED_ASIDE);
}

/// For whom a statement is prepared on a server.
struct Asked<'s> {
    /// What becomes of the answer.
    reply: Reply,
    /// The name that is the client's with it.
    named: Option<Bytes>,
    /// The settings by which its literals are read, if not those of the moment.
    then: Option<&'s Reports>,
}

/// Prepares a statement under its shared name, in the place of another if the
/// server has too many.
fn prepare_on_server(
    id: StatementId,
    statement: &Statement,
    asked: Asked<'_>,
    out: &mut BytesMut,
    exchange: &mut Exchange<'_>,
) {
    let group = exchange.conversation.group();
    // A plan that went stale may be there under its own name.
    let stale = exchange.statements.remove(&id).then_some(id);
    let statements = &mut *exchange.statements;
    let evicted = std::iter::from_fn(|| statements.evict()).map(|id| (id, Some(id)));
    for (id, from_server) in evicted.chain([(id, stale)]) {
        put_close(out, shared_name(&id).as_bytes());
        exchange.conversation.from_client(b'C');
        let reply = Reply::Swallow;
        let owed =
            Owed::Closed { reply, from_server, named: None, forgotten: None, unnamed: false };
        exchange.expected.push(group, owed);
    }
    exchange.statements.insert(id);
    let Asked { reply, named, then } = asked;
    read_by(then, exchange, out, |exchange, out| {
        put_parse(out, shared_name(&id).as_bytes(), &statement.definition);
        exchange.conversation.from_client(b'P');
        let on_server = Some(id);
        exchange.expected.push(group, Owed::Parsed { reply, on_server, named, unnamed: false });
    });
}

/// Where a named statement of a client is.
pub(super) enum Place {
    /// On the server at hand.
    Server(StatementId),
    /// Elsewhere.
    Elsewhere(StatementId, Arc<Statement>),
    /// The client has none of this name; the server says so, perhaps of this
    /// name instead.
    Nowhere(Option<String>),
}

/// Finds a named statement of the client; counts as a use of it.
pub(super) fn find(name: &[u8], exchange: &mut Exchange<'_>) -> Place {
    let Some(statement) = exchange.client.statements.get(name) else {
        // Nobody may guess the name of a shared statement.
        let guesses = name.starts_with(SHARED_PREFIX.as_bytes());
        let other = || format!("{SHARED_PREFIX}{}", String::from_utf8_lossy(name));
        return Place::Nowhere(guesses.then(other));
    };
    let meaning = exchange.client.meaning;
    let mut id = statement.id(&meaning);
    if exchange.conversation.status() == TransactionStatus::Failed {
        // Nothing is looked up any more, and only what is there can be used.
        let otherwise = Meaning { is_unsettled: !meaning.is_unsettled, ..meaning };
        let known = [id, statement.id(&otherwise)];
        id = known.into_iter().find(|id| exchange.statements.uses(id)).unwrap_or(id);
    }
    if exchange.statements.uses(&id) {
        Place::Server(id)
    } else {
        Place::Elsewhere(id, Arc::clone(statement))
    }
}

/// Makes sure that what was found is on the server; returns its name there.
/// `None` if the client has no such statement.
pub(super) fn bring(
    place: Place,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> Option<String> {
    match place {
        Place::Server(id) => Some(shared_name(&id)),
        Place::Elsewhere(id, statement) => {
            let then = statement.read_by(exchange.client.reading());
            let asked = Asked { reply: Reply::Swallow, named: None, then };
            prepare_on_server(id, &statement, asked, run.insert(), exchange);
            Some(shared_name(&id))
        }
        Place::Nowhere(other) => other,
    }
}

/// Whether a statement of the client is on the server and need not be prepared
/// there again.
pub(super) fn is_there(name: &[u8], exchange: &mut Exchange<'_>) -> bool {
    let client = &*exchange.client;
    if name.is_empty() {
        return exchange.statements.unnamed == Some(unnamed_of(client));
    }
    let id = client.statements.get(name).map(|statement| statement.id(&client.meaning));
    id.is_some_and(|id| exchange.statements.uses(&id))
}

/// Makes sure that the unnamed statement on the server is the client's: where
/// others find another client's, it is prepared again, or is not there.
pub(super) fn bring_unnamed(exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let own = exchange.client.statements.unnamed.is_some().then(|| unnamed_of(exchange.client));
    if exchange.statements.unnamed == own {
        return;
    }
    // An error, where the answer might be another one.
    let unseen = exchange.client.statements.unnamed.take_if(|statement| statement.is_unseen());
    let own = own.filter(|_| unseen.is_none());
    let group = exchange.conversation.group();
    let out = run.insert();
    exchange.statements.unnamed = own;
    let reply = Reply::Swallow;
    if let Some(statement) = exchange.client.statements.unnamed.clone() {
        let then = statement.read_by(exchange.client.reading());
        read_by(then, exchange, out, |exchange, out| {
            put_parse(out, b"", &statement.definition);
            exchange.conversation.from_client(b'P');
            let owed = Owed::Parsed { reply, on_server: None, named: None, unnamed: true };
            exchange.expected.push(group, owed);
        });
    } else {
        put_close(out, b"");
        exchange.conversation.from_client(b'C');
        let owed =
            Owed::Closed { reply, from_server: None, named: None, forgotten: None, unnamed: true };
        exchange.expected.push(group, owed);
    }
}

/// A Describe of a statement. Returns whether it was replaced.
pub(super) fn describe(body: &[u8], exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    let Some(name) = statement_name(body) else { return false };
    let statement = exchange.client.statements.find(name).cloned();
    if let Some(look) = statement.as_ref().and_then(|statement| statement.look.as_ref()) {
        make_all_real(look, Moment::Before, exchange, run);
    }
    if name.is_empty() {
        bring_unnamed(exchange, run);
        return false;
    }
    let place = find(name, exchange);
    let Some(shared) = bring(place, exchange, run) else { return false };
    let out = run.replace(HEADER + body.len());
    put_describe(out, shared.as_bytes());
    exchange.conversation.from_client(b'D');
    true
}

/// A Close: the client's name is gone, the shared statement stays. Returns
/// whether it was replaced.
pub(super) fn close(body: &[u8], exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    let group = exchange.conversation.group();
    let reply = Reply::Forward;
    let name = statement_name(body);
    let forgotten = match name {
        Some(b"") => {
            exchange.statements.unnamed = None;
            exchange.client.statements.unnamed.take().map(|statement| (Bytes::new(), statement))
        }
        Some(name) => exchange
            .client
            .statements
            .remove(name)
            .map(|statement| (Bytes::copy_from_slice(name), statement)),
        None => None,
    };
    let unnamed = name == Some(b"");
    let ours = name.is_some_and(|name| name.starts_with(SHARED_PREFIX.as_bytes()));
    let replaced = forgotten.is_some() && !unnamed || ours;
    if replaced {
        let out = run.replace(HEADER + body.len());
        put_close(out, NOBODY);
        exchange.conversation.from_client(b'C');
    }
    let owed = Owed::Closed { reply, from_server: None, named: None, forgotten, unnamed };
    exchange.expected.push(group, owed);
    replaced
}

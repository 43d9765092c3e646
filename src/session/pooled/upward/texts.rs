//! SQL that is about to be run: what it may leave behind, and what it says of
//! statements that the protocol has prepared.

use bytes::{Bytes, BytesMut};

use super::executing::execute;
use super::failing::fail;
use super::reading::read_by;
use super::run::Run;
use super::sequences::forget_sequences;
use crate::domain::Refusal;
use crate::session::pooled::client_state::ClientState;
use crate::session::pooled::expected::{Expected, Owed};
use crate::session::pooled::pending::Exchange;
use crate::state::reports::Reports;
use crate::state::{Discard, Look, PinReason, StatementCommand};
use crate::wire::conversation::Conversation;
use crate::wire::frame::HEADER;
use crate::wire::request::{put_close, put_parse, put_sync};

/// The text and the parameters of a statement that does nothing.
const NOTHING: &[u8] = b"\0\0\0";

/// A simple query: its text may leave state behind, and it ends the unnamed
/// statement. Returns whether something was sent in its place.
pub(super) fn query(
    body: &[u8],
    whole: bool,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) -> bool {
    if !whole {
        exchange.client.pins.insert(PinReason::Unparsed);
    } else if let Some(text) = body.strip_suffix(b"\0") {
        exchange.client.note_database_command(text);
        let look = exchange.client.look(text);
        exchange.client.note_text(text);
        if let Some(reason) = exchange.client.refusal(&look) {
            refuse_query(reason, HEADER + body.len(), exchange, run);
            return true;
        }
        if !look.is_without_effect() {
            expect(&look, Moment::Simple, exchange, run);
        }
    }
    exchange.client.runs();
    exchange.client.statements.unnamed = None;
    exchange.statements.unnamed = None;
    false
}

/// Makes the server fail in the place of a simple query.
pub(super) fn refuse_query(
    reason: PinReason,
    length: usize,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    fail(Refusal::StateRefused { reason }.answer(), length, exchange, run);
    put_sync(run.out);
    exchange.conversation.from_client(b'S');
}

/// What a text that is about to be run may do to the session.
pub(super) fn expect(look: &Look, moment: Moment, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    forget_sequences(look, exchange, run);
    exchange.client.expect(look);
    let discards = [StatementCommand::Discard(Discard::All)];
    if moment == Moment::Simple && look.pins.is_empty() && look.statements == discards {
        exchange.client.discarding = Some(exchange.conversation.group());
    }
    make_all_real(look, moment, exchange, run);
}

/// When SQL is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// When it is prepared or described.
    Before,
    /// When it is bound to be run.
    Bound,
    /// In a simple query, which runs it.
    Simple,
}

/// SQL may speak of statements of the protocol. What it takes away when it is
/// bound is taken behind the Bind, which may be of one of those.
pub(super) fn make_all_real(
    look: &Look,
    moment: Moment,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    for command in &look.statements {
        match command {
            StatementCommand::Execute(name) => {
                execute(name.as_bytes(), moment, exchange, run);
            }
            command => follow(command, moment, exchange, run),
        }
    }
}

/// Any other command that speaks of statements.
pub(super) fn follow(
    command: &StatementCommand,
    moment: Moment,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    match command {
        // To free a name at once it need only be taken.
        StatementCommand::Deallocate(name) if moment == Moment::Simple => {
            take_name(name.as_bytes(), moment, exchange, run);
        }
        StatementCommand::Deallocate(name) => {
            make_real(name.as_bytes(), moment, exchange, run);
        }
        // Before it is run nobody asks for its name.
        StatementCommand::Prepare(_) if moment == Moment::Before => {}
        StatementCommand::Prepare(name) => {
            let name = name.as_bytes();
            // What was taken away before by the same text is not given back.
            let is_kept = |real: &Bytes| exchange.client.statements.get(real).is_some();
            exchange.client.borrowed.retain(|real| real != name || is_kept(real));
            take_name(name, moment, exchange, run);
        }
        StatementCommand::DeallocateAll
        | StatementCommand::Discard(_)
        | StatementCommand::Execute(_) => {
            // What the server makes of the first two shows in its answers; whoever
            // runs statements goes from one to the next by himself.
        }
    }
    if moment == Moment::Simple {
        take_away(command, exchange);
    }
}

/// What a command that is about to be run takes away of the client's statements.
pub(super) fn take_away(command: &StatementCommand, exchange: &mut Exchange<'_>) {
    let Exchange { client, statements, expected, conversation, .. } = exchange;
    let group = conversation.group();
    match command {
        StatementCommand::Deallocate(name) => {
            if let Some(statement) = client.statements.remove(name.as_bytes()) {
                expected.deallocate(group, Bytes::copy_from_slice(name.as_bytes()), statement);
            }
        }
        StatementCommand::DeallocateAll | StatementCommand::Discard(Discard::All) => {
            statements.doubt_named();
            expected.empty(group);
            for (name, statement) in client.statements.take_named() {
                expected.deallocate(group, name, statement);
            }
        }
        _ => {}
    }
}

/// SQL speaks of a statement of the protocol: prepares it under the client's
/// own name, so that the server knows what is meant.
pub(super) fn make_real(
    name: &[u8],
    moment: Moment,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    if let Some(statement) = exchange.client.statements.get(name).cloned() {
        let then = statement.read_by(exchange.client.reading());
        lend(name, &statement.definition, then, moment, exchange, run);
    }
}

/// The same where SQL asks for the name alone: what it stands for may be a
/// statement that cannot be prepared any more.
fn take_name(name: &[u8], moment: Moment, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    if exchange.client.statements.get(name).is_some() {
        lend(name, NOTHING, None, moment, exchange, run);
    }
}

fn lend(
    name: &[u8],
    definition: &[u8],
    then: Option<&Reports>,
    moment: Moment,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let client = &*exchange.client;
    if client.borrowed.iter().chain(&client.perhaps_borrowed).any(|real| real == name) {
        return;
    }
    let out = run.insert();
    let group = exchange.conversation.group();
    let name = Bytes::copy_from_slice(name);
    read_by(then, exchange, out, |exchange, out| {
        put_parse(out, &name, definition);
        exchange.conversation.from_client(b'P');
        // Where the name itself is still open, it may turn out to be SQL's.
        let may_be_sqls = exchange.client.pins.contains(PinReason::SqlPrepare)
            && exchange.expected.is_name_open(group + 1, &name);
        if may_be_sqls {
            exchange.client.perhaps_borrowed.push(name.clone());
            exchange.expected.push(group, Owed::Lent(name));
        } else {
            exchange.expected.push(group, Owed::PARSED_ASIDE);
            exchange.client.borrowed.push(name);
        }
    });
    if moment == Moment::Simple {
        put_sync(out);
        exchange.conversation.from_client(b'S');
        exchange.expected.silence(group);
    }
}

/// Everything is answered: the names are to be taken back that were lent.
/// Returns whether there are any.
pub fn settle_names(client: &mut ClientState, expected: &mut Expected) -> bool {
    let not_lent = expected.take_not_lent();
    let lent = client.perhaps_borrowed.drain(..).filter(|name| !not_lent.contains(name));
    client.borrowed.extend(lent);
    !client.borrowed.is_empty()
}

/// Takes back the names of statements that SQL has spoken of, so that the
/// connection has none of its client's own: one silent group.
pub fn return_names(
    client: &mut ClientState,
    conversation: &mut Conversation,
    expected: &mut Expected,
    out: &mut BytesMut,
) {
    if client.borrowed.is_empty() {
        return;
    }
    let group = conversation.group();
    for name in client.borrowed.drain(..) {
        put_close(out, &name);
        conversation.from_client(b'C');
        expected.push(group, Owed::CLOSED_ASIDE);
    }
    put_sync(out);
    conversation.from_client(b'S');
    expected.silence(group);
}

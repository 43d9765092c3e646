//! From the client to its server connection: looks at what matters, renames
//! prepared statements, and adds what the server lacks.
//!
//! Messages that need nothing done go on as they came, in one piece with their
//! neighbours. A message is kept back only while it is incomplete and must be
//! looked at whole; everything longer streams through and pins.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::client_state::ClientState;
use super::expected::{Expected, Owed, Reply};
use crate::domain::refusal::Answer;
use crate::domain::{Refusal, SqlState};
use crate::session::stakes::Stakes;
use crate::state::statements::{
    SHARED_PREFIX, ServerStatements, Statement, StatementId, Unnamed, shared_name,
};
use crate::state::{
    Discard, Look, PinReason, StatementCommand, may_fold_dates, wants_database_alone,
};
use crate::wire::conversation::Conversation;
use crate::wire::frame::HEADER;

/// The longest text that is looked at (decision 25); a longer one pins.
const LONGEST_TEXT: usize = 256 * 1024;
/// The longest Parse that is shared (decision 26).
const LONGEST_SHARED: usize = 64 * 1024;
/// The most that is kept of a Bind until both its names are there.
const LONGEST_NAMES: usize = 16 * 1024;
/// The longest message that PostgreSQL takes.
const LONGEST_MESSAGE: usize = 1 << 30;
/// A name that no statement has on any server.
const NOBODY: &[u8] = b"postern_none";

/// Everything that a translation reads and writes.
pub struct Exchange<'a> {
    /// The client.
    pub client: &'a mut ClientState,
    /// What is on the server.
    pub server: &'a mut ServerStatements,
    /// Both directions, as the server sees them.
    pub conversation: &'a mut Conversation,
    /// What the server owes.
    pub expected: &'a mut Expected,
    /// What may have been committed.
    pub stakes: &'a mut Stakes,
}

/// The client's stream between two reads.
#[derive(Debug, Default)]
pub struct Upward {
    /// A message that is not complete and must be.
    partial: BytesMut,
    /// Bytes of a message that streams through.
    passing: usize,
    /// The stream has stopped making sense; the server will say so.
    garbled: bool,
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Sending {
    /// So many of the bytes as they came.
    AsTheyCame(usize),
    /// What is in the buffer.
    Rewritten,
}

impl Upward {
    /// Whether a message has come only in part.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_empty() && self.passing == 0
    }

    /// Ends the stream towards one server. Returns the beginning of a message
    /// that it has not got, and how much is to come of one whose beginning it
    /// has got.
    pub fn break_off(&mut self) -> (BytesMut, usize) {
        (std::mem::take(&mut self.partial), std::mem::take(&mut self.passing))
    }

    /// Whether the stream has stopped making sense.
    #[must_use]
    pub fn is_garbled(&self) -> bool {
        self.garbled
    }

    /// Translates the next bytes of the client. All of them are used: sent, or
    /// kept until their message is complete.
    pub fn translate(
        &mut self,
        input: &[u8],
        exchange: &mut Exchange<'_>,
        out: &mut BytesMut,
    ) -> Sending {
        if self.partial.is_empty() {
            return self.run(input, exchange, out);
        }
        let mut rest = input;
        while !rest.is_empty() && !self.partial.is_empty() {
            let wanted = wanted(&self.partial).min(rest.len());
            self.partial.extend_from_slice(&rest[..wanted]);
            rest = &rest[wanted..];
            let message = std::mem::take(&mut self.partial);
            self.run_into(&message, exchange, out);
        }
        self.run_into(rest, exchange, out);
        Sending::Rewritten
    }

    fn run_into(&mut self, input: &[u8], exchange: &mut Exchange<'_>, out: &mut BytesMut) {
        if let Sending::AsTheyCame(length) = self.run(input, exchange, out) {
            out.put_slice(&input[..length]);
        }
    }

    /// Goes through the messages; what is unchanged stays in the input until
    /// something has to be put before or in the place of a message.
    fn run(&mut self, input: &[u8], exchange: &mut Exchange<'_>, out: &mut BytesMut) -> Sending {
        let mut run = Run { input, copied: 0, at: 0, rewritten: false, out };
        while run.at < input.len() {
            let rest = &input[run.at..];
            if self.passing > 0 {
                let passed = self.passing.min(rest.len());
                self.passing -= passed;
                run.at += passed;
                continue;
            }
            if self.garbled {
                run.at = input.len();
                break;
            }
            let group = exchange.conversation.group();
            let Some(used) = self.message(rest, exchange, &mut run) else {
                self.partial.extend_from_slice(rest);
                break;
            };
            exchange.stakes.sent(group, rest);
            run.at += used;
        }
        run.finish()
    }

    /// Deals with the message at the front; `None` if it must be complete and
    /// is not. Returns how much of the input it has used.
    fn message(
        &mut self,
        rest: &[u8],
        exchange: &mut Exchange<'_>,
        run: &mut Run<'_>,
    ) -> Option<usize> {
        let header = rest.first_chunk::<HEADER>()?;
        let (kind, length) = (header[0], read_length(*header));
        if !(4..=LONGEST_MESSAGE).contains(&length) {
            self.garbled = true;
            // Whatever the server makes of it, the client keeps it.
            exchange.client.pins.insert(PinReason::Unparsed);
            return Some(rest.len());
        }
        let total = 1 + length;
        let available = rest.len().min(total);
        let body = &rest[HEADER.min(available)..available];
        let whole = available == total;
        match kind {
            b'Q' if !whole && total <= LONGEST_TEXT => return None,
            b'Q' if query(body, whole, exchange, run) => return Some(total),
            b'P' if !whole && total <= LONGEST_SHARED => return None,
            b'P' if parse(body, whole, exchange, run) => return Some(available),
            b'B' => match names_of_bind(body) {
                Some((_, name))
                    if !whole && total <= LONGEST_TEXT && needs_values(name, exchange) =>
                {
                    return None;
                }
                Some((portal, name)) => {
                    bound(name, whole.then_some(body), exchange, run);
                    if bind(portal, name, total, exchange, run) {
                        let used = HEADER + portal.len() + name.len() + 2;
                        self.passing = total - used;
                        return Some(used);
                    }
                }
                None if !whole && available < LONGEST_NAMES => return None,
                None => {}
            },
            // The client leaves, its server connection stays.
            b'X' => {
                exchange.conversation.from_client(kind);
                run.replace(available);
                self.passing = 0;
                return Some(rest.len().min(total));
            }
            b'D' | b'C' if !whole && total <= LONGEST_NAMES => return None,
            b'D' if whole && describe(body, exchange, run) => return Some(total),
            b'C' if close(body, exchange, run) => return Some(total),
            _ => {}
        }
        exchange.conversation.from_client(kind);
        self.passing = total - available;
        Some(available)
    }
}

/// How much more is needed of an incomplete message, at least one byte.
fn wanted(partial: &[u8]) -> usize {
    match partial.first_chunk::<HEADER>() {
        None => HEADER - partial.len(),
        // A Bind is looked at as soon as its names are there.
        Some(header) if header[0] == b'B' => 512,
        Some(header) => (1 + read_length(*header)).saturating_sub(partial.len()).max(1),
    }
}

fn read_length(header: [u8; HEADER]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

/// One pass over some input.
struct Run<'a> {
    input: &'a [u8],
    /// How much of the input is in `out` or was replaced.
    copied: usize,
    /// Where the current message begins.
    at: usize,
    rewritten: bool,
    out: &'a mut BytesMut,
}

impl Run<'_> {
    /// Something stands before the current message.
    fn insert(&mut self) -> &mut BytesMut {
        self.out.put_slice(&self.input[self.copied..self.at]);
        self.copied = self.at;
        self.rewritten = true;
        self.out
    }

    /// Something stands in the place of the current message, or of its first
    /// bytes.
    fn replace(&mut self, length: usize) -> &mut BytesMut {
        self.insert();
        self.copied = self.at + length;
        self.out
    }

    fn finish(self) -> Sending {
        if self.rewritten {
            self.out.put_slice(&self.input[self.copied.min(self.at)..self.at]);
            Sending::Rewritten
        } else {
            Sending::AsTheyCame(self.at)
        }
    }
}

/// A simple query: its text may leave state behind, and it ends the unnamed
/// statement. Returns whether something was sent in its place.
fn query(body: &[u8], whole: bool, exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    if !whole {
        exchange.client.pins.insert(PinReason::Unparsed);
    } else if let Some(text) = body.strip_suffix(b"\0") {
        exchange.client.wants_database |= wants_database_alone(text);
        let look = exchange.client.look(text);
        exchange.client.note_text(text);
        if let Some(reason) = exchange.client.refusal(&look) {
            refuse_query(reason, HEADER + body.len(), exchange, run);
            return true;
        }
        if !look.is_nothing() {
            expect(&look, true, exchange, run);
        }
    }
    exchange.client.statements.unnamed = None;
    exchange.server.unnamed = None;
    false
}

/// Makes the server fail in the place of a simple query.
fn refuse_query(reason: PinReason, length: usize, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    fail(Refusal::StateRefused { reason }.answer(), length, exchange, run);
    put_message(run.out, b'S', &[]);
    exchange.conversation.from_client(b'S');
}

/// What a text that is about to be run may do to the session.
fn expect(look: &Look, simple: bool, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    exchange.client.expect(look);
    let discards = [StatementCommand::Discard(Discard::All)];
    if simple && look.pins.is_empty() && look.statements == discards {
        exchange.client.discarding = Some(exchange.conversation.group());
    }
    make_all_real(look, simple, exchange, run);
}

/// SQL may speak of statements of the protocol.
fn make_all_real(look: &Look, simple: bool, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    for command in &look.statements {
        match command {
            StatementCommand::Execute(name) => {
                make_real(name.as_bytes(), simple, exchange, run);
            }
            StatementCommand::Deallocate(name) => {
                if make_real(name.as_bytes(), simple, exchange, run) {
                    exchange.client.statements.remove(name.as_bytes());
                }
            }
            StatementCommand::Prepare(_)
            | StatementCommand::DeallocateAll
            | StatementCommand::Discard(_) => {
                // What the server makes of it shows in its answers.
            }
        }
    }
}

/// SQL speaks of a statement of the protocol: prepares it under the client's
/// own name, so that the server knows what is meant.
fn make_real(name: &[u8], simple: bool, exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    if exchange.client.borrowed.iter().any(|real| real == name) {
        return true;
    }
    let Some(statement) = exchange.client.statements.get(name).cloned() else { return false };
    let out = run.insert();
    let group = exchange.conversation.group();
    put_parse(out, name, &statement.definition);
    exchange.conversation.from_client(b'P');
    let owed = Owed::Parsed { reply: Reply::Swallow, on_server: None, named: None, unnamed: false };
    exchange.expected.push(group, owed);
    exchange.client.borrowed.push(Bytes::copy_from_slice(name));
    if simple {
        put_message(out, b'S', &[]);
        exchange.conversation.from_client(b'S');
        exchange.expected.silence(group);
    }
    true
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
        put_message(out, b'C', &[b"S", &name, b"\0"]);
        conversation.from_client(b'C');
        let reply = Reply::Swallow;
        let owed =
            Owed::Closed { reply, from_server: None, named: None, forgotten: None, unnamed: false };
        expected.push(group, owed);
    }
    put_message(out, b'S', &[]);
    conversation.from_client(b'S');
    expected.silence(group);
}

/// A Parse: remembered, and left out if the server has the statement. Returns
/// whether something was sent in its place.
fn parse(body: &[u8], whole: bool, exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    let parts = split_string(body).filter(|_| whole);
    let parts = parts.and_then(|(name, rest)| Some((name, rest, split_string(rest)?.0)));
    let Some((name, definition, text)) = parts else {
        exchange.client.pins.insert(PinReason::Unparsed);
        let owed =
            Owed::Parsed { reply: Reply::Forward, on_server: None, named: None, unnamed: false };
        exchange.expected.push(exchange.conversation.group(), owed);
        return false;
    };
    exchange.client.wants_database |= wants_database_alone(text);
    let look = exchange.client.look(text);
    let look = (!look.is_nothing()).then(|| Box::new(look));
    if let Some(look) = &look {
        if let Some(reason) = exchange.client.refusal(look) {
            let answer = Refusal::StateRefused { reason }.answer();
            fail(answer, HEADER + body.len(), exchange, run);
            return true;
        }
        // What it speaks of is looked up when it is prepared, and again when
        // it is run.
        make_all_real(look, false, exchange, run);
    }
    let own = may_fold_dates(text, exchange.client.reports.has_standard_strings());
    let statement = Arc::new(Statement::new(definition, &exchange.client.meaning, own, look));
    if name.is_empty() {
        unnamed_parsed(statement, exchange);
        return false;
    }
    named_parse(name, &statement, exchange, run);
    true
}

/// The unnamed statement is the client's from now on, and on this server.
fn unnamed_parsed(statement: Arc<Statement>, exchange: &mut Exchange<'_>) {
    let client = &mut *exchange.client;
    client.statements.unnamed = Some(statement);
    client.unnamed_count += 1;
    exchange.server.unnamed = Some(unnamed_of(client));
    let owed = Owed::Parsed { reply: Reply::Forward, on_server: None, named: None, unnamed: true };
    exchange.expected.push(exchange.conversation.group(), owed);
}

fn unnamed_of(client: &ClientState) -> Unnamed {
    (client.id, client.unnamed_count)
}

fn named_parse(
    name: &[u8],
    statement: &Arc<Statement>,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let message = HEADER + name.len() + 1 + statement.definition.len();
    if exchange.client.statements.get(name).is_some() {
        return fail(already_exists(name), message, exchange, run);
    }
    let client = &mut *exchange.client;
    let id = statement.id(&client.meaning);
    let own_name = Bytes::copy_from_slice(name);
    if client.statements.insert(own_name.clone(), Arc::clone(statement)).is_err() {
        return fail(too_many_statements(), message, exchange, run);
    }
    let named = Some(own_name);
    if exchange.server.uses(&id) {
        let group = exchange.conversation.group();
        let out = run.replace(message);
        put_message(out, b'C', &[b"S", NOBODY, b"\0"]);
        exchange.conversation.from_client(b'C');
        let reply = Reply::AsParsed;
        let owed =
            Owed::Closed { reply, from_server: None, named, forgotten: None, unnamed: false };
        exchange.expected.push(group, owed);
    } else {
        let out = run.replace(message);
        prepare_on_server(id, statement, Reply::Forward, named, out, exchange);
    }
}

/// Prepares a statement under its shared name, in the place of another if the
/// server has too many.
fn prepare_on_server(
    id: StatementId,
    statement: &Statement,
    reply: Reply,
    named: Option<Bytes>,
    out: &mut BytesMut,
    exchange: &mut Exchange<'_>,
) {
    let group = exchange.conversation.group();
    // A plan that went stale may be there under its own name.
    let stale = exchange.server.remove(&id).then_some(id);
    let evicted = exchange.server.evict();
    for (id, from_server) in evicted.map(|id| (id, evicted)).into_iter().chain([(id, stale)]) {
        put_message(out, b'C', &[b"S", shared_name(&id).as_bytes(), b"\0"]);
        exchange.conversation.from_client(b'C');
        let reply = Reply::Swallow;
        let owed =
            Owed::Closed { reply, from_server, named: None, forgotten: None, unnamed: false };
        exchange.expected.push(group, owed);
    }
    put_parse(out, shared_name(&id).as_bytes(), &statement.definition);
    exchange.conversation.from_client(b'P');
    exchange.server.insert(id);
    let on_server = Some(id);
    exchange.expected.push(group, Owed::Parsed { reply, on_server, named, unnamed: false });
}

/// Whether the values of a Bind of this statement matter.
fn needs_values(name: &[u8], exchange: &Exchange<'_>) -> bool {
    let look = exchange.client.statements.find(name).and_then(|statement| statement.look.as_ref());
    look.is_some_and(|look| !look.name_parameters.is_empty())
}

/// A statement is about to be run: `body` is the whole of its Bind, if it is
/// there.
fn bound(name: &[u8], body: Option<&[u8]>, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
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

/// The value that a Bind gives to a parameter, counted from one; of text the
/// binary form is the text.
fn bound_value(body: &[u8], number: u16) -> Option<&[u8]> {
    let (_, rest) = split_string(body)?;
    let (_, rest) = split_string(rest)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut value = None;
    for _ in 0..number.min(u16::from_be_bytes(*count)) {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (this, behind) = behind.split_at_checked(length)?;
        (value, rest) = (Some(this), behind);
    }
    value.filter(|_| (1..=u16::from_be_bytes(*count)).contains(&number))
}

/// The portal and the statement of a Bind, if both names are there.
fn names_of_bind(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = split_string(body)?;
    let (name, _) = split_string(rest)?;
    Some((portal, name))
}

/// A Bind: what it binds must be on the server. Returns whether its beginning
/// was replaced.
fn bind(
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
    let length = total - 1 + shared.len() - name.len();
    let out = run.replace(head);
    out.put_u8(b'B');
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    for text in [portal, shared.as_bytes()] {
        out.put_slice(text);
        out.put_u8(0);
    }
    exchange.conversation.from_client(b'B');
    true
}

/// Makes sure that a named statement of the client is on the server; returns
/// its name there. `None` if the client has no such statement: then the server
/// says so.
fn bring(name: &[u8], exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> Option<String> {
    let Some(statement) = exchange.client.statements.get(name).cloned() else {
        // Nobody may guess the name of a shared statement.
        return name
            .starts_with(SHARED_PREFIX.as_bytes())
            .then(|| format!("{SHARED_PREFIX}{}", String::from_utf8_lossy(name)));
    };
    let id = statement.id(&exchange.client.meaning);
    if !exchange.server.uses(&id) {
        let out = run.insert();
        prepare_on_server(id, &statement, Reply::Swallow, None, out, exchange);
    }
    Some(shared_name(&id))
}

/// Makes sure that the unnamed statement on the server is the client's: where
/// others find another client's, it is prepared again, or is not there.
fn bring_unnamed(exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let own = exchange.client.statements.unnamed.is_some().then(|| unnamed_of(exchange.client));
    if exchange.server.unnamed == own {
        return;
    }
    let group = exchange.conversation.group();
    let out = run.insert();
    let owed = if let Some(statement) = exchange.client.statements.unnamed.clone() {
        put_parse(out, b"", &statement.definition);
        exchange.conversation.from_client(b'P');
        Owed::Parsed { reply: Reply::Swallow, on_server: None, named: None, unnamed: true }
    } else {
        put_message(out, b'C', &[b"S\0"]);
        exchange.conversation.from_client(b'C');
        let reply = Reply::Swallow;
        Owed::Closed { reply, from_server: None, named: None, forgotten: None, unnamed: true }
    };
    exchange.server.unnamed = own;
    exchange.expected.push(group, owed);
}

/// A Describe of a statement. Returns whether it was replaced.
fn describe(body: &[u8], exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    let Some(name) = statement_name(body) else { return false };
    if name.is_empty() {
        bring_unnamed(exchange, run);
        return false;
    }
    let Some(shared) = bring(name, exchange, run) else { return false };
    let out = run.replace(HEADER + body.len());
    put_message(out, b'D', &[b"S", shared.as_bytes(), b"\0"]);
    exchange.conversation.from_client(b'D');
    true
}

/// A Close: the client's name is gone, the shared statement stays. Returns
/// whether it was replaced.
fn close(body: &[u8], exchange: &mut Exchange<'_>, run: &mut Run<'_>) -> bool {
    let group = exchange.conversation.group();
    let reply = Reply::Forward;
    let name = statement_name(body);
    let forgotten = match name {
        Some(b"") => {
            exchange.client.statements.unnamed = None;
            exchange.server.unnamed = None;
            None
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
    let replaced = forgotten.is_some() || ours;
    if replaced {
        let out = run.replace(HEADER + body.len());
        put_message(out, b'C', &[b"S", NOBODY, b"\0"]);
        exchange.conversation.from_client(b'C');
    }
    let owed = Owed::Closed { reply, from_server: None, named: None, forgotten, unnamed };
    exchange.expected.push(group, owed);
    replaced
}

/// The name in the body of a Describe or Close of a statement.
fn statement_name(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(b"S")?;
    split_string(rest).map(|(name, _)| name)
}

/// Makes the server fail at this place, and the client hear why.
fn fail(answer: Answer, message: usize, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let group = exchange.conversation.group();
    let out = run.replace(message);
    put_message(out, b'D', &[b"S", NOBODY, b"\0"]);
    exchange.conversation.from_client(b'D');
    exchange.expected.push(group, Owed::Error(Box::new(answer)));
}

fn already_exists(name: &[u8]) -> Answer {
    let name = String::from_utf8_lossy(name);
    plain(SqlState::DUPLICATE_STATEMENT, format!("prepared statement \"{name}\" already exists"))
}

fn too_many_statements() -> Answer {
    let text = "this session has prepared more statements than it may";
    let mut answer = plain(SqlState::CONFIGURATION_LIMIT, text.to_owned());
    answer.hint = Some("Close statements that are not needed any more.".to_owned());
    answer
}

fn plain(sqlstate: SqlState, message: String) -> Answer {
    Answer { sqlstate, message, detail: None, hint: None, label: "statement" }
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn put_parse(out: &mut BytesMut, name: &[u8], definition: &[u8]) {
    put_message(out, b'P', &[name, b"\0", definition]);
}

fn put_message(out: &mut BytesMut, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.put_u8(kind);
    out.put_u32(u32::try_from(length + 4).unwrap_or(u32::MAX));
    for part in parts {
        out.put_slice(part);
    }
}

/// Appends a simple query.
pub fn put_query(out: &mut BytesMut, sql: &[u8]) {
    put_message(out, b'Q', &[sql, b"\0"]);
}

/// Throws away what a refused client has sent up to the ends of its groups
/// (decision 29): counts the groups, and keeps what is not complete.
#[derive(Debug, Default)]
pub struct Skipping {
    /// Messages of the extended protocol have come whose Sync has not.
    in_batch: bool,
    /// Bytes still to come of a message that is thrown away.
    passing: usize,
}

impl Skipping {
    /// Throws away the rest of a message, and perhaps of a batch.
    #[must_use]
    pub fn discarding(passing: usize, in_batch: bool) -> Self {
        Self { in_batch, passing }
    }

    /// Takes the groups off the input; returns how many `ReadyForQuery` the
    /// client waits for. An incomplete message stays, and so does everything
    /// behind the last group that is complete, unless a batch was begun: its
    /// end must be awaited.
    pub fn skip(&mut self, input: &mut BytesMut) -> usize {
        std::iter::from_fn(|| self.message(input)).filter(|ends_group| *ends_group).count()
    }

    /// Takes one group off the input. Returns whether the client waits for its
    /// `ReadyForQuery`; if not, its end must be awaited.
    pub fn skip_group(&mut self, input: &mut BytesMut) -> bool {
        std::iter::from_fn(|| self.message(input)).any(|ends_group| ends_group)
    }

    /// Takes off the input what is left of a message and of a batch. Returns
    /// whether the batch's Sync has come.
    pub fn go_on(&mut self, input: &mut BytesMut) -> bool {
        self.pass(input);
        self.in_batch && self.skip_group(input)
    }

    /// Takes a message off the input, or the first bytes of a long one.
    /// Returns whether it ends a group; nothing if there is no message, or it
    /// is Terminate.
    fn message(&mut self, input: &mut BytesMut) -> Option<bool> {
        self.pass(input);
        let header = input.first_chunk::<HEADER>()?;
        let (kind, total) = (header[0], 1 + read_length(*header));
        if kind == b'X' || (input.len() < total && total <= LONGEST_NAMES) {
            return None;
        }
        let ends_group = match kind {
            b'S' => true,
            b'Q' | b'F' => !self.in_batch,
            _ => false,
        };
        match kind {
            b'S' => self.in_batch = false,
            b'P' | b'B' | b'E' | b'D' | b'C' | b'H' => self.in_batch = true,
            _ => {}
        }
        self.passing = total;
        self.pass(input);
        Some(ends_group)
    }

    fn pass(&mut self, input: &mut BytesMut) {
        let passed = self.passing.min(input.len());
        input.advance(passed);
        self.passing -= passed;
    }

    /// Whether a Sync is still to come.
    #[must_use]
    pub fn awaits_sync(&self) -> bool {
        self.in_batch
    }

    /// Whether anything is still to be thrown away.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.in_batch || self.passing > 0
    }
}

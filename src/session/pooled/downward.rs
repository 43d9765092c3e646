//! From the server connection to its client: what the client did not ask for
//! is left out, what it hears in another form is rewritten, and reports are
//! remembered.
//!
//! Nearly everything goes on as it came. Only the few short messages that may
//! matter are held until they are complete.

use bytes::{BufMut, Bytes, BytesMut};

use super::client_state::ClientState;
use super::expected::Reply;
use super::pending::Exchange;
use super::unanswered::Unanswered;
use crate::state::schema::change_of;
use crate::state::statements::find_shared_name;
use crate::state::{PinReason, Pins};
use crate::wire::answer::{self, Severity};
use crate::wire::conversation::TransactionStatus;
use crate::wire::frame::{HEADER, Head, declared_length, put_message};
use crate::wire::login::{error_field, is_fatal};

/// The longest message that PostgreSQL sends.
const LONGEST_MESSAGE: usize = 1 << 30;
/// The longest message that is held until it is complete.
const LONGEST_HELD: usize = 64 * 1024;
static PARSE_COMPLETE: [u8; HEADER] = [b'1', 0, 0, 0, 4];

/// The server's stream between two reads.
#[derive(Debug, Default)]
pub struct Downward {
    partial: BytesMut,
    /// Bytes of a message that goes on as it came, or that nobody hears.
    passing: usize,
    silent: bool,
    garbled: bool,
    /// A statement that was to prepare this connection for its client failed.
    pub preparation_failed: bool,
    /// What the server said before it closes: whole, and kept back.
    pub fatal: Option<Bytes>,
}

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Sending {
    /// All of the bytes as they came.
    AsTheyCame,
    /// What is in the buffer.
    Rewritten,
}

/// What is done with a message.
enum Verdict {
    Forward,
    Drop,
    Replace(Bytes),
}

impl Downward {
    /// Whether the client is between two messages.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_empty() && (self.passing == 0 || self.silent) && !self.garbled
    }

    /// Translates the next bytes of the server.
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
            let wanted = match self.partial.first_chunk::<HEADER>() {
                None => HEADER - self.partial.len(),
                Some(header) => {
                    (1 + declared_length(*header)).saturating_sub(self.partial.len()).max(1)
                }
            };
            let (first, more) = rest.split_at(wanted.min(rest.len()));
            self.partial.extend_from_slice(first);
            rest = more;
            let message = std::mem::take(&mut self.partial);
            self.run_into(&message, exchange, out);
        }
        self.run_into(rest, exchange, out);
        Sending::Rewritten
    }

    fn run_into(&mut self, input: &[u8], exchange: &mut Exchange<'_>, out: &mut BytesMut) {
        if self.run(input, exchange, out) == Sending::AsTheyCame {
            out.put_slice(input);
        }
    }

    fn run(&mut self, input: &[u8], exchange: &mut Exchange<'_>, out: &mut BytesMut) -> Sending {
        let (mut copied, mut at, mut rewritten) = (0, 0, false);
        while at < input.len() {
            let rest = &input[at..];
            if self.passing > 0 || self.garbled {
                let passed = if self.garbled { rest.len() } else { self.passing.min(rest.len()) };
                self.passing = self.passing.saturating_sub(passed);
                if self.silent {
                    out.put_slice(&input[copied..at]);
                    copied = at + passed;
                    rewritten = true;
                }
                at += passed;
                continue;
            }
            self.silent = false;
            let Some((head, total)) = self.head(rest, exchange) else {
                out.put_slice(&input[copied..at]);
                self.partial.extend_from_slice(rest);
                return Sending::Rewritten;
            };
            let available = total.min(rest.len());
            match self.message(head, &rest[..available], exchange) {
                Verdict::Forward => {}
                verdict => {
                    out.put_slice(&input[copied..at]);
                    copied = at + available;
                    rewritten = true;
                    match verdict {
                        Verdict::Replace(instead) => out.put_slice(&instead),
                        Verdict::Forward | Verdict::Drop => self.silent = true,
                    }
                }
            }
            self.passing = total - available;
            at += available;
        }
        if !rewritten {
            return Sending::AsTheyCame;
        }
        out.put_slice(&input[copied.min(at)..at]);
        Sending::Rewritten
    }

    /// The next message's header; `None` if it, or a message that must be
    /// looked at whole, is not complete.
    fn head(&mut self, rest: &[u8], exchange: &Exchange<'_>) -> Option<(Head, usize)> {
        let header = rest.first_chunk::<HEADER>()?;
        let length = declared_length(*header);
        if !(4..=LONGEST_MESSAGE).contains(&length) {
            self.garbled = true;
        }
        let total = 1 + length.max(4);
        let held = matches!(header[0], b'1' | b'3' | b'Z' | b'S' | b'E' | b'C')
            || exchange.expected.is_silent(exchange.conversation.answering());
        if held && rest.len() < total && total <= LONGEST_HELD {
            return None;
        }
        let first = rest.get(HEADER).copied().unwrap_or_default();
        let body = u32::try_from(total - HEADER).unwrap_or(u32::MAX);
        Some((Head { kind: header[0], length: body, first }, total))
    }

    fn message(&mut self, head: Head, message: &[u8], exchange: &mut Exchange<'_>) -> Verdict {
        let group = exchange.conversation.answering();
        let body = &message[HEADER.min(message.len())..];
        if head.kind == b'E' && is_fatal(body) {
            self.fatal = Some(Bytes::copy_from_slice(message));
            return Verdict::Drop;
        }
        let swallowed = exchange.conversation.from_server(head);
        if swallowed > 0 {
            exchange.expected.move_up(group, swallowed);
        }
        if head.kind == b'Z' && exchange.conversation.is_quiet() {
            exchange.client.unanswered = Unanswered::default();
        }
        if exchange.expected.is_aside(head.kind, exchange.conversation.next_answered()) {
            return Verdict::Drop;
        }
        exchange.stakes.heard(group, head.kind, swallowed, exchange.conversation.answering());
        if exchange.expected.is_silent(group) {
            return self.silent_message(head.kind, group, body, exchange);
        }
        match head.kind {
            b'1' | b'3' => match exchange.expected.completed() {
                Reply::Forward => Verdict::Forward,
                Reply::Swallow => Verdict::Drop,
                Reply::AsParsed => Verdict::Replace(Bytes::from_static(&PARSE_COMPLETE)),
            },
            b'S' => {
                if exchange.reports.take(body) {
                    exchange.client.reported(exchange.reports);
                }
                Verdict::Forward
            }
            b'C' => {
                command_complete(group, body, exchange);
                Verdict::Forward
            }
            b'E' => error(group, body, exchange),
            b'Z' => {
                exchange.expected.ready(group, &mut exchange.client.statements);
                let is_over = exchange.conversation.status() == TransactionStatus::Idle;
                exchange.client.transactions += u32::from(is_over);
                if is_over && let Some(change) = exchange.client.doubts.schema.take() {
                    // What others have parsed meanwhile was analysed by the old one.
                    exchange.statements.schema.changed(change);
                }
                Verdict::Forward
            }
            _ => Verdict::Forward,
        }
    }

    /// A message of a group that the client did not ask for.
    fn silent_message(
        &mut self,
        kind: u8,
        group: u64,
        body: &[u8],
        exchange: &mut Exchange<'_>,
    ) -> Verdict {
        if let Some(errand) = &mut exchange.errand
            && errand.is_answered_by(group)
        {
            errand.hear(kind, body);
        }
        match kind {
            b'S' => return silent_report(body, exchange),
            // What others have notified is the client's, whatever Postern was
            // asking meanwhile.
            b'A' => return Verdict::Forward,
            b'1' | b'3' => {
                exchange.expected.completed();
            }
            b'E' => {
                self.preparation_failed |= exchange.expected.is_vital();
                exchange.expected.failed(
                    group,
                    exchange.conversation.failed(),
                    &mut exchange.client.statements,
                    exchange.statements,
                );
            }
            b'Z' => exchange.expected.ready(group, &mut exchange.client.statements),
            _ => {}
        }
        Verdict::Drop
    }
}

/// A setting has changed by what Postern sent: the client hears of it if it is
/// not as it believes.
fn silent_report(body: &[u8], exchange: &mut Exchange<'_>) -> Verdict {
    exchange.reports.take(body);
    let mut believed = exchange.client.reports.clone();
    if believed.take(body) {
        exchange.client.reported(&believed);
        Verdict::Forward
    } else {
        Verdict::Drop
    }
}

/// What throws statements away says so in its tag.
///
/// What the client has sent since is not thrown away with it: so long as more
/// is under way, its names stay, and so does what holds it to its connection.
fn command_complete(group: u64, body: &[u8], exchange: &mut Exchange<'_>) {
    if let Some(change) = change_of(body) {
        let doubts = &mut exchange.client.doubts;
        doubts.schema = doubts.schema.max(Some(change));
        exchange.statements.schema.changed(change);
    }
    match body {
        b"DISCARD ALL\0" | b"DEALLOCATE ALL\0" => {}
        b"ROLLBACK\0" => {
            exchange.client.doubts.undone = true;
            return;
        }
        b"DEALLOCATE\0" => return exchange.expected.deallocated(group),
        b"DISCARD SEQUENCES\0" => {
            exchange.client.pins = exchange.client.pins.except(PinReason::Sequence.into());
            return;
        }
        _ => return,
    }
    exchange.expected.deallocated_all(group);
    if exchange.expected.is_emptied(group) {
        // What was prepared again since is behind it.
        exchange.statements.forget_doubted();
    } else {
        exchange.statements.clear();
    }
    let client = &mut *exchange.client;
    if exchange.conversation.group() == group + 1 && exchange.expected.is_empty() {
        client.statements.clear();
        if client.discarding == Some(group) && !exchange.conversation.is_unsynced() {
            // The session is as it began; the server is asked for the rest.
            let over = [PinReason::Setting, PinReason::Sequence, PinReason::Unparsed];
            client.pins = client.pins.except(over.into_iter().collect::<Pins>());
        }
    }
}

fn error(group: u64, body: &[u8], exchange: &mut Exchange<'_>) -> Verdict {
    exchange.client.doubts.undone = true;
    if is_stale_plan(body) {
        // The server's plans of shared statements were made before a table was
        // changed: they are prepared again when they are next used.
        exchange.statements.spoil_named();
    }
    let message = exchange.conversation.failed();
    let Exchange { client, statements, expected, .. } = &mut *exchange;
    let instead = expected.failed(group, message, &mut client.statements, statements);
    match instead {
        Some(told) => {
            let mut message = BytesMut::new();
            answer::error(&mut message, Severity::Error, &told, None);
            Verdict::Replace(message.freeze())
        }
        None => with_own_name(body, exchange.client).map_or(Verdict::Forward, Verdict::Replace),
    }
}

/// An error that speaks of a statement by its shared name, in which the client
/// finds its own instead.
fn with_own_name(body: &[u8], client: &ClientState) -> Option<Bytes> {
    let (place, id) = find_shared_name(body)?;
    let name = client.statements.name_of(&id, &client.meaning)?;
    let body = [&body[..place.start], name, &body[place.end..]].concat();
    let mut message = BytesMut::with_capacity(HEADER + body.len());
    put_message(&mut message, b'E', &[&body]);
    Some(message.freeze())
}

/// "cached plan must not change result type", in whatever language: the one
/// error of this state that `RevalidateCachedQuery` raises.
fn is_stale_plan(body: &[u8]) -> bool {
    error_field(body, b'C') == Some(b"0A000")
        && error_field(body, b'R') == Some(b"RevalidateCachedQuery")
}

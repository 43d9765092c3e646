//! From the client to its server connection: looks at what matters, renames
//! prepared statements, and adds what the server lacks.
//!
//! Messages that need nothing done go on as they came, in one piece with their
//! neighbours. A message is kept back only while it is incomplete and must be
//! looked at whole; everything longer streams through and pins.

mod binding;
mod executing;
mod failing;
mod reading;
mod run;
mod sequences;
mod statements;
mod texts;

use bytes::{BufMut, BytesMut};

use super::pending::Exchange;
use crate::state::PinReason;
use crate::wire::conversation::Conversation;
use crate::wire::frame::{HEADER, declared_length};
use crate::wire::request::{names_of_bind, split_string, statement_name};
use binding::{Count, bind, count_values, needs_values};
use failing::fail;
use run::Run;
use statements::{close, describe, parse};
use texts::query;
pub use texts::{return_names, settle_names};

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
/// A name that statements have for a moment.
const TRIAL: &[u8] = b"postern_trial";

/// The client's stream between two reads.
#[derive(Debug, Default)]
pub struct Upward {
    /// A message that is not complete and must be.
    partial: BytesMut,
    /// Bytes of a message that streams through.
    passing: usize,
    /// The stream has stopped making sense; the server will say so.
    garbled: bool,
    /// What is kept in `partial` begins with a message that waits for the
    /// answer to an earlier group; this one was being answered then.
    held: Option<u64>,
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
        self.held = None;
        (std::mem::take(&mut self.partial), std::mem::take(&mut self.passing))
    }

    /// Whether the stream has stopped making sense.
    #[must_use]
    pub fn is_garbled(&self) -> bool {
        self.garbled
    }

    /// Whether what was kept waits for an answer of the server, so that nothing
    /// more is to be read of the client.
    #[must_use]
    pub fn is_held(&self, conversation: &Conversation) -> bool {
        self.held.is_some_and(|answering| {
            conversation.answering() == answering && !conversation.is_copying_in()
        })
    }

    /// Whether something was kept for such an answer, and is not sent yet.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Translates the next bytes of the client, behind what was held and need
    /// not wait any more. All of them are used: sent, or kept until their
    /// message is complete.
    pub fn translate(
        &mut self,
        input: &[u8],
        exchange: &mut Exchange<'_>,
        out: &mut BytesMut,
    ) -> Sending {
        if self.partial.is_empty() {
            return self.run(input, exchange, out);
        }
        if self.held.take().is_some() {
            let held = std::mem::take(&mut self.partial);
            self.run_into(&held, exchange, out);
        }
        let mut rest = input;
        while !rest.is_empty() && !self.partial.is_empty() {
            if self.held.is_some() {
                self.partial.extend_from_slice(rest);
                return Sending::Rewritten;
            }
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
        let (kind, length) = (header[0], declared_length(*header));
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
            _ if self.must_wait(kind, body, exchange) => return None,
            b'Q' if !whole && total <= LONGEST_TEXT => return None,
            b'Q' if query(body, whole, exchange, run) => return Some(total),
            b'P' if !whole && total <= LONGEST_SHARED => return None,
            b'P' if !whole && available < LONGEST_NAMES && split_string(body).is_none() => {
                return None;
            }
            b'P' if parse(body, whole, exchange, run) => return Some(available),
            b'B' => match names_of_bind(body) {
                Some((_, name))
                    if !whole && total <= LONGEST_TEXT && needs_values(name, exchange) =>
                {
                    return None;
                }
                Some((portal, name)) => {
                    if whole {
                        match count_values(name, body, exchange) {
                            Count::Nothing => {}
                            Count::Open => {
                                self.held = Some(exchange.conversation.answering());
                                return None;
                            }
                            Count::Wrong(answer) => {
                                fail(answer, total, exchange, run);
                                return Some(total);
                            }
                        }
                    }
                    let body = whole.then_some(body);
                    if let Some(used) = bind((portal, name), body, total, exchange, run) {
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

impl Upward {
    /// Whether what this message means is open until the server has answered
    /// what was sent before its batch.
    fn must_wait(&mut self, kind: u8, body: &[u8], exchange: &Exchange<'_>) -> bool {
        let Exchange { client, expected, conversation, .. } = exchange;
        if expected.is_settled() || conversation.is_copying_in() {
            return false;
        }
        let group = conversation.group();
        let open = |name: &[u8]| {
            let statement = client.statements.get(name);
            let id = statement.map(|statement| statement.id(&client.meaning));
            expected.is_open(group, name, id.as_ref())
        };
        let waits = match kind {
            b'B' => names_of_bind(body).is_some_and(|(_, name)| open(name)),
            b'D' => statement_name(body).is_some_and(open),
            // A Parse without a name is there whatever was before.
            b'P' => split_string(body)
                .is_some_and(|(name, _)| !name.is_empty() && expected.is_name_open(group, name)),
            b'C' => statement_name(body)
                .is_some_and(|name| !name.is_empty() && expected.is_name_open(group, name)),
            _ => false,
        };
        if waits {
            self.held = Some(conversation.answering());
        }
        waits
    }
}

/// How much more is needed of an incomplete message, at least one byte.
fn wanted(partial: &[u8]) -> usize {
    match partial.first_chunk::<HEADER>() {
        None => HEADER - partial.len(),
        // A Bind is looked at as soon as its names are there.
        Some(header) if header[0] == b'B' => 512,
        Some(header) => (1 + declared_length(*header)).saturating_sub(partial.len()).max(1),
    }
}

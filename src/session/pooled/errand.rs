//! What Postern asks the server connection for its own sake, of which the
//! client hears nothing: to give it the client's settings, to say what the
//! client has done to it, or what routines the client may call.
//!
//! While one is under way nothing of the client is sent: what comes behind
//! depends on the answer.

use bytes::{Bytes, BytesMut};

use super::expected::Expected;
use crate::state::Carried;
use crate::state::reading::Question;
use crate::state::routines::known::Asking;
use crate::wire::conversation::Conversation;
use crate::wire::frame::put_message;
use crate::wire::request::put_query;

/// What it is about.
#[derive(Debug)]
pub enum Errand {
    /// These settings are made true on the connection.
    Replay(Carried),
    /// What the client's settings are now, and which of its pins are left.
    Reading(Question),
    /// The client's own `application_name` is put back.
    Name,
    /// What is really left on the connection.
    Audit,
    /// Which routines of the database leave something on the connection.
    Routines(Asking),
}

/// An errand that was sent.
#[derive(Debug)]
pub struct Underway {
    /// What it is about.
    pub errand: Errand,
    group: u64,
    /// The bodies of the rows that have come.
    pub rows: Vec<Bytes>,
    /// The error that has come, as a message.
    pub error: Option<Bytes>,
    is_over: bool,
}

impl Underway {
    /// Appends the query of an errand to what is sent.
    #[must_use]
    pub fn send(
        errand: Errand,
        sql: &[u8],
        conversation: &mut Conversation,
        expected: &mut Expected,
        out: &mut BytesMut,
    ) -> Box<Self> {
        let group = conversation.group();
        put_query(out, sql);
        expected.silence(group);
        conversation.from_client(b'Q');
        Box::new(Self { errand, group, rows: Vec::new(), error: None, is_over: false })
    }

    /// Whether a message of this group is an answer to it.
    #[must_use]
    pub fn is_answered_by(&self, group: u64) -> bool {
        self.group == group
    }

    /// Whether its last answer has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// A message of its group has come.
    pub fn hear(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'D' => self.rows.push(Bytes::copy_from_slice(body)),
            b'E' => {
                let mut message = BytesMut::new();
                put_message(&mut message, b'E', &[body]);
                self.error = Some(message.freeze());
            }
            b'Z' => self.is_over = true,
            _ => {}
        }
    }
}

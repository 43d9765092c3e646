//! What Postern asks the server connection for its own sake, of which the
//! client hears nothing: to give it the client's settings, or to say what the
//! client has done to it.
//!
//! While one is under way nothing of the client is sent: what comes behind
//! depends on the answer.

use bytes::{BufMut, Bytes, BytesMut};

use super::expected::Expected;
use crate::state::Carried;
use crate::state::reading::Question;
use crate::wire::conversation::Conversation;

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
}

/// An errand that was sent.
#[derive(Debug)]
pub struct Underway {
    /// What it is about.
    pub errand: Errand,
    group: u64,
    /// The body of the row that has come.
    pub row: Option<Bytes>,
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
        Box::new(Self { errand, group, row: None, error: None, is_over: false })
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
            b'D' => self.row = Some(Bytes::copy_from_slice(body)),
            b'E' => {
                let mut message = BytesMut::new();
                message.put_u8(b'E');
                message.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
                message.put_slice(body);
                self.error = Some(message.freeze());
            }
            b'Z' => self.is_over = true,
            _ => {}
        }
    }
}

fn put_query(out: &mut BytesMut, sql: &[u8]) {
    out.put_u8(b'Q');
    out.put_u32(u32::try_from(sql.len() + 5).unwrap_or(u32::MAX));
    out.put_slice(sql);
    out.put_u8(0);
}

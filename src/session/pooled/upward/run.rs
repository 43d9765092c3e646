//! One pass over what the client sent: what is unchanged stays in the input
//! until something has to be put before or in the place of a message.

use bytes::{BufMut, BytesMut};

use super::Sending;

/// One pass over some input.
pub(super) struct Run<'a> {
    pub(super) input: &'a [u8],
    /// How much of the input is in `out` or was replaced.
    pub(super) copied: usize,
    /// Where the current message begins.
    pub(super) at: usize,
    pub(super) rewritten: bool,
    pub(super) out: &'a mut BytesMut,
}

impl Run<'_> {
    /// Something stands before the current message.
    pub(super) fn insert(&mut self) -> &mut BytesMut {
        self.out.put_slice(&self.input[self.copied..self.at]);
        self.copied = self.at;
        self.rewritten = true;
        self.out
    }

    /// Something stands in the place of the current message, or of its first
    /// bytes.
    pub(super) fn replace(&mut self, length: usize) -> &mut BytesMut {
        self.insert();
        self.copied = self.at + length;
        self.out
    }

    pub(super) fn finish(self) -> Sending {
        if self.rewritten {
            self.out.put_slice(&self.input[self.copied.min(self.at)..self.at]);
            Sending::Rewritten
        } else {
            Sending::AsTheyCame(self.at)
        }
    }
}

//! Throws away what a refused client has sent, up to the ends of its groups
//! (decision 29).

use bytes::{Buf, BytesMut};

use crate::wire::frame::{HEADER, declared_length};

/// The longest message that is kept until it is complete.
const LONGEST_KEPT: usize = 16 * 1024;

/// Throws away what a refused client has sent up to the ends of its groups
/// (decision 29): counts the groups, and keeps what is not complete.
#[derive(Debug, Default)]
pub(super) struct Skipping {
    /// Messages of the extended protocol have come whose Sync has not.
    in_batch: bool,
    /// Bytes still to come of a message that is thrown away.
    passing: usize,
}

impl Skipping {
    /// Throws away the rest of a message, and perhaps of a batch.
    #[must_use]
    pub(super) fn discarding(passing: usize, in_batch: bool) -> Self {
        Self { in_batch, passing }
    }

    /// Takes the groups off the input; returns how many `ReadyForQuery` the
    /// client waits for. An incomplete message stays, and so does everything
    /// behind the last group that is complete, unless a batch was begun: its
    /// end must be awaited.
    pub(super) fn skip(&mut self, input: &mut BytesMut) -> usize {
        std::iter::from_fn(|| self.message(input)).filter(|ends_group| *ends_group).count()
    }

    /// Takes one group off the input. Returns whether the client waits for its
    /// `ReadyForQuery`; if not, its end must be awaited.
    pub(super) fn skip_group(&mut self, input: &mut BytesMut) -> bool {
        std::iter::from_fn(|| self.message(input)).any(|ends_group| ends_group)
    }

    /// Takes off the input what is left of a message and of a batch. Returns
    /// whether the batch's Sync has come.
    pub(super) fn go_on(&mut self, input: &mut BytesMut) -> bool {
        self.pass(input);
        self.in_batch && self.skip_group(input)
    }

    /// Takes a message off the input, or the first bytes of a long one.
    /// Returns whether it ends a group; nothing if there is no message, or it
    /// is Terminate.
    fn message(&mut self, input: &mut BytesMut) -> Option<bool> {
        self.pass(input);
        let header = input.first_chunk::<HEADER>()?;
        let (kind, total) = (header[0], 1 + declared_length(*header));
        if kind == b'X' || (input.len() < total && total <= LONGEST_KEPT) {
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
    pub(super) fn awaits_sync(&self) -> bool {
        self.in_batch
    }

    /// Whether anything is still to be thrown away.
    #[must_use]
    pub(super) fn is_under_way(&self) -> bool {
        self.in_batch || self.passing > 0
    }
}

//! Message boundaries in a stream of bytes.
//!
//! After startup every message is a type byte, a length that counts itself,
//! and a body. The relay forwards bytes as they come; [`Scanner`] only looks
//! where messages begin, over any split of the stream, without copying a
//! body. A stream whose lengths make no sense is reported once: what follows
//! cannot be understood any more, and whoever receives it will say so.

use bytes::{BufMut, BytesMut};

/// Bytes of a message's header: type and length.
pub const HEADER: usize = 5;

/// The longest body: PostgreSQL makes and takes no message over `MaxAllocSize`
/// (src/include/utils/memutils.h), 1 GiB.
const LONGEST: u32 = 0x3fff_ffff;

/// The length that a header declares: that of the message without its type, in
/// bytes. Impossible ones are not told apart.
#[must_use]
#[inline]
pub const fn declared_length(header: [u8; HEADER]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

/// Appends the header of a message whose body has so many bytes.
pub fn put_head(out: &mut BytesMut, kind: u8, body: usize) {
    out.put_u8(kind);
    // What is longer than a message can be is refused by whoever reads it.
    out.put_u32(u32::try_from(body + 4).unwrap_or(u32::MAX));
}

/// Appends a message whose body is these parts.
pub fn put_message(out: &mut BytesMut, kind: u8, body: &[&[u8]]) {
    put_head(out, kind, body.iter().map(|part| part.len()).sum());
    for part in body {
        out.put_slice(part);
    }
}

/// A whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type byte.
    pub kind: u8,
    /// All of it, header included.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// What is behind the header.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

/// The messages that stand whole one behind the other; what is not one ends
/// them.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER>()?;
        let total = (1 + declared_length(*header)).max(HEADER);
        let (message, rest) = bytes.split_at_checked(total)?;
        bytes = rest;
        Some(Message { kind: message[0], bytes: message })
    })
}

/// Finds the messages in a stream that arrives in pieces.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scanner {
    /// The first bytes of a message whose header is not complete yet.
    partial: [u8; HEADER + 1],
    have: u8,
    /// Bytes of the current message's body still to come.
    remaining: u32,
}

/// A message's beginning, as far as the relay needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The type byte.
    pub kind: u8,
    /// Bytes of the body.
    pub length: u32,
    /// The body's first byte, for the kinds of which `needs_first_byte`
    /// says so: the status of `ReadyForQuery`.
    pub first: u8,
}

/// A length that cannot be: the stream has no meaning from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of type {kind:#04x} with an impossible length")]
pub struct Garbled {
    /// The type byte of the message with the impossible length.
    pub kind: u8,
}

/// The kinds whose first byte matters: `ReadyForQuery`'s transaction status.
const fn needs_first_byte(kind: u8, length: u32) -> bool {
    kind == b'Z' && length > 0
}

impl Scanner {
    /// Looks through the next bytes of the stream and reports every message
    /// that begins in them (or before them, if its header ends in them).
    ///
    /// # Errors
    /// [`Garbled`] at the first impossible length; the scanner must not be
    /// used for this stream any more.
    ///
    /// # Panics
    /// Never: what is skipped is no more than what remains.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8], mut found: impl FnMut(Head)) -> Result<(), Garbled> {
        self.scan_bodies(bytes, |head, _| found(head))
    }

    /// As [`scan`](Self::scan), and with everything that is there behind each
    /// header: the body, as far as it has come, and what follows it.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    ///
    /// # Panics
    /// Never: what is skipped is no more than what remains.
    pub fn scan_bodies(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(Head, &[u8]),
    ) -> Result<(), Garbled> {
        loop {
            let skip = bytes.len().min(self.remaining as usize);
            bytes = &bytes[skip..];
            self.remaining -= u32::try_from(skip).expect("no more than remaining");
            if bytes.is_empty() {
                return Ok(());
            }
            let (head, used) = if self.have == 0 && bytes.len() > HEADER {
                (read_head(bytes)?, HEADER)
            } else {
                match self.complete(&mut bytes)? {
                    Some(head) => (head, 0),
                    None => return Ok(()),
                }
            };
            bytes = &bytes[used..];
            found(head, bytes);
            self.remaining = head.length;
            if used == 0 && needs_first_byte(head.kind, head.length) {
                self.remaining -= 1;
            }
        }
    }

    /// Whether the stream is between two messages.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.remaining == 0
    }

    /// Adds bytes to a header that is not complete; takes what it uses.
    fn complete(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, Garbled> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.partial[usize::from(self.have)] = byte;
            self.have += 1;
            *bytes = rest;
            if usize::from(self.have) >= HEADER {
                let head = read_head(&self.partial)?;
                let wanted = HEADER + usize::from(needs_first_byte(head.kind, head.length));
                if usize::from(self.have) == wanted {
                    self.have = 0;
                    return Ok(Some(head));
                }
            }
        }
        Ok(None)
    }
}

/// Reads a header; `bytes` holds at least one byte more than it.
fn read_head(bytes: &[u8]) -> Result<Head, Garbled> {
    let kind = bytes[0];
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    match length.checked_sub(4) {
        Some(length) if length <= LONGEST => Ok(Head { kind, length, first: bytes[5] }),
        _ => Err(Garbled { kind }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        put_message(&mut bytes, kind, &[body]);
        bytes.into()
    }

    #[test]
    fn what_is_put_reads_back_up_to_the_first_that_is_not_whole() {
        let mut bytes =
            [message(b'S', b"a\0b\0"), message(b'Z', b"I"), message(b'1', b"")].concat();
        bytes.pop();
        let found: Vec<_> = messages(&bytes).map(|found| (found.kind, found.body())).collect();
        assert_eq!(found, [(b'S', &b"a\0b\0"[..]), (b'Z', b"I")]);
    }

    fn scan_in_pieces(stream: &[u8], piece: usize) -> (Vec<(u8, u32, Option<u8>)>, Scanner) {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for piece in stream.chunks(piece.max(1)) {
            scanner
                .scan(piece, |head| {
                    let first = needs_first_byte(head.kind, head.length).then_some(head.first);
                    found.push((head.kind, head.length, first));
                })
                .unwrap();
        }
        (found, scanner)
    }

    #[test]
    fn d03_impossible_lengths_are_reported_at_every_split() {
        for length in [0u32, 1, 2, 3, 1 << 30 | 4, 1 << 31, u32::MAX] {
            let mut stream = message(b'Q', b"ok");
            stream.push(b'P');
            stream.extend(length.to_be_bytes());
            stream.push(0);
            for split in 1..stream.len() {
                let mut scanner = Scanner::default();
                let result = stream.chunks(split).try_for_each(|piece| scanner.scan(piece, |_| ()));
                assert_eq!(result, Err(Garbled { kind: b'P' }), "{length} split at {split}");
            }
        }
    }

    #[test]
    fn d03_the_longest_legal_message_is_followed_without_its_body() {
        let mut scanner = Scanner::default();
        let header = [b'd', 0x40, 0, 0, 3, 0];
        scanner.scan(&header, |head| assert_eq!(head.length, LONGEST)).unwrap();
        assert!(!scanner.at_boundary());
    }

    #[test]
    fn ready_for_query_brings_its_status() {
        let stream = [message(b'Z', b"I"), message(b'Z', b"T")].concat();
        for piece in 1..=stream.len() {
            let (found, _) = scan_in_pieces(&stream, piece);
            assert_eq!(found, [(b'Z', 1, Some(b'I')), (b'Z', 1, Some(b'T'))], "{piece}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_bytes_are_messages_or_their_end(bytes: Vec<u8>) {
            let found: Vec<_> = messages(&bytes).flat_map(|found| found.bytes).collect();
            prop_assert!(found.iter().copied().eq(&bytes[..found.len()]));
        }

        #[test]
        fn d04_every_split_finds_the_same_messages(
            messages in prop::collection::vec(
                (prop_oneof![Just(b'Z'), any::<u8>()], prop::collection::vec(any::<u8>(), 0..20)), 0..12),
            piece in 1usize..40,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(k, b)| message(*k, b)).collect();
            let (found, scanner) = scan_in_pieces(&stream, piece);
            let expected: Vec<_> = messages
                .iter()
                .map(|(k, b)| (*k, u32::try_from(b.len()).unwrap(), b.first().copied().filter(|_| *k == b'Z')))
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert!(scanner.at_boundary());
        }

        #[test]
        fn d03_any_bytes_are_scanned_or_reported(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Scanner::default().scan(&bytes, |_| ());
        }
    }
}

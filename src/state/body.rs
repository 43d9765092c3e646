//! The code between the quotes of `DO`.
//!
//! It may be in any language, and may put SQL together out of strings, so it
//! is not read but searched: any word in it, in a string or a comment too,
//! that could stand for a command pins. `UPDATE … SET` in a body pins as well;
//! what runs as `DO` is seldom run often.

use super::functions;
use super::lexer::{Kind, Tokens, continues_word, starts_word};
use super::look::Look;
use crate::domain::{PinReason, Pins};

/// Words that are commands, or parts of them, and what they may leave.
pub(super) const WORDS: [(&str, PinReason); 9] = [
    ("deallocate", PinReason::SqlPrepare),
    ("hold", PinReason::HeldCursor),
    ("listen", PinReason::Listen),
    ("load", PinReason::Load),
    ("prepare", PinReason::SqlPrepare),
    ("reset", PinReason::Setting),
    ("set", PinReason::Setting),
    ("temp", PinReason::TemporaryObject),
    ("temporary", PinReason::TemporaryObject),
];

/// Looks at a `DO` statement; `tokens` stand behind `DO`.
pub(super) fn look(tokens: Tokens, found: &mut Look) {
    for token in tokens.take_while(|token| !token.is_symbol(b';')) {
        match token.kind {
            Kind::String | Kind::DollarString => found.pins |= pins_of(token.content()),
            // Escapes may stand for letters.
            Kind::EscapeString | Kind::UnicodeString => found.pins.insert(PinReason::Unparsed),
            _ => {}
        }
    }
}

fn pins_of(body: &[u8]) -> Pins {
    words(body).filter_map(pin_of).collect()
}

fn pin_of(word: &[u8]) -> Option<PinReason> {
    if is_temporary_schema(word) {
        return Some(PinReason::TemporaryObject);
    }
    let known = WORDS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    known.map(|(_, reason)| *reason).or_else(|| functions::pin_of_word(word))
}

/// The runs of bytes that could be identifiers.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pieces = text.split(|byte| !continues_word(*byte));
    pieces.filter(|piece| piece.first().is_some_and(|byte| starts_word(*byte)))
}

/// The schema of temporary objects, whosever they are.
pub(super) const SCHEMA: &[u8] = b"pg_temp";

/// Whether this word is the schema of temporary objects: `pg_temp`, or
/// `pg_temp_3` for those of one backend.
pub(super) fn is_temporary_schema(word: &[u8]) -> bool {
    word.split_at_checked(SCHEMA.len()).is_some_and(|(schema, number)| {
        let is_number =
            |n: &[u8]| n.first() == Some(&b'_') && n[1..].iter().all(u8::is_ascii_digit);
        schema.eq_ignore_ascii_case(SCHEMA) && (number.is_empty() || is_number(number))
    })
}

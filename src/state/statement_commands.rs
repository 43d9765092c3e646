//! What a text does to the session's prepared statements by SQL, with names as
//! PostgreSQL understands them.
//!
//! Statements that SQL makes and statements that the protocol makes share one
//! list of names, so whoever keeps that list for a client must hear of both.

use std::fmt;

use super::lexer::{Kind, Token};

/// `NAMEDATALEN` less its terminator: longer names are cut.
const LONGEST_NAME: usize = 63;

/// A command about prepared statements, or about everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementCommand {
    /// `PREPARE name …`, which is also a reason to pin.
    Prepare(StatementName),
    /// `EXECUTE name`, also behind `EXPLAIN` and `CREATE TABLE … AS`.
    Execute(StatementName),
    /// `DEALLOCATE [PREPARE] name`.
    Deallocate(StatementName),
    /// `DEALLOCATE [PREPARE] ALL`.
    DeallocateAll,
    /// `DISCARD …`.
    Discard(Discard),
}

/// What `DISCARD` throws away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Everything, prepared statements among it.
    All,
    /// Cached plans; the statements stay.
    Plans,
    /// What `currval` and `lastval` know.
    Sequences,
    /// Temporary tables.
    Temporary,
}

/// The name of a prepared statement as the server keeps it: folded to lower
/// case unless it was quoted, and cut to 63 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementName(Box<[u8]>);

impl StatementName {
    /// The name that an identifier means; `None` for any other token. The
    /// escapes of `U&"…"` are left as they are: no text with one is trusted.
    pub(super) fn of(token: &Token) -> Option<Self> {
        let mut name = match token.kind {
            Kind::Word => token.text.to_ascii_lowercase(),
            Kind::QuotedIdentifier | Kind::UnicodeIdentifier => without_doubled(token.content()),
            _ => return None,
        };
        name.truncate(clip(&name));
        Some(Self(name.into_boxed_slice()))
    }

    /// Its bytes, as they would stand in a protocol message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StatementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Two double quotes stand for one.
fn without_doubled(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.iter().copied();
    let mut name = Vec::with_capacity(content.len());
    while let Some(byte) = bytes.next() {
        name.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    name
}

/// Where a name is cut: after whole characters.
fn clip(name: &[u8]) -> usize {
    if name.len() <= LONGEST_NAME {
        return name.len();
    }
    let is_inside = |at: &usize| name[*at] & 0b1100_0000 == 0b1000_0000;
    (0..=LONGEST_NAME).rev().find(|at| !is_inside(at)).unwrap_or(LONGEST_NAME)
}

#[cfg(test)]
mod tests {
    use super::super::lexer::Lexer;
    use super::*;

    fn name(text: &str) -> Option<StatementName> {
        StatementName::of(&Lexer::new(text.as_bytes(), true).next().unwrap())
    }

    #[test]
    fn names_are_folded_and_cut_as_the_server_does() {
        assert_eq!(name("Fetch_Äpfel").unwrap().as_bytes(), "fetch_Äpfel".as_bytes());
        assert_eq!(name("\"A \"\"b\"\"\"").unwrap().as_bytes(), b"A \"b\"");
        assert_eq!(name("'a'"), None);
        assert_eq!(name(&"X".repeat(80)).unwrap().as_bytes(), "x".repeat(63).as_bytes());
        let odd = format!("\"a{}\"", "é".repeat(40));
        assert_eq!(name(&odd).unwrap().as_bytes(), format!("a{}", "é".repeat(31)).as_bytes());
        let even = format!("\"{}\"", "é".repeat(40));
        assert_eq!(name(&even).unwrap().as_bytes(), "é".repeat(31).as_bytes());
    }
}

//! Commands for which PostgreSQL wants a database to itself: `CREATE`, `ALTER`
//! and `DROP DATABASE`. It waits 5 seconds for other connections to go and then
//! refuses, so those that nobody uses are given up when such a command is seen.

use super::lexer::{Tokens, is_space};

/// How much of a text is looked at, in bytes.
const LOOKED_AT: usize = 1024;
/// No session of such a command's needs its strings to be read.
const STANDARD_STRINGS: bool = true;

/// Whether a text begins with such a command, which stands alone in its text;
/// what is behind the text does not matter. Any other text costs a look at its
/// first letter.
#[must_use]
pub fn wants_database_alone(text: &[u8]) -> bool {
    let first = text.iter().find(|byte| !is_space(**byte));
    let may = first.is_some_and(|byte| matches!(byte | 0x20, b'a' | b'c' | b'd' | b'-' | b'/'));
    let mut tokens = Tokens::new(&text[..text.len().min(LOOKED_AT)], STANDARD_STRINGS);
    may && tokens.skip_word(&["create", "alter", "drop"]) && tokens.next_is_word("database")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_about_databases_are_told_from_others() {
        for text in [
            "DROP DATABASE a",
            "  drop database if exists a with (force)",
            "/* app */ CREATE DATABASE a TEMPLATE b",
            "-- why\nAlter\tDatabase a RENAME TO b;",
        ] {
            assert!(wants_database_alone(text.as_bytes()), "{text}");
        }
        for text in ["", "DROP TABLE database", "SELECT 'drop database a'", "create", "database"] {
            assert!(!wants_database_alone(text.as_bytes()), "{text}");
        }
    }
}

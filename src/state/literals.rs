//! The literals of a statement's text: whether there are any, and when PostgreSQL
//! reads them.

use super::lexer::{Token, Tokens};

/// Whether PostgreSQL reads the literals of a statement when it is parsed. Other
/// commands it analyses when they are run, and some of those it would not run
/// behind anything else in their batch.
pub(super) fn are_read_at_once(definition: &[u8]) -> bool {
    const AT_ONCE: [&str; 11] = [
        "select", "insert", "update", "delete", "merge", "values", "with", "table", "explain",
        "declare", "call",
    ];
    const MADE_BY_A_QUERY: [&str; 7] =
        ["table", "temp", "temporary", "unlogged", "local", "global", "materialized"];
    let mut tokens = Tokens::new(definition, true);
    let Some(first) = tokens.next() else { return false };
    let is_one_of = |token: &Token, words: &[&str]| words.iter().any(|word| token.is_word(word));
    first.is_symbol(b'(')
        || is_one_of(&first, &AT_ONCE)
        || first.is_word("create")
            && tokens.next().is_some_and(|second| is_one_of(&second, &MADE_BY_A_QUERY))
}

/// Whether there may be a string constant in it.
pub(super) fn may_be_there(definition: &[u8]) -> bool {
    let is_dollar = |pair: &[u8]| pair[0] == b'$' && !pair[1].is_ascii_digit();
    definition.contains(&b'\'') || definition.windows(2).any(is_dollar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_analysed_when_they_are_parsed_read_at_once() {
        for text in [
            "(SELECT 'x')",
            "/* */ with x as (select 'x') table x",
            "EXPLAIN SELECT 'x'",
            "CREATE TABLE t AS SELECT 'x'",
            "create materialized view v as select 'x'",
        ] {
            assert!(are_read_at_once(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "CREATE INDEX CONCURRENTLY ON t (n) WHERE d < '02/03/2024'",
            "CREATE DATABASE d TEMPLATE 'x'",
            "VACUUM t",
        ] {
            assert!(!are_read_at_once(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn strings_of_either_kind_may_be_literals_and_parameters_are_none() {
        for text in ["SELECT 'x'", "SELECT $$x$$", "SELECT $a$x$a$", "-- it's"] {
            assert!(may_be_there(text.as_bytes()), "{text}");
        }
        for text in ["SELECT 1", "SELECT $1 + $22", "SELECT \"x\"", "$"] {
            assert!(!may_be_there(text.as_bytes()), "{text}");
        }
    }
}

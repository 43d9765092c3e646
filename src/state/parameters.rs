//! How many parameters a statement has.

use super::lexer::{Kind, Lexer};

/// How many values a Bind of a statement must have whose Parse message has this
/// behind its name, where PostgreSQL has taken it: as many as there are types
/// in the message, or as the highest `$n` says. A `$n` inside a command that is
/// not analysed before it is run (`CREATE VIEW`) is counted in vain.
#[must_use]
pub fn parameter_count(definition: &[u8], standard_conforming_strings: bool) -> usize {
    let end = definition.iter().position(|byte| *byte == 0).unwrap_or(definition.len());
    let (text, types) = definition.split_at(end);
    let declared = types.get(1..).and_then(|types| types.first_chunk());
    let declared = declared.map_or(0, |count| usize::from(u16::from_be_bytes(*count)));
    let parameters = Lexer::new(text, standard_conforming_strings)
        .filter(|token| token.kind == Kind::Parameter)
        .filter_map(|token| std::str::from_utf8(&token.text[1..]).ok()?.parse().ok());
    parameters.fold(declared, usize::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_where_they_are_ones() {
        for (definition, count) in [
            ("\0\0\0", 0),
            ("SELECT 1\0\0\0", 0),
            ("SELECT $2::int + $1\0\0\0", 2),
            ("SELECT $1\0\0\x03\0\0\0\x17\0\0\0\x17\0\0\0\x17", 3),
            ("SELECT '$7', \"$8\", $$9$$ /* $4 */ -- $5\0\0\0", 0),
            ("SELECT $12\0\0\x01\0\0\0\x17", 12),
        ] {
            assert_eq!(parameter_count(definition.as_bytes(), true), count, "{definition:?}");
        }
    }
}

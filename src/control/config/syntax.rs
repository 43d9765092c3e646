//! From text to a table, or to what the TOML parser says.

use std::collections::BTreeMap;

use toml::Table;
use toml::de::{DeTable, Error};

/// So many errors of the parser are looked at; a file with more is no
/// configuration.
const MAX_ERRORS: usize = 100;

/// Reads a text as TOML.
pub(super) fn table(text: &str) -> Result<Table, Vec<String>> {
    text.parse().map_err(|error| errors(text, error))
}

/// The first error of each line, because the others tend to follow from it.
fn errors(text: &str, first: Error) -> Vec<String> {
    let (_, mut all) = DeTable::parse_recoverable(text);
    all.push(first);
    all.sort_by_key(start);
    let mut lines = BTreeMap::new();
    for error in all.iter().take(MAX_ERRORS) {
        let (line, column) = position(text, start(error));
        let message = error.message();
        let error = format!("line {line}, column {column}: {message}");
        lines.entry(line).or_insert(error);
    }
    lines.into_values().collect()
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Line and column of a byte, in characters counted from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::refused;

    #[test]
    fn syntax_errors_show_line_and_column() {
        refused(
            "[log]\nformat = text\n[tls\nmode = \"allow\"\n",
            &[
                "line 2, column 10: invalid boolean, expected `true`",
                "line 3, column 5: unclosed table, expected `]`",
            ],
        );
        refused("log.level = \"info\"\nlog.level = \"warn\"", &["line 2, column 5: duplicate key"]);
        refused(
            "log.level = \"é\" x",
            &["line 1, column 17: unexpected key or value, expected newline, `#`"],
        );
    }
}

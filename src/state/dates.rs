//! Whether a text has a date in it that depends on the day it is prepared.
//!
//! PostgreSQL reads constants such as `'today'::date` once, when a statement
//! is prepared. A statement that is prepared for many clients and for long
//! would keep yesterday's `today`, so such texts are prepared for each client
//! (decision 26). Whether the string becomes a date is not known here; any
//! string with such a word counts.
//!
//! A string whose word is cut in two by a line end (`'to'` and, in the next
//! line, `'day'`, which SQL reads as one string) is not seen.

use super::lexer::{Kind, Lexer, Token};
use super::prefilter;

/// The words that mean another time later (src/backend/utils/adt/datetime.c),
/// and `allballs`, which decision 26 counts among them.
const DATES: [&str; 5] = ["now", "today", "tomorrow", "yesterday", "allballs"];

/// Whether a string in `text`, as a server with this
/// `standard_conforming_strings` reads it, may be a date that depends on the
/// day. Costs what a look costs.
#[must_use]
pub fn may_fold_dates(text: &[u8], standard_conforming_strings: bool) -> bool {
    prefilter::may_hold_date(text, is_date)
        && Lexer::new(text, standard_conforming_strings)
            .any(|token| may_be_date(&token, standard_conforming_strings))
}

fn may_be_date(token: &Token, standard_conforming_strings: bool) -> bool {
    let escapes = match token.kind {
        Kind::DollarString => false,
        Kind::String => !standard_conforming_strings,
        Kind::EscapeString => true,
        // Its escapes may be announced by any byte.
        Kind::UnicodeString => return true,
        _ => return false,
    };
    let mut words = token.content().split(|byte| !byte.is_ascii_alphabetic());
    words.any(is_date) || escapes && token.text.contains(&b'\\')
}

fn is_date(word: &[u8]) -> bool {
    DATES.iter().any(|date| date.as_bytes().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_strings_are_seen() {
        for text in [
            "SELECT 'now'::timestamp",
            "SELECT date 'TODAY'",
            "SELECT 'Tomorrow 04:00'::timestamptz",
            "SELECT $$yesterday$$::date",
            "SELECT $d$ allballs $d$::time",
            "INSERT INTO t VALUES ('now()')",
            "SELECT E'today'::date",
            r"SELECT E'\164oday'::date",
            r"SELECT E'\ttoday'::date",
            r"SELECT U&'\0074oday'::date",
            "SELECT U&'!0074oday' UESCAPE '!'",
            "SELECT N'now'",
            "SELECT 'it''s now'",
            "SELECT 'today12:00'::timestamp",
            "/* 'x */ SELECT 'now'",
            "SELECT \"'\", 'now'",
        ] {
            assert!(may_fold_dates(text.as_bytes(), true), "{text}");
        }
    }

    #[test]
    fn dates_elsewhere_are_not() {
        for text in [
            "SELECT now()",
            "SELECT today, tomorrow FROM yesterday WHERE allballs = 'x'",
            "SELECT 'snow', 'nowhere', 'known'",
            "SELECT \"now\"",
            "-- 'now'\nSELECT 1",
            "/* 'today' */ SELECT 1",
            r"SELECT '\d+' ~ x, now()",
            "SELECT 'a' || now() || 'b'",
            "SELECT $1::date, 'birthday', 'saturday', 'error'",
            "",
        ] {
            assert!(!may_fold_dates(text.as_bytes(), true), "{text}");
        }
    }

    #[test]
    fn backslashes_count_where_they_are_escapes() {
        let hidden = br"SELECT '\164oday'::date";
        assert!(may_fold_dates(hidden, false) && !may_fold_dates(hidden, true));
        let quoted = br"SELECT '\', now(), '\'";
        assert!(may_fold_dates(quoted, false) && !may_fold_dates(quoted, true));
    }
}

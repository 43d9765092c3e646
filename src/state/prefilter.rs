//! The search that every byte of every text passes.
//!
//! It answers one question: is there anything in these bytes for which the
//! text must be read? It may say yes in vain and never no in vain; so it knows
//! the same names as the code that reads (`commands.rs`, `functions.rs`,
//! `body.rs`), and a property test compares the two.
//!
//! Commands count only where a statement may start, so for them only the first
//! word and what follows a semicolon are looked at. Every other name is found
//! by three of its letters that are rare in SQL. All triples are compared at 32
//! positions at once, in a loop without branches that the compiler turns into
//! vector instructions; what it marks is confirmed byte by byte, at a cost
//! that does not depend on the length of the text.

use super::body::is_temporary_schema;
use super::commands::Command;
use super::functions;
use super::lexer::{Tokens, continues_word, is_space, starts_word};
use super::settings;

/// How many positions are compared at once.
const BLOCK: usize = 32;
/// A block, and what the triples at its last positions reach into.
const WINDOW: usize = BLOCK + 2;
/// Longer than every name that is searched for.
const LONGEST_NAME: usize = 40;
/// Makes a capital letter a small one. Other bytes may change too, which only
/// marks a few positions more.
const LOWER: u8 = 0x20;

/// What may leave state behind, but for the first command.
const STATE: Marks<10> = Marks::new(
    b';',
    [
        *b"emp", // temp, temporary, pg_temp
        *b"dvi", // pg_advisory_lock and its like
        *b"nfi", // set_config
        *b"rrv", // currval
        *b"stv", // lastval
        *b"n_s", // replication_slot, replication_origin_session_setup and _reset
        *b"kup", // pg_backup_start and its older name
        *b"tse", // setseed
        *b"tti", // pg_settings
        *b"u&\"",
    ],
);

/// What may be a date that depends on the day.
const DATES: Marks<6> = Marks::new(
    b'\\',
    [
        *b"now", // now
        *b"oda", // today
        *b"rro", // tomorrow
        *b"rda", // yesterday
        *b"lba", // allballs
        *b"u&'",
    ],
);

/// Whether `text` must be read to know what it leaves behind.
pub(super) fn may_leave_state(text: &[u8]) -> bool {
    let text = without_end(text);
    let first = Tokens::new(text, true).next();
    first.is_some_and(|word| Command::of(word.text).is_some())
        || STATE.any(text, |at| is_suspicious(text, at))
}

/// Whether `text` must be read to know if it has a date in a string that
/// `is_date` takes for one that depends on the day.
pub(super) fn may_hold_date(text: &[u8], is_date: impl Fn(&[u8]) -> bool) -> bool {
    DATES.any(text, |at| {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic();
        text[at] == b'\\'
            || starts_with(&text[at..], b"u&'")
            || is_date(around(text, at, is_letter, is_letter))
    })
}

/// The text up to its last byte that is neither space nor semicolon.
fn without_end(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| *byte != b';' && !is_space(*byte));
    &text[..last.map_or(0, |last| last + 1)]
}

/// Looks closely at a position that was marked.
fn is_suspicious(text: &[u8], at: usize) -> bool {
    if text[at] == b';' {
        return may_start_command(&text[at + 1..]);
    }
    let word = around(text, at, starts_word, continues_word);
    starts_with(&text[at..], b"u&\"")
        || word.eq_ignore_ascii_case(b"temp")
        || word.eq_ignore_ascii_case(b"temporary")
        || word.eq_ignore_ascii_case(settings::VIEW.as_bytes())
        || is_temporary_schema(word)
        || functions::pin_of_word(word).is_some()
        || functions::is_end(word)
}

/// Whether a command, or a comment before one, follows a semicolon. Comments
/// are not skipped: in a string full of semicolons that would cost the square
/// of its length.
fn may_start_command(rest: &[u8]) -> bool {
    let start = rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
    let rest = &rest[start..];
    rest.starts_with(b"--") || rest.starts_with(b"/*") || {
        let word = rest.iter().take(LONGEST_NAME).take_while(|byte| continues_word(**byte)).count();
        Command::of(&rest[..word]).is_some()
    }
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// The word that the byte at `at` belongs to, given which bytes may stand
/// before and behind it; too long a word is cut to something still too long.
fn around(text: &[u8], at: usize, before: fn(u8) -> bool, behind: fn(u8) -> bool) -> &[u8] {
    let back = text[..at].iter().rev().take(LONGEST_NAME).take_while(|b| before(**b)).count();
    let on = text[at..].iter().take(LONGEST_NAME).take_while(|b| behind(**b)).count();
    &text[at - back..at + on]
}

/// What to look for: one byte, and triples of bytes.
struct Marks<const N: usize> {
    single: u8,
    triples: [[u8; 3]; N],
}

impl<const N: usize> Marks<N> {
    const fn new(single: u8, mut triples: [[u8; 3]; N]) -> Self {
        let mut at = 0;
        while at < N {
            let [a, b, c] = triples[at];
            triples[at] = [a | LOWER, b | LOWER, c | LOWER];
            at += 1;
        }
        Self { single: single | LOWER, triples }
    }

    /// Whether `confirm` says yes to one of the positions that are marked.
    #[inline]
    fn any(&self, text: &[u8], confirm: impl Fn(usize) -> bool) -> bool {
        let mut start = 0;
        while let Some(window) = text[start..].first_chunk() {
            if self.any_in(window, start, &confirm) {
                return true;
            }
            start += BLOCK;
        }
        // What is left is shorter than a window, and may be longer than a block.
        (start..text.len()).step_by(BLOCK).any(|start| {
            let rest = &text[start..text.len().min(start + WINDOW)];
            let mut window = [0; WINDOW];
            window[..rest.len()].copy_from_slice(rest);
            self.any_in(&window, start, &confirm)
        })
    }

    #[inline]
    fn any_in(
        &self,
        window: &[u8; WINDOW],
        start: usize,
        confirm: &impl Fn(usize) -> bool,
    ) -> bool {
        let marked = self.marked(window);
        marked != [0; BLOCK] && confirm_any(&marked, start, confirm)
    }

    #[inline]
    fn marked(&self, window: &[u8; WINDOW]) -> [u8; BLOCK] {
        let mut marked = [0; BLOCK];
        for (at, mark) in marked.iter_mut().enumerate() {
            let (a, b, c) = (window[at] | LOWER, window[at + 1] | LOWER, window[at + 2] | LOWER);
            *mark = u8::from(a == self.single);
            for triple in &self.triples {
                *mark |=
                    u8::from(a == triple[0]) & u8::from(b == triple[1]) & u8::from(c == triple[2]);
            }
        }
        marked
    }
}

/// Whether `confirm` says yes to a marked position of the block at `start`.
fn confirm_any(marked: &[u8; BLOCK], start: usize, confirm: &impl Fn(usize) -> bool) -> bool {
    let (eights, _) = marked.as_chunks::<8>();
    (start..).step_by(8).zip(eights).any(|(start, eight)| {
        *eight != [0; 8] && (0..8).any(|at| eight[at] != 0 && confirm(start + at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_marked_and_confirmed_wherever_it_stands() {
        let words = ["temp", "temporary", "pg_temp", "pg_temp_12", "pg_settings", "u&\"x"];
        for name in functions::names().chain(words) {
            assert!(name.len() < LONGEST_NAME);
            for before in 0..80 {
                for behind in [0, 1, 2, 40] {
                    let text = format!("{}{}{}", "-".repeat(before), name, " ".repeat(behind));
                    assert!(may_leave_state(text.as_bytes()), "{text}");
                    assert!(may_leave_state(text.to_uppercase().as_bytes()), "{text}");
                }
            }
        }
    }

    #[test]
    fn every_date_is_marked_and_confirmed_wherever_it_stands() {
        for name in ["now", "today", "tomorrow", "yesterday", "allballs"] {
            for before in 0..80 {
                let text = format!("{}{name}", "'".repeat(before));
                assert!(may_hold_date(text.as_bytes(), |word| word == name.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn parts_of_other_words_are_not_confirmed() {
        for text in [
            "SELECT template, temperature, attempt, configuration FROM employees",
            "SELECT current_value, lastvalue, xcurrval, lastval_ FROM t; SELECT 2;",
            "UPDATE t SET a = 1; UPDATE t SET b = 2; ; ;",
        ] {
            assert!(!may_leave_state(text.as_bytes()), "{text}");
        }
    }
}

//! The routines of a database that leave something on the connection.
//!
//! A call names a function or procedure of the user's, and what that does is in
//! its source: PostgreSQL is asked for the sources now and then ([`catalog`]),
//! each is looked at (`source.rs`), and what a call of it may do is kept by its
//! name. Most databases have no such routine; then a text is not looked at for
//! their names at all.
//!
//! A name counts whatever schema, arguments and kind of routine it stands for.
//! Deliberately absent, and the documented gap of decision 22: what is called
//! without its name in the text. Triggers, rules, views, operators, casts,
//! defaults and aggregates call functions, and so does SQL that a routine puts
//! together out of pieces; functions in C have no source to look at.

pub mod catalog;
pub mod known;
mod source;

use std::collections::BTreeMap;

use super::body::words;
use super::lexer::{Tokens, is_space};
use super::look::Look;
use super::statements::hash;

/// How many bytes of an identifier count (`NAMEDATALEN` without the final zero
/// byte).
const LONGEST_NAME: usize = 63;

/// How much of a text is looked at for what it begins with, in bytes.
const LONGEST_BEGINNING: usize = 1024;

/// What calls of routines may do to their session, by the routines' names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Routines {
    /// In lower case: who quotes a name to keep its case is looked at in vain.
    by_name: BTreeMap<Box<[u8]>, Look>,
    /// Names that are no single word, as they are between quotes.
    odd: BTreeMap<Box<[u8]>, Look>,
    version: u128,
}

impl Routines {
    /// No routine.
    pub const NONE: Self = Self { by_name: BTreeMap::new(), odd: BTreeMap::new(), version: 0 };

    /// Tells these from others, on any node; 0 if there are none.
    #[must_use]
    pub fn version(&self) -> u128 {
        self.version
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.odd.is_empty()
    }

    /// Adds what the routines may do that this text may call.
    pub fn look(&self, text: &[u8], found: &mut Look) {
        for word in words(text) {
            let behind = word.as_ptr() as usize - text.as_ptr() as usize + word.len();
            if may_be_called(&text[behind..])
                && let Some(look) = self.by_name.get(&*lower(word))
            {
                found.join(look);
            }
        }
        for (name, look) in &self.odd {
            if text.windows(name.len()).any(|part| part == &**name) {
                found.join(look);
            }
        }
    }

    /// One more routine has this name. Returns whether more is known of the
    /// name now.
    fn insert(&mut self, name: &[u8], look: &Look) -> bool {
        let is_odd = !is_one_word(name);
        let (names, name) =
            if is_odd { (&mut self.odd, name.into()) } else { (&mut self.by_name, lower(name)) };
        let known = names.entry(name).or_insert(Look::NOTHING);
        let before = known.clone();
        known.join(look);
        *known != before
    }

    /// There will be no more.
    fn complete(mut self) -> Self {
        let mut names = self.by_name.iter().chain(&self.odd).peekable();
        if names.peek().is_some() {
            let printed = format!("{:?}", names.collect::<Vec<_>>());
            self.version = u128::from_be_bytes(hash(&[printed.as_bytes()])).max(1);
        }
        self
    }
}

/// Whether a text begins with the definition of a routine.
#[must_use]
pub fn defines_one(text: &[u8]) -> bool {
    let mut tokens = Tokens::new(text, true).within(LONGEST_BEGINNING);
    tokens.skip_word(&["create"])
        && (!tokens.skip_word(&["or"]) || tokens.skip_word(&["replace"]))
        && tokens.skip_word(&["function", "procedure"])
}

/// What counts of a name, in lower case.
fn lower(word: &[u8]) -> Box<[u8]> {
    word[..word.len().min(LONGEST_NAME)].to_ascii_lowercase().into()
}

/// Whether a text names it by this one word, and it can be searched for as it
/// is.
fn is_one_word(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.iter().all(is_plain) && name.first().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether the name that stands before `rest` may be called: its arguments
/// follow, or a comment.
fn may_be_called(rest: &[u8]) -> bool {
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let start = rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
    let rest = &rest[start..];
    rest.starts_with(b"(") || rest.starts_with(b"--") || rest.starts_with(b"/*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PinReason, Pins};

    fn pinning(names: &[&str]) -> Routines {
        let mut routines = Routines::NONE;
        let look = Look { pins: PinReason::AdvisoryLock.into(), ..Look::NOTHING };
        for name in names {
            assert!(routines.insert(name.as_bytes(), &look));
            assert!(!routines.insert(name.as_bytes(), &look));
        }
        routines.complete()
    }

    fn pins(routines: &Routines, text: &str) -> Pins {
        let mut found = Look::NOTHING;
        routines.look(text.as_bytes(), &mut found);
        found.pins
    }

    #[test]
    fn a_call_is_found_however_it_is_written() {
        let routines = pinning(&["take", "Take_Two", &"l".repeat(63), "two words"]);
        for text in [
            "SELECT take()",
            "select s . TAKE (1)",
            "CALL\ttake\n\t(1)",
            "SELECT \"take\"()",
            "SELECT take/* it */()",
            "SELECT take -- it\n()",
            "SELECT \"Take_Two\" (1)",
            "SELECT 1,take(",
            "SELECT \"two words\"()",
            &format!("SELECT {}()", "l".repeat(70)),
        ] {
            assert_eq!(pins(&routines, text), PinReason::AdvisoryLock.into(), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_not_taken_for_one() {
        let routines = pinning(&["take"]);
        for text in ["", "SELECT take", "SELECT take, (1)", "SELECT mistake(1)", "take_(1)", "take"]
        {
            assert_eq!(pins(&routines, text), Pins::NONE, "{text}");
        }
    }

    #[test]
    fn definitions_are_told_from_other_texts() {
        for text in ["CREATE FUNCTION f()", "/* a */ create\nor replace procedure p()"] {
            assert!(defines_one(text.as_bytes()), "{text}");
        }
        for text in ["", "CREATE TABLE t AS SELECT f()", "SELECT f()", "CREATE OR FUNCTION"] {
            assert!(!defines_one(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn versions_tell_routines_apart() {
        assert_eq!(Routines::NONE.complete().version(), 0);
        assert_eq!(pinning(&["a", "b"]).version(), pinning(&["b", "a"]).version());
        assert_ne!(pinning(&["a"]).version(), pinning(&["b"]).version());
        assert_ne!(pinning(&["a"]).version(), 0);
    }
}

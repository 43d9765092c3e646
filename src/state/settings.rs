//! Which settings outlive their transaction, and how each is known again.
//!
//! PostgreSQL tells the client about the settings in [`REPLAYED`] with a
//! `ParameterStatus` whenever they change, so their values are known without
//! reading any SQL. Every other setting that has a name in the text is
//! touched: the server is asked for its value when the transaction is over.
//! What has no name there, or no value that could be asked for, pins.

use super::body::SCHEMA;
use super::functions::SET_CONFIG;
use super::lexer::{Kind, Token, Tokens};
use super::look::Look;
use super::reports::{REPLAYED, is_reading};
use crate::domain::PinReason;

/// How many tokens of the arguments of `set_config` are read; whoever writes
/// more of them is pinned. It keeps nested calls from costing their square.
const MOST_ARGUMENT_TOKENS: usize = 24;

/// What `SET TRANSACTION` sets: it ends with the transaction, however it is
/// written.
pub(super) const OF_TRANSACTION: [&str; 3] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
/// What `SET SESSION CHARACTERISTICS AS TRANSACTION` sets.
const CHARACTERISTICS: [&str; 3] = [
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
];

/// What `SET …` changes; `tokens` stand behind `SET`.
pub(super) fn set(mut tokens: Tokens, found: &mut Look) {
    let Some(first) = tokens.next().filter(Token::is_identifier) else { return };
    if is_variable(&tokens) {
        return variable(&first, tokens, false, found);
    }
    if first.is_word("local") {
        return local(tokens, found);
    }
    if first.is_word("constraints") {
        return;
    }
    if first.is_word("session") {
        return session(tokens, found);
    }
    special(&first, &tokens, found);
}

/// What is over with the transaction; but for tables that are temporary
/// because of it.
fn local(tokens: Tokens, found: &mut Look) {
    let mut name = tokens.clone();
    if let Some(first) = name.next() {
        found.makes_custom |= name.next_is_symbol(b'.');
        found.changes_reading |= first.is_word("time") || is_reading(first.content());
    }
    let mut values = tokens.take_while(|token| !token.is_symbol(b';'));
    if values.any(|value| names_temporary_schema(&value)) {
        found.pins.insert(PinReason::TemporaryObject);
    }
}

/// Whether this is a `search_path`, or a part of it, by which objects without
/// a schema are temporary ones.
fn names_temporary_schema(value: &Token) -> bool {
    value.content().windows(SCHEMA.len()).any(|part| part.eq_ignore_ascii_case(SCHEMA))
}

/// What `SET SESSION …` changes: a scope, or the first word of two forms.
fn session(mut tokens: Tokens, found: &mut Look) {
    let Some(second) = tokens.next().filter(Token::is_identifier) else { return };
    if second.is_word("authorization") {
        authorization(found);
    } else if second.is_word("characteristics") {
        // Those that it does not name stay as they are.
        found.touched.maybe_unset = true;
        for name in CHARACTERISTICS {
            found.touch(name.as_bytes());
        }
    } else if is_variable(&tokens) {
        variable(&second, tokens, false, found);
    } else {
        special(&second, &tokens, found);
    }
}

/// The forms of `SET` that have a syntax of their own.
fn special(word: &Token, tokens: &Tokens, found: &mut Look) {
    if word.is_word("time") {
        found.changes_reading = true;
    } else if word.is_word("transaction") || word.is_word("names") {
        // Over with the transaction, or reported.
    } else if word.is_word("role") {
        found.touch(b"role");
    } else if is_authorization(word, tokens) {
        authorization(found);
    } else if word.is_word("schema") {
        found.touch(b"search_path");
    } else if word.is_word("xml") {
        found.touch(b"xmloption");
    } else {
        found.pins.insert(PinReason::Setting);
    }
}

/// It puts an end to the role too.
fn authorization(found: &mut Look) {
    found.touch(b"session_authorization");
    found.touch(b"role");
}

fn is_authorization(word: &Token, tokens: &Tokens) -> bool {
    word.is_word("session") && tokens.next_is_word("authorization")
}

/// What `RESET …` changes; `tokens` stand behind `RESET`. It takes a setting
/// back to what it was when the connection began, which is the same for every
/// client of its pool, but for `application_name`.
pub(super) fn reset(mut tokens: Tokens, found: &mut Look) {
    let Some(name) = tokens.next().filter(Token::is_identifier) else { return };
    if name.is_word("all") && !tokens.next_is_symbol(b'.') {
        return reset_all(found);
    }
    found.touched.maybe_unset = true;
    if is_authorization(&name, &tokens) {
        return authorization(found);
    }
    let is_special = |word, next| name.is_word(word) && tokens.next_is_word(next);
    if is_special("time", "zone") {
        found.changes_reading = true;
        return;
    }
    if is_special("transaction", "isolation") {
        return;
    }
    variable(&name, tokens, true, found);
}

/// What `DISCARD ALL` changes among settings: all of them.
pub(super) fn discard_all(found: &mut Look) {
    reset_all(found);
    authorization(found);
}

/// Everything but role and session authorization.
fn reset_all(found: &mut Look) {
    found.changes_reading = true;
    found.touched.all_reset = true;
    found.touched.name_reset = true;
    found.ends.insert(PinReason::Setting);
}

/// Whether the token before `rest` is the name of a setting, or its first part.
fn is_variable(rest: &Tokens) -> bool {
    let is_operator = |token: &Token| token.is_symbol(b'=') || token.is_symbol(b'.');
    let is_preposition = |token: &Token| token.is_word("to") || token.is_word("from");
    rest.peek().is_some_and(|next| is_operator(&next) || is_preposition(&next))
}

/// A setting whose name begins with `first`; `rest` goes on behind it.
fn variable(first: &Token, mut rest: Tokens, is_reset: bool, found: &mut Look) {
    if !rest.next_is_symbol(b'.') {
        let name = first.content();
        let is_default = rest.nth(1).is_some_and(|value| value.is_word("default"));
        return named(name, is_reset || is_default, found);
    }
    let mut name = first.content().to_vec();
    while rest.next_is_symbol(b'.') {
        let part = rest.nth(1).filter(|part| part.is_identifier() && name.len() < 256);
        let Some(part) = part else { return found.pins.insert(PinReason::Setting) };
        name.push(b'.');
        name.extend_from_slice(part.content());
    }
    found.touched.maybe_unset |= rest.nth(1).is_some_and(|value| value.is_word("default"));
    found.touch(&name);
}

/// Names of settings ignore case, even when they are quoted.
pub(super) fn named(name: &[u8], is_reset: bool, found: &mut Look) {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    found.touched.maybe_unset |= is_reset;
    found.changes_reading |= is_reading(name);
    if is("application_name") {
        found.touched.name_reset = is_reset;
    } else if is("seed") || name.contains(&b'"') {
        found.pins.insert(PinReason::Setting);
    } else if is("session_authorization") {
        authorization(found);
    } else if !REPLAYED.into_iter().chain(OF_TRANSACTION).any(is) {
        found.touch(name);
    }
}

/// The view that can be updated to set what its rows name.
pub(super) const VIEW: &str = "pg_settings";

/// Whether the tokens behind `UPDATE` name that view.
pub(super) fn is_their_view(mut tokens: Tokens) -> bool {
    tokens.skip_word(&["only"]);
    let mut name = tokens.find(|token| !token.is_symbol(b'('));
    if tokens.next_is_symbol(b'.') {
        name = tokens.nth(1);
    }
    name.is_some_and(|name| name.names(VIEW))
}

/// What a call changes whose name is `function` and whose arguments follow.
/// Says whether it is one that changes settings.
pub(super) fn call(function: &Token, arguments: Tokens, found: &mut Look) -> bool {
    let is_set_config = function.names(SET_CONFIG);
    if is_set_config {
        set_config(arguments, found);
    }
    is_set_config
}

/// What `set_config(name, value, is_local)` changes; `tokens` stand behind the
/// opening parenthesis.
fn set_config(tokens: Tokens, found: &mut Look) {
    let mut arguments = Arguments { tokens, left: MOST_ARGUMENT_TOKENS, ended: false };
    let name = arguments.next().flatten();
    let value = arguments.next().flatten();
    let is_local = arguments.next().flatten();
    if is_local.is_some_and(|token| token.is_word("true")) {
        let is_odd = |byte: &u8| matches!(byte, b'.' | b'\\');
        let is_plain = |name: &Token| name.is_string() && !name.content().iter().any(is_odd);
        let plain = name.filter(is_plain);
        found.makes_custom |= plain.is_none();
        found.changes_reading |= plain.is_none_or(|name| is_reading(name.content()));
        if value.is_some_and(|value| names_temporary_schema(&value)) {
            found.pins.insert(PinReason::TemporaryObject);
        }
        return;
    }
    // A call may not be run, and a value that is NULL resets.
    found.touched.maybe_unset = true;
    match name {
        Some(name) if name.kind == Kind::String && !name.content().contains(&b'\'') => {
            named(name.content(), value.is_some_and(|value| value.is_word("null")), found);
        }
        Some(name) if name.kind == Kind::Parameter => {
            found.changes_reading = true;
            found.touch_parameter(name.text);
        }
        _ => found.pins.insert(PinReason::Setting),
    }
}

/// The arguments of a call: each is the one token that it consists of, perhaps
/// with a cast to `text` behind it, or `None` where it is more than that.
struct Arguments<'t> {
    tokens: Tokens<'t>,
    left: usize,
    ended: bool,
}

impl<'t> Arguments<'t> {
    fn token(&mut self) -> Option<Token<'t>> {
        self.left = self.left.checked_sub(1)?;
        self.tokens.next().filter(|token| !self.ended && !token.is_symbol(b';'))
    }
}

impl<'t> Iterator for Arguments<'t> {
    type Item = Option<Token<'t>>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.token()?;
        let mut token = first;
        let mut length = 0;
        let mut is_cast = true;
        let mut depth = 0_usize;
        loop {
            match token.text {
                b")" | b"," if depth == 0 => {
                    self.ended = token.is_symbol(b')');
                    let is_one = length == 1 || length == 4 && is_cast;
                    return Some(is_one.then_some(first));
                }
                b"(" | b"[" => depth += 1,
                b")" | b"]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            is_cast &= match length {
                0 => true,
                1 | 2 => token.is_symbol(b':'),
                _ => token.is_word("text"),
            };
            length += 1;
            token = self.token()?;
        }
    }
}

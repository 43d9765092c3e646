//! Which settings outlive their transaction, and which of those the server
//! reports.
//!
//! PostgreSQL tells the client about the settings in [`REPLAYED`] with a
//! `ParameterStatus` whenever they change, so their values are known without
//! reading any SQL and can be set again on another connection: they pin
//! nothing. Every other setting does, unless it ends with the transaction.

use super::functions::SET_CONFIG;
use super::lexer::{Kind, Token, Tokens};
use super::pin::PinReason;
use super::reports::REPLAYED;

/// How many tokens of the arguments of `set_config` are read; whoever writes
/// more of them is pinned. It keeps nested calls from costing their square.
const MOST_ARGUMENT_TOKENS: usize = 24;

/// What a command or call does to settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that outlives the transaction.
    Passing,
    /// A setting whose value the server reports.
    Reported,
    /// Something that only this connection knows.
    Pinning(PinReason),
}

const SETTING: Change = Change::Pinning(PinReason::Setting);
const ROLE: Change = Change::Pinning(PinReason::Role);

/// What `SET …` changes; `tokens` stand behind `SET`.
pub(super) fn set(mut tokens: Tokens) -> Change {
    let Some(first) = tokens.next().filter(Token::is_identifier) else {
        return Change::Passing;
    };
    if is_variable(&tokens) {
        return variable(&first, &tokens);
    }
    if first.is_word("local") || first.is_word("constraints") {
        return Change::Passing;
    }
    if first.is_word("session") {
        return session(tokens);
    }
    special(&first, &tokens)
}

/// What `SET SESSION …` changes: a scope, or the first word of two forms.
fn session(mut tokens: Tokens) -> Change {
    let Some(second) = tokens.next().filter(Token::is_identifier) else {
        return Change::Passing;
    };
    if second.is_word("authorization") {
        ROLE
    } else if second.is_word("characteristics") {
        SETTING
    } else if is_variable(&tokens) {
        variable(&second, &tokens)
    } else {
        special(&second, &tokens)
    }
}

/// The forms of `SET` that have a syntax of their own.
fn special(word: &Token, tokens: &Tokens) -> Change {
    if word.is_word("transaction") {
        Change::Passing
    } else if word.is_word("time") || word.is_word("names") {
        Change::Reported
    } else if word.is_word("role") || is_authorization(word, tokens) {
        ROLE
    } else {
        SETTING
    }
}

fn is_authorization(word: &Token, tokens: &Tokens) -> bool {
    word.is_word("session") && tokens.next_is_word("authorization")
}

/// What `RESET …` changes; `tokens` stand behind `RESET`. It takes a setting
/// back to what it was when the connection began, which is the same for every
/// client of its pool: nothing is left behind.
pub(super) fn reset(mut tokens: Tokens) -> Change {
    match tokens.next().filter(Token::is_identifier) {
        None => Change::Passing,
        Some(time) if time.is_word("time") && tokens.next_is_word("zone") => Change::Reported,
        Some(session) if is_authorization(&session, &tokens) => Change::Passing,
        Some(name) => match variable(&name, &tokens) {
            Change::Reported => Change::Reported,
            Change::Passing | Change::Pinning(_) => Change::Passing,
        },
    }
}

/// Whether the token before `rest` is the name of a setting, or its first part.
fn is_variable(rest: &Tokens) -> bool {
    let is_operator = |token: &Token| token.is_symbol(b'=') || token.is_symbol(b'.');
    let is_preposition = |token: &Token| token.is_word("to") || token.is_word("from");
    rest.peek().is_some_and(|next| is_operator(&next) || is_preposition(&next))
}

fn variable(name: &Token, rest: &Tokens) -> Change {
    if rest.next_is_symbol(b'.') {
        return SETTING;
    }
    named(name.content())
}

/// Names of settings ignore case, even when they are quoted.
fn named(name: &[u8]) -> Change {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    if REPLAYED.into_iter().any(is) {
        Change::Reported
    } else if is("role") || is("session_authorization") {
        ROLE
    } else {
        SETTING
    }
}

/// What a call changes whose name is `function` and whose arguments follow.
pub(super) fn call(function: &Token, arguments: Tokens) -> Option<Change> {
    function.names(SET_CONFIG).then(|| set_config(arguments))
}

/// What `set_config(name, value, is_local)` changes; `tokens` stand behind the
/// opening parenthesis.
fn set_config(tokens: Tokens) -> Change {
    let mut arguments = Arguments { tokens, left: MOST_ARGUMENT_TOKENS, ended: false };
    let name = arguments.next().flatten();
    let is_local = arguments.nth(1).flatten();
    match name {
        _ if is_local.is_some_and(|token| token.is_word("true")) => Change::Passing,
        Some(name) if name.kind == Kind::String => named(name.content()),
        _ => SETTING,
    }
}

/// The arguments of a call: each is the one token that it consists of, or
/// `None` where it is more than that.
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
        let mut depth = 0_usize;
        loop {
            match token.text {
                b")" | b"," if depth == 0 => {
                    self.ended = token.is_symbol(b')');
                    return Some((length == 1).then_some(first));
                }
                b"(" | b"[" => depth += 1,
                b")" | b"]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            length += 1;
            token = self.token()?;
        }
    }
}

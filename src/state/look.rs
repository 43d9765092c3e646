//! The look at a text: what it may leave behind on its server connection.
//!
//! Every simple query and every text to be prepared passes here, so nearly all
//! of them must pay nearly nothing. First the filter of `prefilter.rs` searches
//! the bytes for words that could matter; only where it finds one, the text is
//! read token by token and the verdict is exact about strings, comments and
//! where a statement starts.
//!
//! Cost, measured in release mode on one core of an EPYC server: 40 ns for a
//! pgbench statement, 20 µs for an INSERT of 64 KiB, 0.2 µs for a `SET`.
//! Reading is linear in the text: 0.3 ns for a byte of a long string, 12 ns for
//! a token, 20 ns for a byte of the worst text that could be made up. Memory is
//! allocated for the names of settings and for the commands about prepared
//! statements, and for nothing else.

use super::body::is_temporary_schema;
use super::commands;
use super::functions;
use super::lexer::{Kind, Token, Tokens};
use super::prefilter;
use super::settings;
use super::statement_commands::StatementCommand;
use super::touched::{SettingName, Touched};
use crate::domain::{PinReason, Pins};

/// The longest suspicious text that is read, in bytes (decision 25); longer
/// ones pin as [`PinReason::Unparsed`].
pub const LONGEST_READ: usize = 256 * 1024;

/// The kinds of state that `DISCARD ALL` ends, nothing of which can be seen
/// behind it.
const ENDED_BY_DISCARD: Pins = {
    let mut pins = Pins::NONE;
    pins.insert(PinReason::Listen);
    pins.insert(PinReason::SqlPrepare);
    pins.insert(PinReason::AdvisoryLock);
    pins.insert(PinReason::HeldCursor);
    pins.insert(PinReason::Sequence);
    pins
};

/// What a text may do to the state of its session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// State that holds the client to this connection.
    pub pins: Pins,
    /// State that may be gone behind the text.
    pub ends: Pins,
    /// Settings that may change.
    pub touched: Touched,
    /// Parameters of the statement that are names of settings which change,
    /// counted from one.
    pub name_parameters: Vec<u16>,
    /// How literals are read may change, for the transaction or longer.
    pub changes_reading: bool,
    /// A custom setting may be set that is over with the transaction: then it
    /// is empty, where it was unknown before.
    pub makes_custom: bool,
    /// What happens to prepared statements, in the order of the text; at most
    /// one for ten bytes of [`LONGEST_READ`].
    pub statements: Vec<StatementCommand>,
}

impl Look {
    /// The verdict on nearly every text.
    pub const NOTHING: Self = Self {
        pins: Pins::NONE,
        ends: Pins::NONE,
        touched: Touched::NOTHING,
        name_parameters: Vec::new(),
        changes_reading: false,
        makes_custom: false,
        statements: Vec::new(),
    };

    /// Whether the text leaves nothing behind that this module knows of.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.pins.is_empty()
            && self.ends.is_empty()
            && self.touched.is_nothing()
            && self.name_parameters.is_empty()
            && self.statements.is_empty()
    }

    /// Whether there is nothing to be done when it is run, and nothing behind it.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        self.is_nothing() && !self.changes_reading
    }

    /// Whether something may be left of it behind `DISCARD ALL`. A custom
    /// setting is then an empty string instead of nothing, and a schema of
    /// temporary objects remains.
    #[must_use]
    pub fn outlasts_discard(&self) -> bool {
        !self.pins.except(ENDED_BY_DISCARD).is_empty()
            || self.touched.names().iter().any(SettingName::is_custom)
            || !self.name_parameters.is_empty()
            || self.makes_custom
    }

    /// What another text may do, too; what it says of statements is left out.
    pub fn join(&mut self, other: &Self) {
        self.pins |= other.pins;
        self.ends |= other.ends;
        self.changes_reading |= other.changes_reading;
        if !self.touched.extend(&other.touched) || !other.name_parameters.is_empty() {
            self.pins.insert(PinReason::Setting);
        }
    }

    /// A setting of this name may be set, as by `set_config`.
    pub fn sets(&mut self, name: &[u8]) {
        settings::named(name, false, self);
    }

    /// A setting of this name, which nobody reports, may change.
    pub(super) fn touch(&mut self, name: &[u8]) {
        match SettingName::new(name) {
            Some(name) if self.touched.insert(name.clone()) => {}
            _ => self.pins.insert(PinReason::Setting),
        }
    }

    /// A setting may change whose name is this parameter: `$1`.
    pub(super) fn touch_parameter(&mut self, parameter: &[u8]) {
        let number = parameter.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| digits.parse().ok()) {
            Some(number) => self.name_parameters.push(number),
            None => self.pins.insert(PinReason::Setting),
        }
    }
}

/// Looks at `text` as a server whose `standard_conforming_strings` has this
/// value understands it: one statement or several, without the final zero
/// byte of the message.
#[must_use]
pub fn look(text: &[u8], standard_conforming_strings: bool) -> Look {
    if !prefilter::may_leave_state(text) {
        return Look::NOTHING;
    }
    if text.len() > LONGEST_READ {
        return Look { pins: PinReason::Unparsed.into(), ..Look::NOTHING };
    }
    read(text, standard_conforming_strings)
}

/// The exact look, statement by statement.
fn read(text: &[u8], standard_conforming_strings: bool) -> Look {
    let mut found = Look::NOTHING;
    let mut tokens = Tokens::new(text, standard_conforming_strings);
    while tokens.peek().is_some() {
        commands::start(tokens.clone(), &mut found);
        statement(&mut tokens, standard_conforming_strings, &mut found);
    }
    found
}

/// What may stand anywhere in a statement; takes its tokens, and the semicolon
/// behind them.
fn statement(tokens: &mut Tokens, standard_conforming_strings: bool, found: &mut Look) {
    let mut before = None;
    while let Some(token) = tokens.next().filter(|token| !token.is_symbol(b';')) {
        anywhere(before, &token, tokens, standard_conforming_strings, found);
        before = Some(token);
    }
}

/// What a token says wherever it stands, given the one before it and the rest.
pub(super) fn anywhere(
    before: Option<Token>,
    token: &Token,
    rest: &Tokens,
    standard_conforming_strings: bool,
    found: &mut Look,
) {
    match token.kind {
        Kind::Symbol => symbol(before, token, rest, found),
        Kind::Word => word(before, token, rest, found),
        Kind::UnicodeIdentifier => found.pins.insert(PinReason::Unparsed),
        Kind::String if !standard_conforming_strings && token.text.contains(&b'\\') => {
            found.pins.insert(PinReason::Unparsed);
        }
        _ => {}
    }
}

/// A call of a function, or an object in the schema of temporary ones.
fn symbol(before: Option<Token>, symbol: &Token, rest: &Tokens, found: &mut Look) {
    let Some(name) = before.filter(Token::is_identifier) else {
        return;
    };
    match symbol.text {
        b"(" => call(&name, rest.clone(), found),
        b"." if is_temporary_schema(name.content()) => {
            found.pins.insert(PinReason::TemporaryObject);
        }
        _ => {}
    }
}

fn call(function: &Token, arguments: Tokens, found: &mut Look) {
    if settings::call(function, arguments, found) {
        return;
    }
    if let Some(reason) = functions::pin_of_call(function) {
        found.pins.insert(reason);
    }
    if let Some(reason) = functions::end_of_call(function) {
        found.ends.insert(reason);
    }
}

/// `SELECT … INTO TEMPORARY …`, and `UPDATE pg_settings …`.
fn word(before: Option<Token>, word: &Token, rest: &Tokens, found: &mut Look) {
    let is_target = |token: Token| token.is_word("insert") || token.is_word("merge");
    if word.is_word("into")
        && !before.is_some_and(is_target)
        && commands::is_into_temporary(rest.clone())
    {
        found.pins.insert(PinReason::TemporaryObject);
    }
    if word.is_word("update") && settings::is_their_view(rest.clone()) {
        found.pins.insert(PinReason::Setting);
    }
}

#[cfg(test)]
mod tests;

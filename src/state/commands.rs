//! The commands that a statement may start with and that this module knows.
//!
//! A word is a command only where a statement starts: at the start of the
//! text, behind a semicolon, or behind `EXPLAIN` and its options. Everything
//! here reads what follows the word and writes the verdict down; it reads on
//! clones of the tokens, so that the walk sees every token itself.

use super::body;
use super::lexer::{Token, Tokens};
use super::look::Look;
use super::settings;
use super::statement_commands::{Discard, StatementCommand, StatementName};
use crate::domain::PinReason;

/// A first word after which there may be something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Close,
    Create,
    Deallocate,
    Declare,
    Discard,
    Do,
    Drop,
    Execute,
    Explain,
    Listen,
    Load,
    Prepare,
    Reset,
    Set,
    Unlisten,
}

impl Command {
    /// The command that a statement with this first word is.
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        let mut lower = [0; LONGEST_COMMAND];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"close" => Self::Close,
            b"create" => Self::Create,
            b"deallocate" => Self::Deallocate,
            b"declare" => Self::Declare,
            b"discard" => Self::Discard,
            b"do" => Self::Do,
            b"drop" => Self::Drop,
            b"execute" => Self::Execute,
            b"explain" => Self::Explain,
            b"listen" => Self::Listen,
            b"load" => Self::Load,
            b"prepare" => Self::Prepare,
            b"reset" => Self::Reset,
            b"set" => Self::Set,
            b"unlisten" => Self::Unlisten,
            _ => return None,
        })
    }
}

/// `deallocate`, in bytes.
const LONGEST_COMMAND: usize = 10;

/// Looks at the start of the statement that `tokens` stand before.
pub(super) fn start(mut tokens: Tokens, found: &mut Look) {
    let mut command = next_command(&mut tokens);
    while command == Some(Command::Explain) {
        skip_options(&mut tokens);
        command = next_command(&mut tokens);
    }
    if let Some(command) = command {
        after(command, tokens, found);
    }
}

fn next_command(tokens: &mut Tokens) -> Option<Command> {
    tokens.next().and_then(|first| Command::of(first.text))
}

/// The options of `EXPLAIN`, in either form.
fn skip_options(tokens: &mut Tokens) {
    if tokens.next_is_symbol(b'(') {
        tokens.find(|token| token.is_symbol(b')') || token.is_symbol(b';'));
    }
    while tokens.skip_word(&["analyze", "analyse", "verbose"]) {}
}

fn after(command: Command, mut tokens: Tokens, found: &mut Look) {
    match command {
        Command::Close => found.ends.insert(PinReason::HeldCursor),
        Command::Create => create(tokens, found),
        Command::Deallocate => deallocate(tokens, found),
        Command::Declare => declare(tokens, found),
        Command::Discard => discard(tokens, found),
        Command::Do => body::look(tokens, found),
        Command::Drop => found.ends.insert(PinReason::TemporaryObject),
        Command::Execute => execute(&mut tokens, found),
        // `start` takes every `EXPLAIN`.
        Command::Explain => {}
        Command::Listen => found.pins.insert(PinReason::Listen),
        Command::Load => found.pins.insert(PinReason::Load),
        Command::Prepare => prepare(tokens, found),
        Command::Reset => settings::reset(tokens, found),
        Command::Set => settings::set(tokens, found),
        Command::Unlisten => found.ends.insert(PinReason::Listen),
    }
}

/// `CREATE … TEMPORARY …`, and `CREATE TABLE … AS EXECUTE name`.
fn create(mut tokens: Tokens, found: &mut Look) {
    if tokens.skip_word(&["or"]) {
        tokens.skip_word(&["replace"]);
    }
    if skip_temporary(&mut tokens) {
        found.pins.insert(PinReason::TemporaryObject);
    }
    let is_as = |token: &Token| token.is_word("as");
    if tokens.find(|token| is_as(token) || token.is_symbol(b';')).is_some_and(|t| is_as(&t))
        && tokens.skip_word(&["execute"])
    {
        execute(&mut tokens, found);
    }
}

/// Takes `[LOCAL | GLOBAL] TEMPORARY` if it comes next.
fn skip_temporary(tokens: &mut Tokens) -> bool {
    tokens.skip_word(&["local", "global"]);
    tokens.skip_word(&["temporary", "temp"])
}

/// Whether the tokens behind `INTO` name a temporary table to be made, and not
/// a table or variable with the name `temp`.
pub(super) fn is_into_temporary(mut tokens: Tokens) -> bool {
    skip_temporary(&mut tokens)
        && !tokens.next_is_word("from")
        && tokens.peek().is_some_and(|token| token.is_identifier())
}

fn deallocate(mut tokens: Tokens, found: &mut Look) {
    let mut name = tokens.next();
    if name.is_some_and(|word| word.is_word("prepare"))
        && tokens.peek().is_some_and(|next| next.is_identifier())
    {
        name = tokens.next();
    }
    let Some(name) = name.filter(|name| !name.is_symbol(b';')) else { return };
    found.ends.insert(PinReason::SqlPrepare);
    found.statements.extend(if name.is_word("all") {
        Some(StatementCommand::DeallocateAll)
    } else {
        StatementName::of(&name).map(StatementCommand::Deallocate)
    });
}

/// `DECLARE … CURSOR WITH HOLD FOR …`.
fn declare(mut tokens: Tokens, found: &mut Look) {
    tokens.find(|token| token.is_word("cursor") || token.is_symbol(b';'));
    if tokens.skip_word(&["with"]) && tokens.skip_word(&["hold"]) {
        found.pins.insert(PinReason::HeldCursor);
    }
}

fn discard(mut tokens: Tokens, found: &mut Look) {
    const WHAT: [(&str, Discard); 5] = [
        ("all", Discard::All),
        ("plans", Discard::Plans),
        ("sequences", Discard::Sequences),
        ("temp", Discard::Temporary),
        ("temporary", Discard::Temporary),
    ];
    let Some(what) = tokens.next() else { return };
    let Some((_, what)) = WHAT.into_iter().find(|(name, _)| what.is_word(name)) else { return };
    match what {
        Discard::All => {
            settings::discard_all(found);
            found.ends = PinReason::ALL.into_iter().collect();
        }
        Discard::Plans => {}
        Discard::Sequences => found.ends.insert(PinReason::Sequence),
        Discard::Temporary => found.ends.insert(PinReason::TemporaryObject),
    }
    found.statements.push(StatementCommand::Discard(what));
}

fn execute(tokens: &mut Tokens, found: &mut Look) {
    let name = tokens.next().and_then(|name| StatementName::of(&name));
    found.statements.extend(name.map(StatementCommand::Execute));
}

/// `PREPARE name …`, and not `PREPARE TRANSACTION '…'`.
fn prepare(mut tokens: Tokens, found: &mut Look) {
    let Some(name) = tokens.next() else { return };
    if name.is_word("transaction") && tokens.peek().is_some_and(|next| next.is_string()) {
        return;
    }
    found.pins.insert(PinReason::SqlPrepare);
    found.statements.extend(StatementName::of(&name).map(StatementCommand::Prepare));
}

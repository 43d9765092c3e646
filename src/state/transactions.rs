//! What a text does to the transaction it runs in: whether its statements
//! begin one, end one, or merely take part (decision 33).
//!
//! Every query passes here, so nearly all of them pay for one look at their
//! first letter and one search for a semicolon. Where a text cannot be read
//! for certain, that is what is said of it: [`Step::Unread`] may do anything.

use super::lexer::{Token, Tokens};

/// The longest text of several statements that is read, in bytes.
const LONGEST_READ: usize = 64 * 1024;

/// One statement, as far as its transaction is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `COMMIT AND CHAIN`.
    CommitAndChain,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `ROLLBACK AND CHAIN`.
    RollbackAndChain,
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackToSavepoint,
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
    /// `CALL`, `DO`, `COMMIT PREPARED`, `ROLLBACK PREPARED`: outside a block,
    /// they commit by themselves.
    Autonomous,
    /// Anything else.
    Other,
    /// What could not be read.
    Unread,
}

/// Goes through the statements of a text, which is without the final zero byte
/// of its message.
pub fn each_step(text: &[u8], mut found: impl FnMut(Step)) {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let is_single = !text.contains(&b';');
    match text.first() {
        None => {}
        Some(_) if is_single && !may_control(text) => found(Step::Other),
        Some(_) if is_single => found(step(Tokens::new(text, true))),
        // What a backslash means depends on a setting that is not known here.
        Some(_) if text.len() > LONGEST_READ || text.contains(&b'\\') => found(Step::Unread),
        Some(_) => each_of_many(text, found),
    }
}

/// The one statement of a text that is one word, and perhaps a semicolon:
/// `ROLLBACK`, `ABORT`, `COMMIT` or `END` (decision 34).
#[must_use]
pub fn bare_end(text: &[u8]) -> Option<Step> {
    let text = text.trim_ascii();
    let word = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match () {
        () if is("rollback") || is("abort") => Some(Step::Rollback),
        () if is("commit") || is("end") => Some(Step::Commit),
        () => None,
    }
}

/// Whether a statement that begins like this may control a transaction; a
/// comment may stand before one.
fn may_control(text: &[u8]) -> bool {
    let letter = |at: usize| text.get(at).map_or(0, u8::to_ascii_lowercase);
    match letter(0) {
        // Nearly everything is a SELECT.
        b's' => letter(1) == b't',
        first => matches!(first, b'a'..=b'e' | b'p' | b'r' | b'/' | b'-'),
    }
}

fn each_of_many(text: &[u8], mut found: impl FnMut(Step)) {
    let mut tokens = Tokens::new(text, true);
    while let Some(first) = tokens.peek() {
        if !first.is_symbol(b';') {
            found(step(tokens.clone()));
        }
        tokens.find(|token| token.is_symbol(b';'));
    }
}

/// The statement that begins here.
fn step(mut tokens: Tokens) -> Step {
    let Some(first) = tokens.next() else { return Step::Other };
    let is = |words: &[&str]| words.iter().any(|word| first.is_word(word));
    match () {
        () if is(&["begin"]) => Step::Begin,
        () if is(&["start"]) && tokens.next_is_word("transaction") => Step::Begin,
        () if is(&["commit", "end"]) => end(tokens, Step::Commit, Step::CommitAndChain),
        () if is(&["rollback", "abort"]) => end(tokens, Step::Rollback, Step::RollbackAndChain),
        () if is(&["prepare"]) && tokens.next_is_word("transaction") => Step::PrepareTransaction,
        () if is(&["call", "do"]) => Step::Autonomous,
        () => Step::Other,
    }
}

/// What stands behind `COMMIT` or `ROLLBACK`.
fn end(mut tokens: Tokens, plain: Step, chained: Step) -> Step {
    if tokens.next_is_word("prepared") {
        return Step::Autonomous;
    }
    tokens.skip_word(&["work", "transaction"]);
    if tokens.next_is_word("to") {
        return Step::RollbackToSavepoint;
    }
    let chains = tokens.skip_word(&["and"]) && tokens.next().is_some_and(is_chain);
    if chains { chained } else { plain }
}

fn is_chain(token: Token) -> bool {
    token.is_word("chain")
}

#[cfg(test)]
mod tests {
    use super::Step::*;
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        each_step(text.as_bytes(), |step| steps.push(step));
        steps
    }

    #[test]
    fn statements_are_told_apart_by_what_they_do_to_a_transaction() {
        for (text, expected) in [
            ("", vec![]),
            (" ; ", vec![]),
            ("SELECT 1", vec![Other]),
            ("begin", vec![Begin]),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE;", vec![Begin]),
            ("/* app */ START /**/ TRANSACTION", vec![Begin]),
            ("-- now\nCommit", vec![Commit]),
            ("END TRANSACTION", vec![Commit]),
            ("COMMIT WORK AND CHAIN", vec![CommitAndChain]),
            ("COMMIT AND NO CHAIN", vec![Commit]),
            ("COMMIT PREPARED 'x'", vec![Autonomous]),
            ("ROLLBACK", vec![Rollback]),
            ("abort;", vec![Rollback]),
            ("ROLLBACK AND CHAIN", vec![RollbackAndChain]),
            ("ROLLBACK TO a", vec![RollbackToSavepoint]),
            ("ROLLBACK WORK TO SAVEPOINT a", vec![RollbackToSavepoint]),
            ("ROLLBACK PREPARED 'x'", vec![Autonomous]),
            ("PREPARE TRANSACTION 'x'", vec![PrepareTransaction]),
            ("PREPARE p AS SELECT 1", vec![Other]),
            ("CALL p()", vec![Autonomous]),
            ("DO 'begin end'", vec![Autonomous]),
            ("committed", vec![Other]),
            ("BEGIN; INSERT INTO t VALUES (';'); COMMIT", vec![Begin, Other, Commit]),
            ("SELECT 1;;SELECT $$;COMMIT;$$", vec![Other, Other]),
            ("SELECT '\\'; COMMIT", vec![Unread]),
        ] {
            assert_eq!(steps(text), expected, "{text}");
        }
        assert_eq!(steps(&format!("SELECT 1;{}", " ".repeat(LONGEST_READ) + "x")), [Unread]);
    }

    #[test]
    fn only_a_bare_word_is_answered_without_the_server() {
        for text in ["ROLLBACK", " rollback ; ", "ABORT;"] {
            assert_eq!(bare_end(text.as_bytes()), Some(Rollback), "{text}");
        }
        for text in ["COMMIT", "end\n"] {
            assert_eq!(bare_end(text.as_bytes()), Some(Commit), "{text}");
        }
        for text in ["ROLLBACK WORK", "ROLLBACK; SELECT 1", "ROLLBACK AND CHAIN", "", "SELECT 1"] {
            assert_eq!(bare_end(text.as_bytes()), None, "{text}");
        }
    }
}

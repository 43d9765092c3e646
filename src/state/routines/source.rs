//! What the source of a routine may leave on the connection.
//!
//! SQL and PL/pgSQL have the lexical rules of SQL, so their sources are read
//! like the texts of clients, with more places where a statement may start;
//! `UPDATE … SET` is none of them. Their strings may be run by `EXECUTE`, and
//! any other language runs nothing but strings: those are searched for words
//! that stand where a command could.
//!
//! What a routine does may depend on anything, so nothing of it is certain: a
//! setting that it names is asked for, and one that it does not name pins.

use super::super::body::{WORDS, is_temporary_schema};
use super::super::commands;
use super::super::functions;
use super::super::lexer::{Token, Tokens, continues_word, is_space, starts_word};
use super::super::look::{Look, anywhere};
use super::super::settings;
use crate::domain::{PinReason, Pins};

/// How much of a statement is looked at for what the command is about, in
/// bytes. It bounds the cost of the strangest source.
const LONGEST_COMMAND: usize = 512;

/// Behind these a statement may start.
const OPENING: [&str; 5] = ["begin", "then", "else", "loop", "atomic"];

/// Words of [`WORDS`] that count only where a command may start.
const COMMANDS: [&str; 6] = ["deallocate", "listen", "load", "prepare", "reset", "set"];

/// What `SET` is followed by where it is over with the transaction.
const PASSING: [&[u8]; 3] = [b"local", b"constraints", b"transaction"];

/// Looks at a source in SQL or PL/pgSQL, or in another language.
pub(super) fn look(source: &[u8], is_sql: bool) -> Look {
    let found =
        if is_sql { read(source) } else { Look { pins: search(source, true), ..Look::NOTHING } };
    uncertain(found)
}

fn read(source: &[u8]) -> Look {
    let mut found = Look::NOTHING;
    let mut tokens = Tokens::new(source, true);
    let mut before: Option<Token> = None;
    loop {
        let starts = before.is_none_or(|before| is_before_statement(&before));
        if starts {
            commands::start(tokens.within(LONGEST_COMMAND), &mut found);
        }
        let Some(token) = tokens.next() else { return found };
        anywhere(before, &token, &tokens, true, &mut found);
        if token.is_string() {
            // What is put behind something else is not the start of it.
            let is_first = !before.is_some_and(|before| before.is_symbol(b'|'));
            found.pins |= search(token.content(), is_first);
        }
        before = Some(token);
    }
}

fn is_before_statement(token: &Token) -> bool {
    token.is_symbol(b';') || OPENING.iter().any(|word| token.is_word(word))
}

/// What routines may do does not always happen, and what they say of prepared
/// statements is too little to follow them.
fn uncertain(found: Look) -> Look {
    let Look { mut pins, ends, mut touched, name_parameters, .. } = found;
    if touched.all_reset || touched.name_reset || !name_parameters.is_empty() {
        pins.insert(PinReason::Setting);
    }
    touched.all_reset = false;
    touched.name_reset = false;
    touched.maybe_unset = !touched.names().is_empty();
    Look { pins, ends, touched, ..Look::NOTHING }
}

/// Searches a text that may be run, or hold strings that may be; `is_first` if
/// nothing stands before it.
fn search(text: &[u8], is_first: bool) -> Pins {
    let mut pins = Pins::NONE;
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(|byte| starts_word(*byte)) {
        let start = at + start;
        at = start + text[start..].iter().take_while(|byte| continues_word(**byte)).count();
        // A line end that is written `\n` is no part of a word.
        let is_escaped = text[..start].ends_with(b"\\");
        let word = &text[start + usize::from(is_escaped)..at];
        let before = &text[..start - usize::from(is_escaped)];
        pins |= pins_of_word(word, &text[at..], || may_start(before, is_first));
    }
    pins
}

fn pins_of_word(word: &[u8], behind: &[u8], starts: impl Fn() -> bool) -> Pins {
    let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(word);
    let mut pins: Pins = functions::pin_of_word(word).into_iter().collect();
    if is_temporary_schema(word) {
        pins.insert(PinReason::TemporaryObject);
    }
    if is(settings::VIEW) {
        pins.insert(PinReason::Setting);
    }
    if let Some((_, reason)) = WORDS.iter().find(|(name, _)| is(name)) {
        let counts = !COMMANDS.into_iter().any(is) || starts() && is_command(word, behind);
        pins |= counts.then_some(*reason).into_iter().collect();
    }
    pins
}

/// Whether a command may start behind these bytes: at the start, behind a
/// semicolon, or behind what opens a string in some language.
fn may_start(before: &[u8], is_first: bool) -> bool {
    let last = before.iter().rev().find(|byte| !is_space(**byte));
    last.map_or(is_first, |last| b";'\"`{([".contains(last))
}

/// Whether a word that stands where a command may start is one, and not a call
/// or what is over with the transaction.
fn is_command(word: &[u8], behind: &[u8]) -> bool {
    let start = behind.iter().position(|byte| !is_space(*byte)).unwrap_or(behind.len());
    let behind = &behind[start..];
    let next = &behind[..behind.iter().take_while(|byte| continues_word(**byte)).count()];
    let passes = PASSING.into_iter().any(|passing| passing.eq_ignore_ascii_case(next));
    let is_over = passes && word.eq_ignore_ascii_case(b"set");
    !is_over && !behind.starts_with(b"(")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins, settings that are asked for, and what may be over.
    fn verdict(source: &str, is_sql: bool) -> String {
        let look = look(source.as_bytes(), is_sql);
        assert_eq!(look.touched.maybe_unset, !look.touched.names().is_empty());
        let pins = look.pins.iter().map(|reason| reason.label().to_owned());
        let settings = look.touched.names().iter().map(|name| format!("set:{name:?}"));
        let ends = look.ends.iter().map(|reason| format!("end:{}", reason.label()));
        pins.chain(settings).chain(ends).collect::<Vec<_>>().join(" ")
    }

    fn sql(source: &str) -> String {
        verdict(source, true)
    }

    #[test]
    fn commands_are_found_where_statements_start() {
        assert_eq!(sql("SET work_mem = '1MB'"), "set:work_mem");
        assert_eq!(sql("SELECT 1; SET search_path TO a; SELECT 2"), "set:search_path");
        assert_eq!(sql("BEGIN SET ROLE a; END"), "set:role");
        assert_eq!(sql("IF a THEN SET b.c = 1; ELSE RESET d; END IF;"), "set:b.c set:d");
        assert_eq!(sql("LOOP RESET ALL; END LOOP;"), "setting end:setting");
        assert_eq!(sql("BEGIN -- it\n LISTEN a; /* */ LOAD 'b'; END"), "listen load");
        assert_eq!(sql("BEGIN CREATE TEMP TABLE t (n int); END"), "temporary_object");
        assert_eq!(sql("BEGIN\n PERFORM pg_advisory_lock(1);\nEND"), "advisory_lock");
        assert_eq!(sql("SELECT pg_advisory_unlock(1)"), "end:advisory_lock");
        assert_eq!(sql("PERFORM set_config('a.b', v, false);"), "set:a.b");
        assert_eq!(sql("PERFORM set_config(name, v, false);"), "setting");
        assert_eq!(sql("SELECT set_config($1, $2, false)"), "setting");
        assert_eq!(sql("SELECT 1 INTO TEMP t"), "temporary_object");
    }

    #[test]
    fn what_is_over_with_the_transaction_or_is_no_command_is_nothing() {
        for source in [
            "BEGIN UPDATE t SET a = 1; END",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
            "UPDATE ONLY s.t AS u\nSET a = 1",
            "IF a THEN UPDATE t SET a = 1; ELSE UPDATE t SET a = 2; END IF;",
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN UPDATE SET a = 1",
            "ALTER TABLE t SET (fillfactor = 70); ALTER ROLE r SET work_mem = '1MB'",
            "SET LOCAL work_mem = '1MB'; SET CONSTRAINTS ALL DEFERRED",
            "PERFORM set_config('a.b', v, true)",
            "EXECUTE 'SET LOCAL search_path TO ' || s",
            "EXECUTE format('UPDATE %I SET a = %L', t, a)",
            "EXECUTE 'UPDATE ' || t || ' SET a = 1'",
            "RAISE NOTICE 'the load of the set is not what to listen to'",
            "SELECT pg_advisory_xact_lock(1)",
        ] {
            assert_eq!(sql(source), "", "{source}");
        }
    }

    #[test]
    fn strings_may_be_run() {
        assert_eq!(sql("EXECUTE 'SET search_path TO ' || s"), "setting");
        assert_eq!(sql("EXECUTE format('SET %I = %L', a, b)"), "setting");
        assert_eq!(sql("EXECUTE $q$ SELECT 1; SET ROLE a $q$"), "setting");
        assert_eq!(sql("EXECUTE E'\\nSET a = 1'"), "setting");
        assert_eq!(sql("EXECUTE 'SELECT pg_advisory_lock(1)'"), "advisory_lock");
        assert_eq!(sql("EXECUTE 'CREATE TEMP TABLE ' || t"), "temporary_object");
        assert_eq!(sql("EXECUTE 'LISTEN ' || t"), "listen");
        assert_eq!(sql("EXECUTE 'SELECT set_config(''a'', ''b'', false)'"), "setting");
    }

    #[test]
    fn other_languages_run_strings() {
        let other = |source| verdict(source, false);
        assert_eq!(other("plpy.execute(\"SET search_path TO a\")"), "setting");
        assert_eq!(other("spi_exec_query(q{SET ROLE a});"), "setting");
        assert_eq!(other("plpy.execute('''\n  LISTEN a''')"), "listen");
        assert_eq!(other("plpy.execute('SELECT pg_advisory_lock(1)')"), "advisory_lock");
        assert_eq!(other("p = plpy.prepare('UPDATE t SET a = $1'); s = set(); json.load(f)"), "");
    }

    #[test]
    fn the_strangest_source_is_read_in_reasonable_time() {
        for piece in ["then create ", "begin do ", "set_config(", "declare x ", "'a' ", "set "] {
            let source = piece.repeat((1 << 17) / piece.len());
            let began = std::time::Instant::now();
            look(source.as_bytes(), true);
            look(source.as_bytes(), false);
            assert!(began.elapsed().as_secs() < 10, "{piece}: {:?}", began.elapsed());
        }
    }
}

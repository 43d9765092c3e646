//! PostgreSQL's lexical rules, and nothing of its grammar.
//!
//! What is a string, a comment or a word is decided as `scan.l` decides it
//! (src/backend/parser/scan.l), because a word inside a string is data and a
//! word outside of one is a command. Every text is a sequence of tokens that
//! cover it from its first byte to its last; what is not terminated ends with
//! the text. Nothing is copied. Every byte is looked at a bounded number of
//! times, whatever the text.
//!
//! Deliberately absent: operators (each of their bytes is a symbol) and the
//! values of numbers, which no verdict depends on.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// White space.
    Space,
    /// `-- …` up to the end of the line, or `/* … */`, nested ones included.
    Comment,
    /// A key word or an identifier without quotes.
    Word,
    /// `"…"`.
    QuotedIdentifier,
    /// `U&"…"`.
    UnicodeIdentifier,
    /// `'…'`, also the one of `N'…'`; with `standard_conforming_strings` off
    /// its backslashes are escapes.
    String,
    /// `E'…'`.
    EscapeString,
    /// `U&'…'`.
    UnicodeString,
    /// `B'…'` or `X'…'`.
    BitString,
    /// `$$…$$` or `$tag$…$tag$`.
    DollarString,
    /// A number.
    Number,
    /// `$1`.
    Parameter,
    /// Any other byte.
    Symbol,
}

/// A piece of a text, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'t> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, quotes and prefix included; never empty.
    pub text: &'t [u8],
}

impl<'t> Token<'t> {
    /// Whether this is the key word `word`, which is written in lower case.
    #[must_use]
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether this is the byte `symbol` on its own.
    #[must_use]
    pub fn is_symbol(&self, symbol: u8) -> bool {
        self.kind == Kind::Symbol && self.text == [symbol]
    }

    /// Whether this identifier, quoted or not, means `name`, which is written
    /// in lower case.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self.kind {
            Kind::Word => self.text.eq_ignore_ascii_case(name.as_bytes()),
            Kind::QuotedIdentifier => self.content() == name.as_bytes(),
            _ => false,
        }
    }

    /// Whether this can stand where a name stands.
    #[must_use]
    pub fn is_identifier(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::QuotedIdentifier | Kind::UnicodeIdentifier)
    }

    /// Whether this is a constant in quotes of any kind.
    #[must_use]
    pub fn is_string(&self) -> bool {
        matches!(
            self.kind,
            Kind::String
                | Kind::EscapeString
                | Kind::UnicodeString
                | Kind::BitString
                | Kind::DollarString
        )
    }

    /// What is between the quotes, as written; the whole text of a token
    /// without quotes.
    #[must_use]
    pub fn content(&self) -> &'t [u8] {
        let quotes: (usize, &[u8]) = match self.kind {
            Kind::String => (1, b"'"),
            Kind::EscapeString | Kind::BitString => (2, b"'"),
            Kind::UnicodeString => (3, b"'"),
            Kind::QuotedIdentifier => (1, b"\""),
            Kind::UnicodeIdentifier => (3, b"\""),
            Kind::DollarString => {
                let tag = &self.text[..dollar_tag(self.text).unwrap_or(0)];
                (tag.len(), tag)
            }
            _ => return self.text,
        };
        let content = &self.text[quotes.0..];
        content.strip_suffix(quotes.1).unwrap_or(content)
    }
}

/// The tokens of a text, in order; together they are the text.
#[derive(Debug, Clone)]
pub struct Lexer<'t> {
    rest: &'t [u8],
    standard_conforming_strings: bool,
}

impl<'t> Lexer<'t> {
    /// Reads `text` as a server with this `standard_conforming_strings` does.
    #[must_use]
    pub fn new(text: &'t [u8], standard_conforming_strings: bool) -> Self {
        Self { rest: text, standard_conforming_strings }
    }

    fn measure(&self, first: u8) -> (Kind, usize) {
        let text = self.rest;
        match first {
            byte if is_space(byte) => (Kind::Space, run(text, is_space)),
            b'-' if text.starts_with(b"--") => (Kind::Comment, line_comment(text)),
            b'/' if text.starts_with(b"/*") => (Kind::Comment, block_comment(text)),
            b'\'' => (Kind::String, literal(text, 0, self.plain_quoting())),
            b'"' => (Kind::QuotedIdentifier, segment(text, 1, b'"', Quoting::Doubled)),
            b'$' => dollar(text),
            b'0'..=b'9' => (Kind::Number, number(text)),
            b'.' if text.get(1).is_some_and(u8::is_ascii_digit) => (Kind::Number, number(text)),
            byte if starts_word(byte) => prefixed(text, byte),
            _ => (Kind::Symbol, 1),
        }
    }

    fn plain_quoting(&self) -> Quoting {
        if self.standard_conforming_strings { Quoting::Doubled } else { Quoting::Escaped }
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        let first = *self.rest.first()?;
        let (kind, length) = self.measure(first);
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Token { kind, text })
    }
}

/// The tokens that mean something: no space, no comment. A clone looks
/// ahead.
#[derive(Debug, Clone)]
pub struct Tokens<'t>(Lexer<'t>);

impl<'t> Tokens<'t> {
    /// Reads `text` as a server with this `standard_conforming_strings` does.
    #[must_use]
    pub fn new(text: &'t [u8], standard_conforming_strings: bool) -> Self {
        Self(Lexer::new(text, standard_conforming_strings))
    }

    /// These tokens, as far as they are within so many bytes; the last may be
    /// cut.
    #[must_use]
    pub fn within(&self, bytes: usize) -> Self {
        let Lexer { rest, standard_conforming_strings } = self.0;
        Self(Lexer { rest: &rest[..rest.len().min(bytes)], standard_conforming_strings })
    }

    /// The next token, which stays the next one.
    #[must_use]
    pub fn peek(&self) -> Option<Token<'t>> {
        self.clone().next()
    }

    /// Whether the next token is this key word.
    #[must_use]
    pub fn next_is_word(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| token.is_word(word))
    }

    /// Whether the next token is this byte.
    #[must_use]
    pub fn next_is_symbol(&self, symbol: u8) -> bool {
        self.peek().is_some_and(|token| token.is_symbol(symbol))
    }

    /// Takes the next token if it is one of these key words.
    pub fn skip_word(&mut self, words: &[&str]) -> bool {
        let mut ahead = self.clone();
        let found = ahead.next().is_some_and(|t| words.iter().any(|word| t.is_word(word)));
        if found {
            *self = ahead;
        }
        found
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.0.find(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
    }
}

/// White space between tokens.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What an identifier starts with; bytes from 0x80 are parts of characters.
#[must_use]
pub fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// What an identifier goes on with.
#[must_use]
pub fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// How many bytes at the start of `text` fulfil `belongs`.
fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len())
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn line_comment(text: &[u8]) -> usize {
    run(text, |byte| !is_newline(byte))
}

fn block_comment(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// What stands for a quote between quotes.
#[derive(Debug, Clone, Copy)]
enum Quoting {
    /// Nothing.
    Bare,
    /// Two quotes.
    Doubled,
    /// Two quotes, or a backslash and a quote.
    Escaped,
}

/// The end of the literal whose first quote is at `open`: strings with only
/// white space between them, a line end among it, are one string.
fn literal(text: &[u8], open: usize, quoting: Quoting) -> usize {
    let mut end = segment(text, open + 1, b'\'', quoting);
    while let Some(gap) = continuation(&text[end..]) {
        end = segment(text, end + gap, b'\'', quoting);
    }
    end
}

/// The end of what starts at `start`, behind its opening quote.
fn segment(text: &[u8], start: usize, quote: u8, quoting: Quoting) -> usize {
    let escaped = matches!(quoting, Quoting::Escaped);
    let mut at = start;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += run(rest, |byte| byte != quote && !(escaped && byte == b'\\'));
        match (text.get(at), text.get(at + 1)) {
            (None, _) => return text.len(),
            (Some(b'\\'), _) if escaped => at += 2,
            (Some(_), Some(next)) if *next == quote && !matches!(quoting, Quoting::Bare) => at += 2,
            (Some(_), _) => return at + 1,
        }
    }
}

/// How far behind a closing quote the string goes on: the bytes up to and with
/// the next opening quote (`quotecontinue` in `scan.l`).
fn continuation(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut has_newline = false;
    loop {
        let rest = &text[at..];
        match rest.first()? {
            b'\'' if has_newline => return Some(at + 1),
            byte if is_space(*byte) => {
                has_newline |= is_newline(*byte);
                at += 1;
            }
            b'-' if rest.starts_with(b"--") => at += line_comment(rest),
            _ => return None,
        }
    }
}

/// The length of `$tag$` at the start of `text`.
fn dollar_tag(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"$")?;
    let tag = run(rest, |byte| continues_word(byte) && byte != b'$');
    let is_tag = rest.get(tag) == Some(&b'$') && !rest[0].is_ascii_digit();
    is_tag.then_some(tag + 2)
}

fn dollar(text: &[u8]) -> (Kind, usize) {
    if let Some(tag) = dollar_tag(text) {
        return (Kind::DollarString, dollar_string(text, tag));
    }
    match run(&text[1..], |byte| byte.is_ascii_digit()) {
        0 => (Kind::Symbol, 1),
        digits => (Kind::Parameter, 1 + digits),
    }
}

fn dollar_string(text: &[u8], tag: usize) -> usize {
    let mut at = tag;
    loop {
        at += run(&text[at..], |byte| byte != b'$');
        match &text[at..] {
            [] => return text.len(),
            rest if rest.starts_with(&text[..tag]) => return at + tag,
            _ => at += 1,
        }
    }
}

/// Letters behind a number are a word of their own, as PostgreSQL had it up to
/// version 14 (`1OR`); later versions take no such text.
fn number(text: &[u8]) -> usize {
    if let [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', digit, ..] = text
        && digit.is_ascii_hexdigit()
    {
        return run(text, continues_word);
    }
    let digits = mantissa(text);
    let (sign, rest) = match &text[digits..] {
        [b'e' | b'E', b'+' | b'-', rest @ ..] => (2, rest),
        [b'e' | b'E', rest @ ..] => (1, rest),
        _ => return digits,
    };
    match run(rest, |byte| byte.is_ascii_digit()) {
        0 => digits,
        exponent => digits + sign + exponent,
    }
}

/// Digits, points, and underscores between digits.
fn mantissa(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match &text[at..] {
            [b'0'..=b'9' | b'.', ..] => 1,
            [b'_', b'0'..=b'9', ..] => 2,
            _ => return at,
        };
    }
}

/// A word, or the constant that its first letter announces.
fn prefixed(text: &[u8], first: u8) -> (Kind, usize) {
    match (first, &text[1..]) {
        (b'e' | b'E', [b'\'', ..]) => (Kind::EscapeString, literal(text, 1, Quoting::Escaped)),
        (b'b' | b'B' | b'x' | b'X', [b'\'', ..]) => {
            (Kind::BitString, literal(text, 1, Quoting::Bare))
        }
        (b'u' | b'U', [b'&', b'\'', ..]) => {
            (Kind::UnicodeString, literal(text, 2, Quoting::Doubled))
        }
        (b'u' | b'U', [b'&', b'"', ..]) => {
            (Kind::UnicodeIdentifier, segment(text, 3, b'"', Quoting::Doubled))
        }
        _ => (Kind::Word, run(text, continues_word)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lex(text: &str, standard: bool) -> Vec<(Kind, &str)> {
        let tokens = Lexer::new(text.as_bytes(), standard);
        tokens.map(|token| (token.kind, std::str::from_utf8(token.text).unwrap())).collect()
    }

    /// The texts that are one token of this kind.
    fn each_is(kind: Kind, texts: &[&str]) {
        for text in texts {
            assert_eq!(lex(text, true), [(kind, *text)]);
        }
    }

    #[test]
    fn quotes_of_every_kind_end_where_they_end() {
        each_is(Kind::String, &["''", "'a''b'", "'a\\'", "'a'\n'b'", "'a' -- '\n  \t'b'", "'a"]);
        each_is(Kind::EscapeString, &["E'a\\'b'", "e'\\\\'", "E''''", "E'a'\r\n'\\'b'", "e'\\"]);
        each_is(Kind::UnicodeString, &["U&'\\'", "u&'a''b'", "U&'a'\n'b'"]);
        each_is(Kind::BitString, &["B'01'", "x'1F'", "X'1'\n'2'"]);
        each_is(Kind::DollarString, &["$$$$", "$$a$b$$", "$a$ $$ $A$ $a$", "$é1$x$é1$", "$$ '"]);
        each_is(Kind::QuotedIdentifier, &["\"a\"\"b\"", "\"'\"", "\"a\n\"", "\"a"]);
        each_is(Kind::UnicodeIdentifier, &["U&\"a\"\"\\\"", "u&\""]);
    }

    #[test]
    fn words_numbers_and_comments_end_where_they_end() {
        each_is(Kind::Word, &["a", "_a$1$", "Été", "e", "u", "select"]);
        each_is(Kind::Number, &["1", "1.5", ".5", "1e5", "1.E-5", "0x1F", "1_000", "1..2"]);
        each_is(Kind::Parameter, &["$1", "$12"]);
        each_is(Kind::Comment, &["-- a", "/**/", "/* /* */ */", "/*/ */", "/***/", "/* /* */"]);
        each_is(Kind::Space, &[" \t\r\n\u{b}\u{c}"]);
    }

    #[test]
    fn neighbours_are_told_apart() {
        let texts = |text| lex(text, true).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts("'a' 'b'"), ["'a'", " ", "'b'"]);
        assert_eq!(texts("'a'/*\n*/'b'"), ["'a'", "/*\n*/", "'b'"]);
        assert_eq!(texts("b'0''1'"), ["b'0'", "'1'"]);
        assert_eq!(texts("ae'a'"), ["ae", "'a'"]);
        assert_eq!(texts("N'a'"), ["N", "'a'"]);
        assert_eq!(texts("u&b"), ["u", "&", "b"]);
        assert_eq!(texts("$1$a$b$a$"), ["$1", "$a$b$a$"]);
        assert_eq!(texts("$a b"), ["$", "a", " ", "b"]);
        assert_eq!(texts("1OR 2"), ["1", "OR", " ", "2"]);
        assert_eq!(texts("1e+"), ["1", "e", "+"]);
        assert_eq!(texts("+-/**/-"), ["+", "-", "/**/", "-"]);
        assert_eq!(texts("a--b\nc"), ["a", "--b", "\n", "c"]);
    }

    #[test]
    fn backslashes_escape_in_plain_quotes_where_strings_do_not_conform() {
        assert_eq!(lex("'\\'a'", false), [(Kind::String, "'\\'a'")]);
        assert_eq!(lex("'\\'a'", true).len(), 3);
    }

    #[test]
    fn content_is_what_is_between_the_quotes() {
        let content = |text: &'static str| {
            let token = Lexer::new(text.as_bytes(), true).next().unwrap();
            std::str::from_utf8(token.content()).unwrap()
        };
        let texts =
            ["'x'", "e'x'", "U&'x'", "$a$x$a$", "$$x$$", "\"x\"", "u&\"x\"", "x", "'x", "$$x"];
        assert_eq!(texts.map(content), ["x"; 10]);
        assert_eq!(["'", "e'", "$$", "\"", "$a$"].map(content), [""; 5]);
    }

    const PIECES: &[&str] = &[
        "'", "''", "e'", "U&'", "u&\"", "\"", "x'", "$", "$$", "$a$", "a", "1", ".", "e", "\\",
        "--", "/*", "*/", "*", "/", "-", "\n", " ", ";", "é", "_", "0x",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]

        #[test]
        fn tokens_cover_every_text_in_order(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
            noise in prop::collection::vec(any::<u8>(), 0..6),
            standard: bool,
        ) {
            let mut text = pieces.concat().into_bytes();
            text.extend(noise);
            let mut covered = Vec::new();
            for token in Lexer::new(&text, standard) {
                prop_assert!(!token.text.is_empty());
                let _ = token.content();
                covered.extend_from_slice(token.text);
            }
            prop_assert_eq!(covered, text);
        }
    }
}

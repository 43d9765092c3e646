//! The startup parameter `options`, split as PostgreSQL splits it.
//!
//! Decision 2: bare tokens `service=`, `access=` and `pool=` speak to Postern
//! and are taken out; everything else goes on byte for byte. A token that is
//! the argument of a switch before it (`-c service=x`) is not bare.
//! `pg_split_opts` (src/backend/utils/init/postinit.c) splits at white space,
//! and a backslash takes the next byte as it is.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// The command line switches of a backend that take an argument
/// (src/backend/tcop/postgres.c, `process_postgres_switches`).
const SWITCHES_WITH_ARGUMENT: &[u8] = b"BcCDdfhkprStvW-";

/// What `options` says to Postern, and what is left for PostgreSQL.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The value of the last `service=`.
    pub service: Option<String>,
    /// The value of the last `access=`.
    pub access: Option<String>,
    /// The value of the last `pool=`.
    pub pool: Option<String>,
    /// `options` without those tokens; `None` if nothing else was there.
    pub rest: Option<Bytes>,
}

/// Takes Postern's tokens out of `options`.
#[must_use]
pub fn parse(options: &Bytes) -> Options {
    let mut parsed = Options::default();
    let mut removed = Vec::new();
    let mut is_argument = false;
    for range in tokens(options) {
        let token = unescape(&options[range.clone()]);
        if !is_argument && parsed.take(&token) {
            removed.push(range);
        } else {
            is_argument = !is_argument && awaits_argument(&token);
        }
    }
    parsed.rest =
        if removed.is_empty() { Some(options.clone()) } else { without(options, &removed) };
    parsed
}

impl Options {
    fn take(&mut self, token: &[u8]) -> bool {
        let Some(equals) = token.iter().position(|b| *b == b'=') else {
            return false;
        };
        let value = String::from_utf8_lossy(&token[equals + 1..]).into_owned();
        match &token[..equals] {
            b"service" => self.service = Some(value),
            b"access" => self.access = Some(value),
            b"pool" => self.pool = Some(value),
            _ => return false,
        }
        true
    }
}

/// Whether the next token belongs to this one: `-c`, or a bundle such as `-Ec`.
fn awaits_argument(token: &[u8]) -> bool {
    let Some(switches) = token.strip_prefix(b"-") else {
        return false;
    };
    let with_argument = switches.iter().position(|b| SWITCHES_WITH_ARGUMENT.contains(b));
    token != b"--" && with_argument.is_some_and(|at| at + 1 == switches.len())
}

fn tokens(options: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while options.get(at).is_some_and(|b| is_space(*b)) {
            at += 1;
        }
        let start = at;
        while options.get(at).is_some_and(|b| !is_space(*b)) {
            at += if options[at] == b'\\' { 2 } else { 1 };
        }
        at = at.min(options.len());
        (start < at).then_some(start..at)
    })
}

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn unescape(token: &[u8]) -> Vec<u8> {
    let mut bytes = token.iter();
    let mut plain = Vec::with_capacity(token.len());
    while let Some(&byte) = bytes.next() {
        plain.extend(if byte == b'\\' { bytes.next().copied() } else { Some(byte) });
    }
    plain
}

/// The bytes outside the removed tokens; `None` if only white space is left.
fn without(options: &Bytes, removed: &[Range<usize>]) -> Option<Bytes> {
    let mut rest = BytesMut::with_capacity(options.len());
    let mut at = 0;
    for range in removed {
        rest.extend_from_slice(&options[at..range.start]);
        at = range.end;
    }
    rest.extend_from_slice(&options[at..]);
    (!rest.iter().all(|b| is_space(*b))).then(|| rest.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &'static str) -> (Option<String>, Option<String>) {
        let options = parse(&Bytes::from_static(text.as_bytes()));
        (options.service, options.rest.map(|r| String::from_utf8(r.to_vec()).unwrap()))
    }

    #[test]
    fn a19_only_bare_tokens_are_taken() {
        let cases = [
            ("service=orders", Some("orders"), None),
            (" service=orders ", Some("orders"), None),
            ("-c a=b service=orders", Some("orders"), Some("-c a=b ")),
            ("service=orders -c a=b", Some("orders"), Some(" -c a=b")),
            ("-c service=orders", None, Some("-c service=orders")),
            ("-Ec service=orders", None, Some("-Ec service=orders")),
            ("-cservice=orders", None, Some("-cservice=orders")),
            ("--service=orders", None, Some("--service=orders")),
            ("-c a=b\\ service=orders", None, Some("-c a=b\\ service=orders")),
            ("s\\ervice=orders", Some("orders"), None),
            ("-c search_path=my-customers", None, Some("-c search_path=my-customers")),
            ("-c timezone=Etc/GMT+3", None, Some("-c timezone=Etc/GMT+3")),
            ("-c a=b=c service=x", Some("x"), Some("-c a=b=c ")),
            ("", None, Some("")),
            ("service=", Some(""), None),
            ("services=x", None, Some("services=x")),
        ];
        for (text, service, rest) in cases {
            assert_eq!(parsed(text), (service.map(Into::into), rest.map(Into::into)), "{text:?}");
        }
    }

    #[test]
    fn all_three_tokens_are_read() {
        let options = parse(&Bytes::from_static(b"service=a access=read-only pool=transaction"));
        assert_eq!(options.access.as_deref(), Some("read-only"));
        assert_eq!(options.pool.as_deref(), Some("transaction"));
        assert_eq!(options.rest, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn a19_any_options_parse_and_what_is_not_taken_stays(
            text in prop::collection::vec(
                prop_oneof![
                    Just("service=".to_owned()), Just("-c".to_owned()), Just(" ".to_owned()),
                    Just("\\".to_owned()), Just("=".to_owned()), "[a-z-]{0,3}",
                ], 0..12),
        ) {
            let options = Bytes::from(text.concat());
            let parsed = parse(&options);
            if parsed.service.is_none() {
                prop_assert_eq!(parsed.rest, Some(options));
            }
        }
    }
}

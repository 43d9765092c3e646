//! What is asked of PostgreSQL's catalog: the sources of routines that could
//! leave something on the connection.
//!
//! The first query finds those by their words, on the server, and only if the
//! routines are others than at the last time. Where some of them really do it,
//! further queries find who calls them, until nobody is left: a database
//! without such routines is asked once. Everything is named with its schema,
//! because some client's `search_path` is in force, and comes in hexadecimal
//! digits, so that its `client_encoding` does not matter.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use super::{Routines, is_one_word, source};
use crate::state::body::{SCHEMA, WORDS};
use crate::state::carried::put_literal;
use crate::state::functions;
use crate::state::look::Look;
use crate::state::reading::{Unclear, columns, from_hex};
use crate::state::settings;

/// The most sources that one query brings.
pub const MOST_SOURCES: u32 = 1000;
/// The most that one query brings of them, in bytes.
pub const MOST_BYTES: u32 = 1 << 20;
/// Sources come in pieces, in bytes: a message is no longer than what is read
/// whole of a server's silent answers, which is 64 KiB.
const PIECE: u32 = 24_000;
/// The most names whose callers one query asks for.
const MOST_NAMES: usize = 100;
/// The most queries.
const MOST_QUERIES: u32 = 16;

/// The routines whose sources can be looked at and which a text can call:
/// written by users, neither in C nor built in, neither triggers nor
/// aggregates.
const OF_USERS: &str = "WITH f AS MATERIALIZED (\
     SELECT p.oid, p.xmin, p.proname, p.prolang, p.prosrc FROM pg_catalog.pg_proc AS p \
     WHERE p.oid OPERATOR(pg_catalog.>=) '16384' \
     AND p.prolang OPERATOR(pg_catalog.<>) ALL ('{12,13}') \
     AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{2279,3838}') \
     AND p.prokind OPERATOR(pg_catalog.<>) 'a'), \
     s AS MATERIALIZED (SELECT coalesce(pg_catalog.sum(pg_catalog.hashtextextended(\
     f.oid::pg_catalog.text OPERATOR(pg_catalog.||) ' ' \
     OPERATOR(pg_catalog.||) f.xmin::pg_catalog.text, 0)), 0) AS stamp FROM f), \
     c AS MATERIALIZED (SELECT f.oid, f.proname, \
     f.prolang OPERATOR(pg_catalog.=) ANY (SELECT oid FROM pg_catalog.pg_language \
     WHERE lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}')) AS is_sql, \
     CASE WHEN f.prolang OPERATOR(pg_catalog.=) 14 AND f.prosrc OPERATOR(pg_catalog.=) '' \
     THEN pg_catalog.pg_get_functiondef(f.oid) ELSE f.prosrc END AS source FROM f";

/// What is known of the routines of a database: of which this is the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The routines.
    pub routines: Routines,
    /// Changes with every change of any routine; empty: never asked.
    stamp: Vec<u8>,
}

/// Questions under way.
#[derive(Debug)]
pub struct Inquiry {
    known: Vec<u8>,
    found: Known,
    /// Names whose callers were not yet asked for.
    callees: VecDeque<Vec<u8>>,
    /// Names whose callers are being asked for.
    asked: Vec<Vec<u8>>,
    queries: u32,
    /// Sources that were too many to be brought.
    left_out: u64,
}

/// What follows an answer.
#[derive(Debug)]
pub enum Next {
    /// Another query.
    Ask(Box<Inquiry>),
    /// Nothing: the routines are those of the last time.
    Same,
    /// Nothing: this is known, but for so many sources that were too many.
    Known(Known, u64),
}

/// One routine, as the rows tell of it.
struct Source {
    oid: Vec<u8>,
    name: Vec<u8>,
    is_sql: bool,
    text: Vec<u8>,
}

impl Inquiry {
    /// Asks for what is different from what is known.
    #[must_use]
    pub fn new(known: &Known) -> Box<Self> {
        Box::new(Self {
            known: known.stamp.clone(),
            found: Known::default(),
            callees: VecDeque::new(),
            asked: Vec::new(),
            queries: 0,
            left_out: 0,
        })
    }

    /// Appends the SQL that asks for the next rows: one for each piece of a
    /// source, at least one.
    pub fn put_sql(&self, out: &mut BytesMut) {
        out.put_slice(OF_USERS.as_bytes());
        if self.queries == 0 && !self.known.is_empty() {
            out.put_slice(b", s WHERE s.stamp::pg_catalog.text OPERATOR(pg_catalog.<>) ");
            put_literal(out, &self.known);
        }
        out.put_slice(
            b"), h AS MATERIALIZED (SELECT c.*, pg_catalog.octet_length(c.source) AS size, \
              pg_catalog.count(*) OVER () AS all, pg_catalog.row_number() OVER w AS place, \
              pg_catalog.sum(pg_catalog.octet_length(c.source)) OVER w AS up_to \
              FROM c WHERE c.source OPERATOR(pg_catalog.~*) ",
        );
        put_pattern(out, &self.words());
        out.put_slice(b" WINDOW w AS (ORDER BY c.source OPERATOR(pg_catalog.!~*) ");
        put_pattern(out, &self.stronger_words());
        let rest = format!(
            ", c.oid)) SELECT s.stamp, h.all, h.oid, \
             pg_catalog.encode(pg_catalog.convert_to(\
             h.proname::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex'), h.is_sql, \
             pg_catalog.encode(pg_catalog.substring(pg_catalog.convert_to(\
             h.source, pg_catalog.getdatabaseencoding()), a.at, {PIECE}), 'hex') \
             FROM s LEFT JOIN (h CROSS JOIN LATERAL \
             pg_catalog.generate_series(1, h.size, {PIECE}) AS a(at)) \
             ON h.place OPERATOR(pg_catalog.<=) {MOST_SOURCES} \
             AND h.up_to OPERATOR(pg_catalog.<=) {MOST_BYTES} \
             ORDER BY h.place, a.at"
        );
        out.put_slice(rest.as_bytes());
    }

    /// The words that are searched for.
    fn words(&self) -> Vec<String> {
        if self.queries > 0 {
            let names = self.asked.iter().map(|name| String::from_utf8_lossy(name).into_owned());
            return names.collect();
        }
        let temporary = format!("{}(_[0-9]+)?", String::from_utf8_lossy(SCHEMA));
        let words = WORDS.iter().map(|(word, _)| *word).chain(functions::names());
        let words = words.chain([settings::VIEW, "unlisten"]).map(str::to_owned);
        words.chain([temporary]).collect()
    }

    /// Those that mean more than the `SET` of an `UPDATE`: sources with one of
    /// them come first.
    fn stronger_words(&self) -> Vec<String> {
        self.words().into_iter().filter(|word| word != "set").collect()
    }

    /// PostgreSQL has answered by these rows, as bodies of `DataRow`.
    ///
    /// # Errors
    /// [`Unclear`].
    pub fn hear<'r>(
        mut self: Box<Self>,
        rows: impl IntoIterator<Item = &'r [u8]>,
    ) -> Result<Next, Unclear> {
        let mut sources: Vec<Source> = Vec::new();
        let mut all = 0;
        for (at, row) in rows.into_iter().enumerate() {
            let row: Vec<_> = columns(row).ok_or(Unclear)?.collect();
            let [Some(stamp), of, oid, name, is_sql, piece] = *row else { return Err(Unclear) };
            if at == 0 && self.queries == 0 {
                self.found.stamp = stamp.to_vec();
            }
            let (Some(of), Some(oid), Some(name)) = (of, oid, name) else { continue };
            all = number(of).ok_or(Unclear)?;
            let piece = from_hex(piece.ok_or(Unclear)?).ok_or(Unclear)?;
            match sources.last_mut().filter(|source| source.oid == oid) {
                Some(source) => source.text.extend_from_slice(&piece),
                None => sources.push(Source {
                    oid: oid.to_vec(),
                    name: from_hex(name).ok_or(Unclear)?.to_vec(),
                    is_sql: is_sql == Some(b"t"),
                    text: piece.to_vec(),
                }),
            }
        }
        if self.queries == 0 {
            if self.found.stamp.is_empty() {
                return Err(Unclear);
            }
            if self.found.stamp == self.known {
                return Ok(Next::Same);
            }
        }
        self.left_out += all.saturating_sub(sources.len() as u64);
        for source in &sources {
            self.take(source);
        }
        Ok(self.next())
    }

    /// Looks at a source: for what it does itself, or for whom it calls.
    fn take(&mut self, source: &Source) {
        let mut look = Look::NOTHING;
        if self.queries == 0 {
            look = source::look(&source.text, source.is_sql);
        } else {
            self.found.routines.look(&source.text, &mut look);
        }
        if !look.is_nothing() && self.found.routines.insert(&source.name, &look) {
            let name = source.name.to_ascii_lowercase();
            if is_one_word(&name) && !self.callees.contains(&name) {
                self.callees.push_back(name);
            }
        }
    }

    fn next(mut self: Box<Self>) -> Next {
        self.queries += 1;
        if self.callees.is_empty() || self.queries >= MOST_QUERIES {
            let Known { routines, stamp } = self.found;
            return Next::Known(Known { routines: routines.complete(), stamp }, self.left_out);
        }
        let most = self.callees.len().min(MOST_NAMES);
        self.asked = self.callees.drain(..most).collect();
        Next::Ask(self)
    }
}

/// The regular expression for any of these words.
fn put_pattern(out: &mut BytesMut, words: &[String]) {
    let pattern = format!("[[:<:]]({})[[:>:]]", words.join("|"));
    put_literal(out, pattern.as_bytes());
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::reading::row;

    fn hex(text: &str) -> String {
        use std::fmt::Write as _;
        text.bytes().fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").unwrap();
            digits
        })
    }

    /// A row about one routine; each is as many as `all`.
    fn routine(all: &str, oid: &str, name: &str, source: &str) -> Vec<u8> {
        let (name, source) = (hex(name), hex(source));
        row(&[Some("7"), Some(all), Some(oid), Some(&name), Some("t"), Some(&source)])
    }

    fn hear(inquiry: Box<Inquiry>, rows: &[Vec<u8>]) -> Next {
        inquiry.hear(rows.iter().map(|row| &row[..])).unwrap()
    }

    fn looks(known: &Known, text: &str) -> bool {
        let mut found = Look::NOTHING;
        known.routines.look(text.as_bytes(), &mut found);
        !found.is_nothing()
    }

    #[test]
    fn a_database_without_such_routines_is_asked_once() {
        let nobody = row(&[Some("0"), None, None, None, None, None]);
        let next = hear(Inquiry::new(&Known::default()), std::slice::from_ref(&nobody));
        let Next::Known(known, 0) = next else { panic!("{next:?}") };
        assert!(known.routines.is_empty());
        assert!(matches!(hear(Inquiry::new(&known), &[nobody]), Next::Same));
        let harmless = routine("1", "20000", "f", "UPDATE t SET a = 1");
        let next = hear(Inquiry::new(&known), &[harmless]);
        let Next::Known(known, 0) = next else { panic!("{next:?}") };
        assert!(known.routines.is_empty());
    }

    #[test]
    fn who_calls_such_a_routine_is_asked_for_until_nobody_is_left() {
        let known = Known::default();
        // In two pieces, neither of which says it.
        let (one, two) = ("SELECT pg_advisory", "_lock(1)");
        let rows = [routine("5", "20000", "f", one), routine("5", "20000", "f", two)];
        let Next::Ask(inquiry) = hear(Inquiry::new(&known), &rows) else { panic!() };
        let mut sql = BytesMut::new();
        inquiry.put_sql(&mut sql);
        assert!(sql.windows(6).any(|part| part == b"]](f)["), "{sql:?}");
        let rows = [routine("2", "1", "g", "SELECT F()"), routine("2", "2", "h", "SELECT f.g")];
        let Next::Ask(inquiry) = hear(inquiry, &rows) else { panic!() };
        let nobody = row(&[Some("7"), None, None, None, None, None]);
        let Next::Known(known, 4) = hear(inquiry, &[nobody]) else { panic!() };
        assert!(looks(&known, "SELECT f()") && looks(&known, "SELECT g()"));
        assert!(!looks(&known, "SELECT h()"));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_not_guessed_at() {
        let whole = routine("1", "20000", "f", "SELECT pg_advisory_lock(1)");
        for length in 0..whole.len() {
            let inquiry = Inquiry::new(&Known::default());
            assert!(inquiry.hear([&whole[..length]]).is_err(), "{length}");
        }
        assert!(Inquiry::new(&Known::default()).hear([]).is_err());
    }
}

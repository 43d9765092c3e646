//! The settings that PostgreSQL reports by `ParameterStatus` and that any client
//! may change: they are replayed when a connection changes hands (decision
//! 23), so using them costs no pin.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::frame::{HEADER, messages};
use crate::wire::login::parse_parameter;

/// The replayed settings, as PostgreSQL spells them in its reports.
pub const REPLAYED: [&str; 6] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
];

/// Those by which literals are read, by their places among the replayed.
const READING: [usize; 4] = [2, 3, 4, 5];

/// Whether literals are read by the setting of this name.
#[must_use]
pub fn is_reading(name: &[u8]) -> bool {
    READING.iter().any(|at| REPLAYED[*at].as_bytes().eq_ignore_ascii_case(name))
}

/// The client encodings in which not every byte below 0x80 is that character
/// of ASCII.
const MIXING: [&[u8]; 7] =
    [b"BIG5", b"GB18030", b"GBK", b"JOHAB", b"SHIFT_JIS_2004", b"SJIS", b"UHC"];

/// The values of the replayed settings, of a client or on a server.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<[Bytes; REPLAYED.len()]>);

impl PartialEq for Reports {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Reports {}

impl Reports {
    /// The values that whole messages report; what they do not report is
    /// empty.
    #[must_use]
    pub fn from_messages(messages: &[u8]) -> Self {
        let mut reports = Self::default();
        reports.take_messages(messages);
        reports
    }

    /// Takes the reports among whole messages; other messages are passed over.
    pub fn take_messages(&mut self, bytes: &[u8]) {
        for message in messages(bytes).filter(|message| message.kind == b'S') {
            self.take(message.body());
        }
    }

    /// Takes the body of one `ParameterStatus`. Returns whether it is one of
    /// these and says something new.
    pub fn take(&mut self, body: &[u8]) -> bool {
        let parsed = parse_parameter(Bytes::copy_from_slice(body));
        let Some((name, value)) = parsed else { return false };
        let at = REPLAYED.iter().position(|known| name == known.as_bytes());
        let Some(at) = at.filter(|at| self.0[*at] != value) else { return false };
        Arc::make_mut(&mut self.0)[at] = value;
        true
    }

    /// Sets the value of a setting by name, as a client's startup packet does.
    pub fn set(&mut self, name: &str, value: Bytes) {
        if let Some(at) = REPLAYED.iter().position(|known| *known == name) {
            Arc::make_mut(&mut self.0)[at] = value;
        }
    }

    /// The value of a setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        REPLAYED.iter().position(|known| *known == name).map(|at| &self.0[at])
    }

    /// Whether a backslash in a plain string constant is a plain character.
    #[must_use]
    pub fn has_standard_strings(&self) -> bool {
        self.get("standard_conforming_strings").is_none_or(|value| value != "off")
    }

    /// Whether the client's encoding may have a byte below 0x80 as a part of a
    /// character beyond ASCII.
    #[must_use]
    pub fn mixes_ascii(&self) -> bool {
        let encoding = self.get("client_encoding");
        encoding.is_some_and(|name| MIXING.iter().any(|mixing| name.eq_ignore_ascii_case(mixing)))
    }

    /// Appends one Query that makes `server` equal to these values, and says
    /// whether there is anything to do.
    ///
    /// # Panics
    /// Never: the settings are short.
    pub fn replay(&mut self, server: &Self, out: &mut BytesMut) -> bool {
        if self == server {
            // One copy from now on: the next comparison is that of a pointer.
            self.0 = Arc::clone(&server.0);
            return false;
        }
        let start = out.len();
        out.put_slice(b"Q\0\0\0\0");
        for (at, name) in REPLAYED.iter().enumerate() {
            if self.0[at] != server.0[at] {
                out.put_slice(b"SET ");
                out.put_slice(name.as_bytes());
                out.put_slice(b" TO ");
                put_literal(out, &self.0[at], server.has_standard_strings());
                out.put_slice(b";");
            }
        }
        out.put_u8(0);
        let length = u32::try_from(out.len() - start - 1).expect("a few short settings");
        out[start + 1..start + HEADER].copy_from_slice(&length.to_be_bytes());
        true
    }

    /// What differs where literals of dates and strings may be read differently:
    /// part of a shared statement's identity (decision 26).
    #[must_use]
    pub fn reading(&self) -> [&Bytes; READING.len()] {
        READING.map(|at| &self.0[at])
    }

    /// A command that makes the transaction read literals as these settings do,
    /// where `now` reads them otherwise, or everywhere; and one that undoes it.
    /// What the settings were the server itself keeps for the moment between the
    /// two, because whatever is under way may have changed them. Neither returns
    /// a row.
    #[must_use]
    pub fn local_reading(&self, now: Option<&Self>) -> [BytesMut; 2] {
        let differs = |at: &usize| now.is_none_or(|now| self.0[*at] != now.0[*at]);
        let differing: Vec<_> = READING.into_iter().filter(differs).collect();
        let mut set = BytesMut::from(SELECT_NOTHING);
        let mut undo = set.clone();
        for &at in &differing {
            let name = REPLAYED[at];
            let kept = format!("postern.{name}");
            put_set_config(&mut set, &kept, |sql| put_current_setting(sql, name));
            put_set_config(&mut undo, name, |sql| put_current_setting(sql, &kept));
        }
        for &at in &differing {
            put_set_config(&mut set, REPLAYED[at], |sql| {
                sql.put_u8(b'E');
                put_literal(sql, &self.0[at], false);
            });
        }
        [set, undo].map(|mut sql| {
            sql.put_slice(b"'') IS NULL");
            sql
        })
    }
}

/// Evaluates what follows, and returns no row: the text is never NULL.
const SELECT_NOTHING: &[u8] = b"SELECT WHERE pg_catalog.concat(";

fn put_set_config(sql: &mut BytesMut, name: &str, value: impl FnOnce(&mut BytesMut)) {
    sql.put_slice(format!("pg_catalog.set_config('{name}', ").as_bytes());
    value(sql);
    sql.put_slice(b", true), ");
}

fn put_current_setting(sql: &mut BytesMut, name: &str) {
    sql.put_slice(format!("pg_catalog.current_setting('{name}')").as_bytes());
}

/// A string constant: quotes doubled; backslashes doubled where they escape.
fn put_literal(out: &mut BytesMut, value: &[u8], standard_strings: bool) {
    out.put_u8(b'\'');
    for &byte in value {
        if byte == b'\'' || (byte == b'\\' && !standard_strings) {
            out.put_u8(byte);
        }
        out.put_u8(byte);
    }
    out.put_u8(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, value: &str) -> Vec<u8> {
        let mut message = vec![b'S'];
        message.extend(u32::try_from(name.len() + value.len() + 6).unwrap().to_be_bytes());
        message.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        message
    }

    fn replayed(wanted: &Reports, server: &Reports) -> String {
        let mut out = BytesMut::new();
        assert!(wanted.clone().replay(server, &mut out));
        assert_eq!(out[0], b'Q');
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 1);
        String::from_utf8(out[5..out.len() - 1].to_vec()).unwrap()
    }

    #[test]
    fn d25_only_what_differs_is_replayed() {
        let server = Reports::from_messages(
            &[
                status("TimeZone", "UTC"),
                status("DateStyle", "ISO, MDY"),
                status("is_superuser", "on"),
            ]
            .concat(),
        );
        let mut client = server.clone();
        assert!(!client.replay(&server, &mut BytesMut::new()));
        client.take_messages(&status("TimeZone", "Europe/Berlin"));
        assert_eq!(replayed(&client, &server), "SET TimeZone TO 'Europe/Berlin';");
    }

    #[test]
    fn literals_are_read_by_other_settings_for_a_moment() {
        let mut then = Reports::default();
        then.set("DateStyle", Bytes::from_static(br"ISO, \'"));
        let [set, undo] = then.local_reading(Some(&Reports::default()));
        assert_eq!(
            String::from_utf8_lossy(&set),
            r"SELECT WHERE pg_catalog.concat(pg_catalog.set_config('postern.DateStyle', pg_catalog.current_setting('DateStyle'), true), pg_catalog.set_config('DateStyle', E'ISO, \\''', true), '') IS NULL"
        );
        assert_eq!(
            String::from_utf8_lossy(&undo),
            "SELECT WHERE pg_catalog.concat(pg_catalog.set_config('DateStyle', \
             pg_catalog.current_setting('postern.DateStyle'), true), '') IS NULL"
        );
        let both = then.local_reading(None).map(|sql| String::from_utf8(sql.to_vec()).unwrap());
        let counts = both.map(|sql| sql.matches("set_config").count());
        assert_eq!(counts, [2 * READING.len(), READING.len()]);
    }

    #[test]
    fn d24_values_are_quoted_as_the_server_reads_them() {
        let mut client = Reports::default();
        client.set("application_name", Bytes::from_static(b"it's \\ here"));
        let standard = Reports::default();
        assert_eq!(replayed(&client, &standard), "SET application_name TO 'it''s \\ here';");
        let mut old = Reports::default();
        old.set("standard_conforming_strings", Bytes::from_static(b"off"));
        client.set("standard_conforming_strings", Bytes::from_static(b"off"));
        assert_eq!(replayed(&client, &old), "SET application_name TO 'it''s \\\\ here';");
        let empty = Reports::default();
        client = empty.clone();
        let mut named = Reports::default();
        named.set("application_name", Bytes::from_static(b"x"));
        assert_eq!(replayed(&client, &named), "SET application_name TO '';");
    }
}

//! The settings of a session beyond those that PostgreSQL reports: what a
//! client has set, and what is set on a server connection.
//!
//! Both are lists in the order of last assignment. A connection that changes
//! hands is taken from its list to the client's by exactly what differs
//! (decision 23): what the client has not set goes back to its default first,
//! as the role that the client has not; session authorization and role come
//! last, because they may take away the right to set the others. The whole is
//! one `SELECT`, so that it happens or does not.
//!
//! Values are kept in the encoding of the database and written with escapes
//! in ASCII, so that neither the client's encoding nor its reading of
//! backslashes changes them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::touched::{SettingName, Touched};

/// The most settings that are carried for one client.
const MOST_SETTINGS: usize = 64;
/// The most bytes of their values.
const MOST_BYTES: usize = 32 * 1024;

/// A setting and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: SettingName,
    /// Its value, in the encoding of the database; `None` where nobody has
    /// looked since it may have changed.
    pub value: Option<Bytes>,
}

/// The settings of a client, or on a server; a clone costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried(Option<Arc<[Setting]>>);

/// A client has set more than is carried for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// What takes a connection from one list to another: a setting, and the value
/// that it is given; `None` is its default.
type Step<'a> = (&'a [u8], Option<&'a Bytes>);

impl Carried {
    /// These settings.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn new(settings: Vec<Setting>) -> Result<Self, TooMany> {
        let value_length = |setting: &Setting| setting.value.as_ref().map_or(0, Bytes::len);
        let bytes: usize = settings.iter().map(value_length).sum();
        if settings.len() > MOST_SETTINGS || bytes > MOST_BYTES {
            return Err(TooMany);
        }
        Ok(Self((!settings.is_empty()).then(|| settings.into())))
    }

    /// The settings, the one assigned last at the end.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The value of a setting that is carried.
    #[must_use]
    pub fn value(&self, name: &[u8]) -> Option<&Bytes> {
        self.find(name).and_then(|setting| setting.value.as_ref())
    }

    fn find(&self, name: &[u8]) -> Option<&Setting> {
        self.settings().iter().find(|setting| setting.name.as_bytes() == name)
    }

    /// Whether both are one list: true for nearly every hand-over, and for
    /// nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// These settings without those that a text is about to give a value
    /// itself.
    #[must_use]
    pub fn without(&self, touched: &Touched) -> Self {
        let kept = self.settings().iter().filter(|setting| !touched.touches(&setting.name));
        let kept: Vec<_> = kept.cloned().collect();
        Self((!kept.is_empty()).then(|| kept.into()))
    }

    /// What is on a connection whose client has left without anybody looking:
    /// the values of what it touched are not known.
    #[must_use]
    pub fn spoiled(&self, touched: &Touched) -> Self {
        let unknown = |name: &SettingName| Setting { name: name.clone(), value: None };
        let mut spoiled: Vec<_> = self.without(touched).settings().to_vec();
        let touched_here = self.settings().iter().map(|setting| &setting.name);
        let touched_here = touched_here.filter(|name| touched.touches(name));
        let new = touched.names().iter().filter(|name| self.find(name.as_bytes()).is_none());
        spoiled.extend(touched_here.chain(new).map(unknown));
        Self((!spoiled.is_empty()).then(|| spoiled.into()))
    }

    /// The settings that decide what a statement's text means once it is
    /// prepared (decision 26), for its identity.
    #[must_use]
    pub fn meaning(&self) -> Vec<u8> {
        const MEANING: [&[u8]; 10] = [
            b"search_path",
            b"role",
            b"session_authorization",
            b"row_security",
            b"backslash_quote",
            b"transform_null_equals",
            b"array_nulls",
            b"xmloption",
            b"lc_monetary",
            b"default_text_search_config",
        ];
        let mut meaning = Vec::new();
        for name in MEANING {
            if let Some(value) = self.value(name) {
                meaning.extend([name, b"\0", value, b"\0"].concat());
            }
        }
        meaning
    }

    /// Appends one `SELECT` that makes a connection with `server` equal to
    /// these, and says whether there is anything to do.
    pub fn replay(&self, server: &Self, out: &mut BytesMut) -> bool {
        if self.is_same(server) {
            return false;
        }
        let steps = self.steps(server);
        for (at, (name, value)) in steps.iter().enumerate() {
            let start: &[u8] =
                if at == 0 { b"SELECT pg_catalog.set_config(" } else { b",pg_catalog.set_config(" };
            out.put_slice(start);
            put_literal(out, name);
            out.put_u8(b',');
            match value {
                Some(value) => put_literal(out, value),
                None => out.put_slice(b"NULL"),
            }
            out.put_slice(b",false)");
        }
        !steps.is_empty()
    }

    fn steps<'a>(&'a self, server: &'a Self) -> Vec<Step<'a>> {
        let differs = |setting: &&Setting| {
            setting.value.is_none() || server.find(setting.name.as_bytes()) != Some(*setting)
        };
        let wanted: Vec<_> = self.settings().iter().filter(differs).collect();
        let unwanted = |setting: &&Setting| self.find(setting.name.as_bytes()).is_none();
        let unwanted: Vec<_> = server.settings().iter().filter(unwanted).collect();
        if wanted.is_empty() && unwanted.is_empty() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        // What the server's role may not do, nor the client's, the one that
        // logged in may.
        for name in [&b"role"[..], b"session_authorization"] {
            if server.find(name).is_some() {
                steps.push((name, None));
            }
        }
        let plain = |setting: &&&Setting| !is_identity(&setting.name);
        steps.extend(unwanted.iter().filter(plain).map(|s| (s.name.as_bytes(), None)));
        steps.extend(wanted.iter().filter(plain).map(|s| (s.name.as_bytes(), s.value.as_ref())));
        for name in [&b"session_authorization"[..], b"role"] {
            if let Some(setting) = self.find(name) {
                steps.push((name, setting.value.as_ref()));
            }
        }
        steps
    }
}

fn is_identity(name: &SettingName) -> bool {
    name.is_role() || name.is_session_authorization()
}

/// A string constant that means the same bytes to every server, whatever its
/// settings and the client's encoding.
pub fn put_literal(out: &mut BytesMut, value: &[u8]) {
    out.put_slice(b"E'");
    for &byte in value {
        match byte {
            b'\'' => out.put_slice(b"''"),
            b'\\' => out.put_slice(b"\\\\"),
            b' '..=b'~' => out.put_u8(byte),
            _ => {
                let digit = |shift: u8| b'0' + (byte >> shift & 7);
                out.put_slice(&[b'\\', digit(6), digit(3), digit(0)]);
            }
        }
    }
    out.put_u8(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(settings: &[(&str, &str)]) -> Carried {
        let setting = |(name, value): &(&str, &str)| Setting {
            name: SettingName::new(name.as_bytes()).unwrap(),
            value: (*value != "?").then(|| Bytes::copy_from_slice(value.as_bytes())),
        };
        Carried::new(settings.iter().map(setting).collect()).unwrap()
    }

    fn replay(client: &[(&str, &str)], server: &[(&str, &str)]) -> String {
        let mut out = BytesMut::new();
        let (client, server) = (carried(client), carried(server));
        assert_eq!(client.replay(&server, &mut out), !out.is_empty());
        let text = String::from_utf8(out.to_vec()).unwrap();
        text.replace("pg_catalog.set_config", "set").replace(",false)", ")")
    }

    #[test]
    fn d25_only_settings_that_differ_are_replayed() {
        assert_eq!(replay(&[], &[]), "");
        assert_eq!(replay(&[("a", "1"), ("b", "2")], &[("b", "2"), ("a", "1")]), "");
        assert_eq!(
            replay(&[("a", "1"), ("b", "2")], &[("a", "1"), ("c", "3")]),
            "SELECT set(E'c',NULL),set(E'b',E'2')"
        );
        assert_eq!(replay(&[], &[("a", "?")]), "SELECT set(E'a',NULL)");
    }

    #[test]
    fn the_role_goes_first_and_comes_last() {
        assert_eq!(
            replay(
                &[("role", "r"), ("session_authorization", "s"), ("a", "1")],
                &[("role", "old"), ("b", "2")]
            ),
            "SELECT set(E'role',NULL),set(E'b',NULL),set(E'a',E'1'),\
             set(E'session_authorization',E's'),set(E'role',E'r')"
        );
        assert_eq!(replay(&[], &[("role", "old")]), "SELECT set(E'role',NULL)");
    }

    #[test]
    fn d24_values_are_written_so_that_nothing_changes_them() {
        assert_eq!(
            replay(&[("a", "it's \\ \"é\"\n"), ("b", "")], &[]),
            "SELECT set(E'a',E'it''s \\\\ \"\\303\\251\"\\012'),set(E'b',E'')"
        );
    }

    #[test]
    fn a_client_that_left_leaves_doubt_behind() {
        let mut touched = Touched::NOTHING;
        assert!(touched.insert(SettingName::new(b"b").unwrap()));
        assert!(touched.insert(SettingName::new(b"c").unwrap()));
        let left = carried(&[("a", "1"), ("b", "2")]).spoiled(&touched);
        assert_eq!(left, carried(&[("a", "1"), ("b", "?"), ("c", "?")]));
    }

    #[test]
    fn a_client_is_carried_only_so_much_for() {
        let setting = |n: usize, value: &[u8]| Setting {
            name: SettingName::new(format!("a.n{n}").as_bytes()).unwrap(),
            value: Some(Bytes::copy_from_slice(value)),
        };
        let many = (0..=MOST_SETTINGS).map(|n| setting(n, b"")).collect();
        assert_eq!(Carried::new(many), Err(TooMany));
        assert_eq!(Carried::new(vec![setting(0, &[b'x'; MOST_BYTES + 1])]), Err(TooMany));
    }
}

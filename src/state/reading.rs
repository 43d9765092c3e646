//! The one query behind a transaction that may have changed the session: what
//! are the settings now, and is what holds the client to its connection still
//! there (decisions 23 and 27)?
//!
//! It names everything with its schema, because the client's `search_path` is
//! in force. Values come in hexadecimal digits and in the encoding of the
//! database, so that no setting of the client changes how they look.

use bytes::{BufMut, Bytes, BytesMut};

use super::carried::{Carried, Setting, TooMany, put_literal};
use super::touched::{SettingName, Touched};
use crate::domain::{PinReason, Pins};

/// What to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Settings, in the order of their last assignment.
    names: Vec<SettingName>,
    /// Whether a setting may be at its default.
    exact: bool,
    /// Reasons of which the server knows whether they are still there.
    pins: Pins,
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the client has set now.
    pub carried: Carried,
    /// Those of the reasons that were asked for which are still there.
    pub pins: Pins,
}

/// An answer that cannot be understood, or is too much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclear;

impl From<TooMany> for Unclear {
    fn from(_: TooMany) -> Self {
        Self
    }
}

impl Question {
    /// What to ask about a client with these settings that has touched some,
    /// and has these reasons to be pinned; `undone` if something may have been
    /// rolled back.
    #[must_use]
    pub fn new(carried: &Carried, touched: &Touched, pins: Pins, undone: bool) -> Self {
        let known = carried.settings().iter().map(|setting| &setting.name);
        let known = known.filter(|name| touched.all_reset && touched.touches(name));
        let known = known.filter(|name| !touched.names().contains(name));
        let names: Vec<_> = known.chain(touched.names()).cloned().collect();
        let maybe_unset = undone || touched.all_reset || touched.maybe_unset;
        let exact = maybe_unset && names.iter().any(has_source);
        let pins = pins.iter().filter(|reason| check_of(*reason).is_some()).collect();
        Self { names, exact, pins }
    }

    /// Whether these reasons are there.
    #[must_use]
    pub fn of_pins(pins: Pins) -> Self {
        Self { pins, ..Self::default() }
    }

    /// The reasons that are asked for.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.pins
    }

    /// Whether there is nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.pins.is_empty()
    }

    /// Appends the SQL that asks it: one row, one column for each name and
    /// each reason.
    pub fn put_sql(&self, out: &mut BytesMut) {
        if self.exact {
            out.put_slice(
                b"WITH s AS MATERIALIZED (SELECT pg_catalog.lower(name) AS n \
                  FROM pg_catalog.pg_show_all_settings() \
                  WHERE source OPERATOR(pg_catalog.=) 'session') ",
            );
        }
        let mut separator: &[u8] = b"SELECT ";
        for name in &self.names {
            out.put_slice(separator);
            separator = b",";
            self.put_value(name, out);
        }
        for check in self.pins.iter().filter_map(check_of) {
            out.put_slice(separator);
            separator = b",";
            out.put_slice(check.as_bytes());
        }
    }

    fn put_value(&self, name: &SettingName, out: &mut BytesMut) {
        let only_if_set = self.exact && has_source(name);
        if only_if_set {
            out.put_slice(b"CASE WHEN EXISTS(SELECT FROM s WHERE n OPERATOR(pg_catalog.=) ");
            put_literal(out, name.as_bytes());
            out.put_slice(b") THEN ");
        }
        out.put_slice(b"pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(");
        put_literal(out, name.as_bytes());
        out.put_slice(b",true),pg_catalog.getdatabaseencoding()),'hex')");
        if only_if_set {
            out.put_slice(b" END");
        }
    }

    /// What the server has said, given the body of its `DataRow` and what the
    /// client carried before.
    ///
    /// # Errors
    /// [`Unclear`].
    pub fn reply(&self, row: &[u8], carried: &Carried) -> Result<Reply, Unclear> {
        let mut columns = columns(row).ok_or(Unclear)?;
        let is_asked = |setting: &&Setting| self.names.contains(&setting.name);
        let kept = carried.settings().iter().filter(|setting| !is_asked(setting));
        let mut settings: Vec<_> = kept.cloned().collect();
        for name in &self.names {
            if let Some(digits) = columns.next().ok_or(Unclear)? {
                let value = Some(from_hex(digits).ok_or(Unclear)?);
                settings.push(Setting { name: name.clone(), value });
            }
        }
        let mut pins = Pins::NONE;
        for reason in self.pins.iter() {
            if columns.next().ok_or(Unclear)? != Some(b"f") {
                pins.insert(reason);
            }
        }
        Ok(Reply { carried: Carried::new(settings)?, pins })
    }
}

/// Whether the server tells where the value of this setting comes from.
fn has_source(name: &SettingName) -> bool {
    !name.is_custom() && !name.is_role() && !name.is_session_authorization()
}

/// The expression that is true while the state is there; `None` where no
/// server can say.
fn check_of(reason: PinReason) -> Option<&'static str> {
    match reason {
        PinReason::Listen => Some("EXISTS(SELECT FROM pg_catalog.pg_listening_channels())"),
        PinReason::SqlPrepare => Some(
            "EXISTS(SELECT FROM pg_catalog.pg_prepared_statement() AS p \
             WHERE NOT pg_catalog.starts_with(p.name,'postern_'))",
        ),
        PinReason::TemporaryObject => Some(
            "(EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615 \
             AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
             OR EXISTS(SELECT FROM pg_catalog.pg_get_replication_slots() AS r WHERE r.temporary \
             AND r.active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()))",
        ),
        PinReason::AdvisoryLock => Some(
            "EXISTS(SELECT FROM pg_catalog.pg_lock_status() AS l \
             WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' \
             AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
        ),
        PinReason::HeldCursor => {
            Some("EXISTS(SELECT FROM pg_catalog.pg_cursor() AS c WHERE c.is_holdable)")
        }
        PinReason::ReplicationOrigin => Some("pg_catalog.pg_replication_origin_session_is_setup()"),
        PinReason::Setting
        | PinReason::Load
        | PinReason::Sequence
        | PinReason::Backup
        | PinReason::Unparsed => None,
    }
}

/// The body of a `DataRow`, for tests.
#[cfg(test)]
pub(super) fn row(columns: &[Option<&str>]) -> Vec<u8> {
    let mut row = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for column in columns {
        let length = column.map_or(-1, |text| i32::try_from(text.len()).unwrap());
        row.extend(length.to_be_bytes());
        row.extend(column.unwrap_or_default().as_bytes());
    }
    row
}

/// The columns of a `DataRow`, from its body.
#[must_use]
pub fn columns(row: &[u8]) -> Option<impl Iterator<Item = Option<&[u8]>>> {
    let (count, mut rest) = row.split_first_chunk()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (column, behind) = behind.split_at_checked(length.unwrap_or(0))?;
        columns.push(length.map(|_| column));
        rest = behind;
    }
    Some(columns.into_iter())
}

pub(super) fn from_hex(digits: &[u8]) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |[a, b]: &[u8; 2]| u8::try_from(digit(*a)? << 4 | digit(*b)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SettingName {
        SettingName::new(text.as_bytes()).unwrap()
    }

    fn carried(settings: &[(&str, &str)]) -> Carried {
        let setting = |(key, value): &(&str, &str)| Setting {
            name: name(key),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        Carried::new(settings.iter().map(setting).collect()).unwrap()
    }

    #[test]
    fn what_was_touched_comes_last_and_the_rest_stays() {
        let mut touched = Touched::NOTHING;
        assert!(touched.insert(name("b")));
        assert!(touched.insert(name("c")));
        let before = carried(&[("a", "1"), ("b", "2"), ("d", "4")]);
        let question = Question::new(&before, &touched, PinReason::Listen.into(), false);
        let reply = question.reply(&row(&[Some("78"), None, Some("f")]), &before);
        let expected = carried(&[("a", "1"), ("d", "4"), ("b", "x")]);
        assert_eq!(reply, Ok(Reply { carried: expected, pins: Pins::NONE }));
        let held = question.reply(&row(&[Some("78"), None, Some("t")]), &before).unwrap();
        assert_eq!(held.pins, PinReason::Listen.into());
    }

    #[test]
    fn after_a_reset_of_all_everything_is_asked_for_but_the_role() {
        let mut touched = Touched::NOTHING;
        touched.all_reset = true;
        let before = carried(&[("a", "1"), ("role", "r")]);
        let question = Question::new(&before, &touched, Pins::NONE, false);
        let reply = question.reply(&row(&[None]), &before).unwrap();
        assert_eq!(reply.carried, carried(&[("role", "r")]));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_not_guessed_at() {
        let mut touched = Touched::NOTHING;
        assert!(touched.insert(name("b")));
        let question = Question::new(&Carried::default(), &touched, Pins::NONE, false);
        let whole = row(&[Some("7879")]);
        for length in 0..whole.len() {
            assert_eq!(question.reply(&whole[..length], &Carried::default()), Err(Unclear));
        }
        assert_eq!(question.reply(&row(&[]), &Carried::default()), Err(Unclear));
        assert_eq!(question.reply(&row(&[Some("7")]), &Carried::default()), Err(Unclear));
        assert!(question.reply(&whole, &Carried::default()).is_ok());
    }
}

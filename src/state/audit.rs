//! The audit of decision 28: what is really left on a server connection that
//! is about to change hands, beside what Postern believes.
//!
//! Everything is asked of the server by one query that names everything with
//! its schema. What the server does not show is not audited: the unnamed
//! statement, sequences that were used, libraries that were loaded, and custom
//! settings, which it shows to nobody who does not know their names.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};

use super::carried::Carried;
use super::reading::{Question, columns};
use super::reports::REPLAYED;
use super::settings::OF_TRANSACTION;
use super::statements::{ServerStatements, shared_name};
use crate::domain::{PinReason, Pins};

/// What Postern believes of a connection on which nobody keeps anything.
#[derive(Debug)]
pub struct Belief<'a> {
    /// The role that logged in on it.
    pub login: &'a [u8],
    /// The settings that were set.
    pub carried: &'a Carried,
    /// The statements that were prepared.
    pub statements: &'a ServerStatements,
}

/// Appends the SQL of the audit: one row.
pub fn put_sql(out: &mut BytesMut) {
    out.put_slice(
        b"SELECT (SELECT pg_catalog.string_agg(pg_catalog.concat(pg_catalog.lower(name),'=',\
          pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(name,true),\
          pg_catalog.getdatabaseencoding()),'hex')),' ') FROM pg_catalog.pg_show_all_settings() \
          WHERE source OPERATOR(pg_catalog.=) 'session'),\
          pg_catalog.current_setting('role'),session_user,\
          (SELECT pg_catalog.string_agg(p.name,' ') FROM pg_catalog.pg_prepared_statement() AS p \
          WHERE pg_catalog.starts_with(p.name,'postern_'))",
    );
    let mut check = BytesMut::new();
    held().put_sql(&mut check);
    out.put_u8(b',');
    out.put_slice(check.strip_prefix(b"SELECT ").unwrap_or(&check));
}

/// What nobody keeps, if nothing is wrong.
fn held() -> Question {
    let reasons = [
        PinReason::Listen,
        PinReason::SqlPrepare,
        PinReason::TemporaryObject,
        PinReason::AdvisoryLock,
        PinReason::HeldCursor,
    ];
    Question::of_pins(reasons.into_iter().collect())
}

/// In what the server differs from what is believed of it, given the body of
/// the row; empty if in nothing.
#[must_use]
pub fn differences(row: &[u8], belief: &Belief<'_>) -> Vec<String> {
    let Some(columns) = columns(row) else { return vec!["answer".to_owned()] };
    let columns: Vec<_> = columns.collect();
    let [settings, role, session, statements, held @ ..] = &columns[..] else {
        return vec!["answer".to_owned()];
    };
    let mut differences = different_settings(settings.unwrap_or_default(), belief.carried);
    if role.unwrap_or_default() != value_or(belief.carried, "role", b"none") {
        differences.push("role".to_owned());
    }
    let session_user = value_or(belief.carried, "session_authorization", belief.login);
    if session.unwrap_or_default() != session_user {
        differences.push("session_authorization".to_owned());
    }
    if different_statements(statements.unwrap_or_default(), belief.statements) {
        differences.push("prepared statements".to_owned());
    }
    let held = held_of(held);
    differences.extend(held.iter().map(|reason| reason.label().to_owned()));
    differences
}

fn held_of(columns: &[Option<&[u8]>]) -> Pins {
    let reasons = held().pins();
    let kept = reasons.iter().zip(columns).filter(|(_, column)| **column != Some(b"f"));
    kept.map(|(reason, _)| reason).collect()
}

fn value_or<'a>(carried: &'a Carried, name: &str, otherwise: &'a [u8]) -> &'a [u8] {
    carried.value(name.as_bytes()).map_or(otherwise, |value| value)
}

/// The names of settings that are set on one side only, or differently.
fn different_settings(settings: &[u8], carried: &Carried) -> Vec<String> {
    let of_server = settings.split(|byte| *byte == b' ').filter(|pair| !pair.is_empty());
    let is_elsewhere = |pair: &&[u8]| {
        let is =
            |name: &&str| pair.starts_with(format!("{}=", name.to_ascii_lowercase()).as_bytes());
        REPLAYED.iter().chain(&OF_TRANSACTION).any(is)
    };
    let of_server: BTreeSet<_> =
        of_server.filter(|pair| !is_elsewhere(pair)).map(<[u8]>::to_vec).collect();
    let shown =
        |name: &[u8]| !name.contains(&b'.') && !matches!(name, b"role" | b"session_authorization");
    let believed = carried.settings().iter().filter(|setting| shown(setting.name.as_bytes()));
    let believed: BTreeSet<_> = believed
        .map(|setting| {
            let digits = setting.value.iter().flatten().map(|byte| format!("{byte:02x}"));
            [setting.name.as_bytes(), b"=", digits.collect::<String>().as_bytes()].concat()
        })
        .collect();
    let is_extensions = |pair: &[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        !shown(name) && carried.value(name).is_some()
    };
    let names = of_server.symmetric_difference(&believed).filter(|pair| !is_extensions(pair));
    let names: BTreeSet<_> = names
        .map(|pair| String::from_utf8_lossy(pair).split('=').next().unwrap_or_default().to_owned())
        .collect();
    names.into_iter().collect()
}

fn different_statements(names: &[u8], believed: &ServerStatements) -> bool {
    let there: BTreeSet<_> = names
        .split(|byte| *byte == b' ')
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let believed: BTreeSet<_> = believed.ids().map(|id| shared_name(id).into_bytes()).collect();
    there != believed
}

/// What a log line calls a statement: equal for texts that differ only in
/// their constants, and telling nothing of them.
#[must_use]
pub fn fingerprint(text: &[u8], standard_conforming_strings: bool) -> String {
    use std::fmt::Write as _;

    use super::lexer::{Kind, Tokens};

    let mut shape = Vec::new();
    for token in Tokens::new(text, standard_conforming_strings) {
        match token.kind {
            Kind::Word => shape.extend(token.text.to_ascii_lowercase()),
            Kind::Number | Kind::Parameter => shape.push(b'?'),
            _ if token.is_string() => shape.push(b'?'),
            _ => shape.extend_from_slice(token.text),
        }
        shape.push(b' ');
    }
    let hash = super::statements::hash(&[&shape]);
    hash[..8].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::carried::Setting;
    use super::super::reading::row;
    use super::super::touched::SettingName;
    use super::*;

    fn carried(settings: &[(&str, &str)]) -> Carried {
        let setting = |(name, value): &(&str, &str)| Setting {
            name: SettingName::new(name.as_bytes()).unwrap(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        Carried::new(settings.iter().map(setting).collect()).unwrap()
    }

    fn compare(carried: &Carried, columns: [Option<&str>; 4], held: [&str; 5]) -> String {
        let statements = ServerStatements::new(1, crate::state::schema::SchemaAge::default());
        let belief = Belief { login: b"me", carried, statements: &statements };
        let all: Vec<_> = columns.into_iter().chain(held.map(Some)).collect();
        differences(&row(&all), &belief).join(",")
    }

    const NONE: [&str; 5] = ["f"; 5];

    #[test]
    fn d28_a_difference_is_named() {
        let plain = [None, Some("none"), Some("me"), None];
        assert_eq!(compare(&carried(&[]), plain, NONE), "");
        let set = carried(&[("work_mem", "1"), ("a.b", "x"), ("role", "r")]);
        let as_set = [Some("timezone=00 work_mem=31"), Some("r"), Some("me"), None];
        assert_eq!(compare(&set, as_set, NONE), "");
        assert_eq!(compare(&carried(&[]), as_set, NONE), "work_mem,role");
        assert_eq!(compare(&set, plain, NONE), "work_mem,role");
        let other = [None, Some("none"), Some("you"), Some("postern_00")];
        assert_eq!(
            compare(&carried(&[]), other, ["t", "f", "f", "t", "f"]),
            "session_authorization,prepared statements,listen,advisory_lock"
        );
        let statements = ServerStatements::new(1, crate::state::schema::SchemaAge::default());
        let nothing = Belief { login: b"", carried: &carried(&[]), statements: &statements };
        assert_eq!(differences(b"\0", &nothing), ["answer"]);
    }

    #[test]
    fn fingerprints_leave_constants_out() {
        let print = |text: &str| fingerprint(text.as_bytes(), true);
        assert_eq!(print("SELECT 1, 'secret'"), print("select  2 ,'other' -- x"));
        assert_ne!(print("SELECT a"), print("SELECT b"));
        assert_eq!(print("").len(), 16);
    }
}

//! Reads the tables of a TOML file key by key.
//!
//! A table is what the user wrote; a [`Section`] turns its keys into what the
//! program means, one `section.or("key", default)` each, and nothing is
//! learned about a key anywhere else: its name, its type, its default and its
//! limits stand in one line. What must stay true:
//!
//! * nothing stops at the first problem: a key that cannot be read is
//!   reported and stands for its default until the reading ends;
//! * a key that nobody asked for is refused, with the nearest one that exists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;
use toml::{Table, Value};

use super::problems::{Problem, Problems};
use super::value::{self, Setting};

/// One reading of one file: where its relative paths begin, and what has been
/// found so far.
#[derive(Default)]
pub(super) struct Reading {
    base: PathBuf,
    found: RefCell<Found>,
    /// Reads one empty section where a list of sections is empty, so that a
    /// reading of nothing meets every key.
    survey: bool,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    known: Vec<KnownKey>,
    unknown: Vec<UnknownKey>,
}

/// A key that the reader asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KnownKey {
    /// As in `services[].name`.
    pub(super) pattern: String,
    /// Whether the program has a value for it when the user has none.
    pub(super) has_default: bool,
}

struct UnknownKey {
    key: String,
    name: String,
    siblings: Vec<&'static str>,
}

impl Reading {
    /// A reading of a file whose relative paths begin at `base`.
    pub(super) fn new(base: PathBuf) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// Reads the file's text. `None` if it is no TOML.
    pub(super) fn read<T>(&self, text: &str, read: impl FnOnce(&mut Section) -> T) -> Option<T> {
        let root = Place::root(self);
        match text.parse::<Table>() {
            Ok(table) => Some(read_section(root, table, read)),
            Err(error) => {
                for error in syntax_errors(text, error).values() {
                    root.problem(error);
                }
                None
            }
        }
    }

    /// What was read, with the warnings, if there is no problem.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        let mut found = self.found.into_inner();
        for unknown in &found.unknown {
            let text = value::unknown_key(&unknown.name, &unknown.siblings, &found.known);
            found.problems.push(Problem::new(&unknown.key, text));
        }
        match value {
            Some(value) if found.problems.is_empty() => Ok((value, found.warnings)),
            _ => Err(Problems::new(found.problems)),
        }
    }

    /// Every key that this reader knows, sorted.
    #[cfg(test)]
    pub(super) fn survey<T>(read: impl FnOnce(&mut Section) -> T) -> Vec<KnownKey> {
        let reading = Self {
            survey: true,
            ..Self::default()
        };
        reading.read("", read);
        let mut known = reading.found.into_inner().known;
        known.sort();
        known
    }
}

/// So many errors of the parser are looked at; a file with more is no
/// configuration.
const MAX_SYNTAX_ERRORS: usize = 100;

/// What the parser says, with line and column counted from 1: the first error
/// of each line, because the others tend to follow from it.
fn syntax_errors(text: &str, error: toml::de::Error) -> BTreeMap<usize, String> {
    let (_, mut all) = DeTable::parse_recoverable(text);
    all.push(error);
    all.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut lines = BTreeMap::new();
    for error in all.into_iter().take(MAX_SYNTAX_ERRORS) {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let message = error.message();
        let error = format!("line {line}, column {column}: {message}");
        lines.entry(line).or_insert(error);
    }
    lines
}

/// A place in the file: where a problem is reported.
#[derive(Clone)]
pub(super) struct Place<'r> {
    reading: &'r Reading,
    key: String,
}

impl<'r> Place<'r> {
    fn root(reading: &'r Reading) -> Self {
        Self {
            reading,
            key: String::new(),
        }
    }

    /// The place of a key below this one.
    pub(super) fn at(&self, key: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        self.with_key(format!("{}{dot}{key}", self.key))
    }

    /// The place of an element of the list here.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with_key(format!("{}[{index}]", self.key))
    }

    fn with_key(&self, key: String) -> Self {
        Self {
            reading: self.reading,
            key,
        }
    }

    /// The path of the key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Reports what is wrong here.
    pub(super) fn problem(&self, text: impl Display) {
        let problem = Problem::new(&self.key, text.to_string());
        self.reading.found.borrow_mut().problems.push(problem);
    }

    /// Reports what is odd here, but keeps nothing from starting.
    pub(super) fn warning(&self, text: impl Display) {
        let warning = Problem::new(&self.key, text.to_string());
        self.reading.found.borrow_mut().warnings.push(warning);
    }

    /// A path as meant: a relative one begins where the file lies.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.reading.base.join(path)
    }

    fn know(&self, has_default: bool) {
        let known = KnownKey {
            pattern: without_indices(&self.key),
            has_default,
        };
        let mut found = self.reading.found.borrow_mut();
        if !found.known.contains(&known) {
            found.known.push(known);
        }
    }

    fn unknown(&self, name: String, siblings: &[&'static str]) {
        let unknown = UnknownKey {
            key: self.at(&name).key,
            name,
            siblings: siblings.to_vec(),
        };
        self.reading.found.borrow_mut().unknown.push(unknown);
    }
}

/// `services[12].name` → `services[].name`
fn without_indices(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !(inside && c.is_ascii_digit())
        })
        .collect()
}

/// A table whose keys are taken one by one.
pub(super) struct Section<'r> {
    place: Place<'r>,
    table: Table,
    known: Vec<&'static str>,
}

/// Reads a table and refuses what is left of it.
fn read_section<'r, T>(
    place: Place<'r>,
    table: Table,
    read: impl FnOnce(&mut Section<'r>) -> T,
) -> T {
    let mut section = Section {
        place,
        table,
        known: Vec::new(),
    };
    let value = read(&mut section);
    for (name, _) in section.table {
        section.place.unknown(name, &section.known);
    }
    value
}

impl<'r> Section<'r> {
    /// The place of one of this section's keys.
    pub(super) fn at(&self, key: &str) -> Place<'r> {
        self.place.at(key)
    }

    /// A key that may be absent.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.at(key).know(false);
        let (value, place) = self.take(key)?;
        T::read(&value, &place)
    }

    /// A key with a default.
    pub(super) fn or<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.at(key).know(true);
        let Some((value, place)) = self.take(key) else {
            return default;
        };
        T::read(&value, &place).unwrap_or(default)
    }

    /// A key that must be there.
    pub(super) fn required<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            let missing = format!("is missing; expected {}", T::EXPECTED);
            self.at(key).problem(missing);
        }
        self.optional(key)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        self.at(key).know(true);
        let Some((value, place)) = self.take(key) else {
            return default;
        };
        value::choice(&value, &place, choices).unwrap_or(default)
    }

    /// A whole number within limits.
    pub(super) fn number<T: value::Number>(
        &mut self,
        key: &'static str,
        default: T,
        limits: RangeInclusive<T>,
    ) -> T {
        self.at(key).know(true);
        self.limited(key, limits).unwrap_or(default)
    }

    /// A whole number within limits that must be there.
    pub(super) fn required_number<T: value::Number>(
        &mut self,
        key: &'static str,
        limits: RangeInclusive<T>,
    ) -> Option<T> {
        self.at(key).know(false);
        if !self.table.contains_key(key) {
            let expected = value::within(&limits);
            self.at(key)
                .problem(format!("is missing; expected {expected}"));
        }
        self.limited(key, limits)
    }

    fn limited<T: value::Number>(
        &mut self,
        key: &'static str,
        limits: RangeInclusive<T>,
    ) -> Option<T> {
        let (value, place) = self.take(key)?;
        value::number(&value, &place, limits)
    }

    /// A span of time within limits. Where 0 is within them, it means off.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        limits: RangeInclusive<Duration>,
    ) -> Duration {
        self.at(key).know(true);
        let Some((value, place)) = self.take(key) else {
            return default;
        };
        value::duration(&value, &place, limits).unwrap_or(default)
    }

    /// The section of this name; an absent one is empty.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> T {
        let table = match self.take(key) {
            None => Table::new(),
            Some((Value::Table(table), _)) => table,
            Some((other, place)) => {
                let found = value::found(&other);
                place.problem(format!("expected a section [{}], found {found}", place.key));
                Table::new()
            }
        };
        read_section(self.at(key), table, read)
    }

    /// The list of sections of this name.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'r>) -> Option<T>,
    ) -> Vec<T> {
        let list = self.tables(key);
        let place = self.at(key);
        let read_one = |(index, table)| read_section(place.index(index), table, &mut read);
        list.into_iter().enumerate().filter_map(read_one).collect()
    }

    fn tables(&mut self, key: &'static str) -> Vec<Table> {
        if self.place.reading.survey {
            return vec![Table::new()];
        }
        let Some((value, place)) = self.take(key) else {
            return Vec::new();
        };
        let table = |value: &Value| value.as_table().cloned();
        let list = value.as_array().map(|list| list.iter().map(table));
        list.and_then(Iterator::collect).unwrap_or_else(|| {
            let found = value::found(&value);
            place.problem(format!(
                "expected sections [[{}]], found {found}",
                place.key
            ));
            Vec::new()
        })
    }

    fn take(&mut self, key: &'static str) -> Option<(Value, Place<'r>)> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        Some((value, self.at(key)))
    }
}

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

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::reading::{Place, Reading};
use super::value::{self, Setting};
use super::{syntax, wording};

/// Reads a file's text. `None` if it is no TOML.
pub(super) fn read_file<'r, T>(
    reading: &'r Reading,
    text: &str,
    read: impl FnOnce(&mut Section<'r>) -> T,
) -> Option<T> {
    let root = Place::root(reading);
    let report = |errors: Vec<String>| errors.iter().for_each(|error| root.problem(error));
    let table = syntax::table(text).map_err(report).ok()?;
    Some(read_section(root, table, read))
}

/// Reads a table and refuses what is left of it.
fn read_section<'r, T>(
    place: Place<'r>,
    table: Table,
    read: impl FnOnce(&mut Section<'r>) -> T,
) -> T {
    let mut section = Section { place, table, known: Vec::new() };
    let value = read(&mut section);
    for (name, _) in section.table {
        section.place.unknown(name, &section.known);
    }
    value
}

/// A table whose keys are taken one by one.
pub(super) struct Section<'r> {
    place: Place<'r>,
    table: Table,
    known: Vec<&'static str>,
}

impl<'r> Section<'r> {
    /// The place of one of this section's keys.
    pub(super) fn at(&self, key: &str) -> Place<'r> {
        self.place.at(key)
    }

    /// Whether the user wrote this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
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
        if !self.has(key) {
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
        if !self.has(key) {
            let expected = value::within(&limits);
            self.at(key).problem(format!("is missing; expected {expected}"));
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
                let found = wording::found(&other);
                place.problem(format!("expected a section, found {found}"));
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
        if self.place.is_surveyed() {
            return vec![Table::new()];
        }
        let Some((value, place)) = self.take(key) else {
            return Vec::new();
        };
        let table = |value: &Value| value.as_table().cloned();
        let list = value.as_array().map(|list| list.iter().map(table));
        list.and_then(Iterator::collect).unwrap_or_else(|| {
            let found = wording::found(&value);
            place.problem(format!("expected sections [[{}]], found {found}", place.key()));
            Vec::new()
        })
    }

    fn take(&mut self, key: &'static str) -> Option<(Value, Place<'r>)> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        Some((value, self.at(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::refused;

    #[test]
    fn sections_and_lists_of_them_are_told_apart() {
        refused("tls = 5", &["tls: expected a section, found 5"]);
        refused(
            "[services]\nname = \"orders\"",
            &["services: expected sections [[services]], found a section"],
        );
        refused("[[log]]", &["log: expected a section, found a list"]);
        refused("services = [5]", &["services: expected sections [[services]], found a list"]);
    }
}

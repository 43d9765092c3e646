//! One reading of one file: where things stand in it, and what is found there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;

use super::problems::{Problem, Problems};
use super::wording;

/// One reading of one file: where its relative paths begin, and what has been
/// found so far.
#[derive(Default)]
pub(super) struct Reading {
    base: PathBuf,
    found: RefCell<Found>,
    /// Lists of sections are read as if they held an empty one, so that a
    /// reading of nothing meets every key.
    survey: bool,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Asked for again with every service, so that looking one up is quick.
    known: BTreeSet<KnownKey>,
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
        Self { base, ..Self::default() }
    }

    /// A reading that is after the keys alone.
    #[cfg(test)]
    pub(super) fn survey() -> Self {
        Self { survey: true, ..Self::default() }
    }

    /// Every key that was asked for, sorted.
    #[cfg(test)]
    pub(super) fn into_known(self) -> BTreeSet<KnownKey> {
        self.found.into_inner().known
    }

    /// What was read, with the warnings, if there is no problem.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        let mut found = self.found.into_inner();
        let patterns: Vec<&str> = found.known.iter().map(|key| key.pattern.as_str()).collect();
        for unknown in &found.unknown {
            let text = wording::unknown_key(&unknown.name, &unknown.siblings, &patterns);
            found.problems.push(Problem::new(&unknown.key, &text));
        }
        match value {
            Some(value) if found.problems.is_empty() => Ok((value, found.warnings)),
            _ => Err(Problems::new(found.problems)),
        }
    }
}

/// A place in the file: where a problem is reported.
#[derive(Clone)]
pub(super) struct Place<'r> {
    reading: &'r Reading,
    key: String,
}

impl<'r> Place<'r> {
    /// The file as a whole.
    pub(super) fn root(reading: &'r Reading) -> Self {
        Self { reading, key: String::new() }
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
        Self { reading: self.reading, key }
    }

    /// The path of the key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Reports what is wrong here.
    pub(super) fn problem(&self, text: impl Display) {
        let problem = Problem::new(&self.key, &text.to_string());
        self.reading.found.borrow_mut().problems.push(problem);
    }

    /// Reports what is odd here, but keeps nothing from starting.
    pub(super) fn warning(&self, text: impl Display) {
        let warning = Problem::new(&self.key, &text.to_string());
        self.reading.found.borrow_mut().warnings.push(warning);
    }

    /// Whether every key is to be met, whatever the file says.
    pub(super) fn is_surveyed(&self) -> bool {
        self.reading.survey
    }

    /// A path as meant: a relative one begins where the file lies.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.reading.base.join(path)
    }

    /// Notes that the reader asked for the key here.
    pub(super) fn know(&self, has_default: bool) {
        let known = KnownKey { pattern: without_indices(&self.key), has_default };
        self.reading.found.borrow_mut().known.insert(known);
    }

    /// Notes that nobody asked for a key of the section here.
    pub(super) fn unknown(&self, name: String, siblings: &[&'static str]) {
        let unknown = UnknownKey { key: self.at(&name).key, name, siblings: siblings.to_vec() };
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

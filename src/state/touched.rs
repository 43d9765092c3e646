//! Which settings a text may have changed for longer than its transaction.
//!
//! A text says only *that* and *which* (decision 23); the server says the
//! value, when the transaction is over. Role and session authorization are
//! settings like others here: PostgreSQL keeps them as `role` and
//! `session_authorization`.

use std::fmt;

/// The most names that are kept of one client between two looks at the server.
pub const MOST_NAMES: usize = 32;
/// The longest name that is kept, in bytes; PostgreSQL's own have up to 40.
const LONGEST_NAME: usize = 128;

/// The name of a setting in lower case: PostgreSQL ignores its case, even
/// between quotes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SettingName(Box<[u8]>);

impl SettingName {
    /// The name that is made of these bytes; `None` if it is too long to be
    /// kept.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        (!name.is_empty() && name.len() <= LONGEST_NAME)
            .then(|| Self(name.to_ascii_lowercase().into_boxed_slice()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `role`.
    #[must_use]
    pub fn is_role(&self) -> bool {
        &*self.0 == b"role"
    }

    /// Whether this is `session_authorization`.
    #[must_use]
    pub fn is_session_authorization(&self) -> bool {
        &*self.0 == b"session_authorization"
    }

    /// Whether this may be one that no server knows until somebody sets it.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.0.contains(&b'.')
    }
}

impl fmt::Debug for SettingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

/// Settings that may have changed, in the order of their last assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    names: Vec<SettingName>,
    /// Every setting but role and session authorization went back to its
    /// default before the names were touched.
    pub all_reset: bool,
    /// One of them went back to its default, or was assigned by what may not
    /// have been run, so that only the server knows whether it is set.
    pub maybe_unset: bool,
    /// The last that happened to `application_name` is that it went back to
    /// what the connection began with.
    pub name_reset: bool,
}

impl Touched {
    /// Nothing.
    pub const NOTHING: Self =
        Self { names: Vec::new(), all_reset: false, maybe_unset: false, name_reset: false };

    /// Whether nothing may have changed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.names.is_empty() && !self.all_reset && !self.name_reset
    }

    /// The names, the one assigned last at the end.
    #[must_use]
    pub fn names(&self) -> &[SettingName] {
        &self.names
    }

    /// Whether this setting may have changed.
    #[must_use]
    pub fn touches(&self, name: &SettingName) -> bool {
        let is_kept_by_reset = name.is_role() || name.is_session_authorization();
        self.names.contains(name) || self.all_reset && !is_kept_by_reset
    }

    /// One more was assigned. False if it cannot be kept.
    #[must_use]
    pub fn insert(&mut self, name: SettingName) -> bool {
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            self.names.remove(at);
        } else if self.names.len() >= MOST_NAMES {
            return false;
        }
        self.names.push(name);
        true
    }

    /// What another text has touched behind this one. False if not all of it
    /// can be kept.
    #[must_use]
    pub fn extend(&mut self, later: &Self) -> bool {
        self.all_reset |= later.all_reset;
        self.maybe_unset |= later.maybe_unset;
        self.name_reset = later.name_reset;
        later.names.iter().all(|name| self.insert(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SettingName {
        SettingName::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_assignment_counts() {
        let mut touched = Touched::NOTHING;
        for text in ["a", "B", "A"] {
            assert!(touched.insert(name(text)));
        }
        assert_eq!(touched.names(), [name("b"), name("a")]);
    }

    #[test]
    fn a_session_has_only_so_many_names() {
        let mut touched = Touched::NOTHING;
        for n in 0..=MOST_NAMES {
            assert_eq!(touched.insert(name(&format!("a.n{n}"))), n < MOST_NAMES);
        }
        assert!(touched.insert(name("a.n0")));
        assert_eq!(SettingName::new(&[b'a'; LONGEST_NAME + 1]), None);
    }

    #[test]
    fn a_reset_of_all_keeps_the_role() {
        let touched = Touched { all_reset: true, ..Touched::NOTHING };
        assert!(touched.touches(&name("work_mem")) && !touched.touches(&name("role")));
    }
}

//! What is wrong with a configuration.
//!
//! A user who fixes one line and runs the check again to hear of the next one
//! has been served badly: a check never stops at the first problem, so its
//! outcome is a list, in the order of the reading.

use std::fmt;

/// One finding: where, and what is expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    key: String,
    text: String,
}

impl Problem {
    pub(super) fn new(key: &str, text: &str) -> Self {
        Self { key: one_line(key), text: one_line(text) }
    }

    /// The path of the key, as in `services[1].allowlist[0]`; empty if the
    /// file as a whole is meant.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong and what is expected.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str(&self.text);
        }
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// A key or a path may hold any character; a line of a report, or of a log,
/// holds none that ends it or moves the cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Every problem of a configuration; prints one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "a refusal has a reason");
        Self(problems)
    }

    /// The problems, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::super::fixture::refused;

    #[test]
    fn a_problem_is_one_line_whatever_it_quotes() {
        refused(
            "\"a\\n\\u001b[2J\" = 1\n[log]\nformat = \"\\n\"",
            &[
                "log.format: expected \"text\" or \"json\", found \"\\n\"",
                "a\u{fffd}\u{fffd}[2J: unknown key; known here: runtime, listen, tls, auth, topology, routing, \
                 metrics, admin, catalog, local, limits, timeouts, log, plans and services",
            ],
        );
    }
}

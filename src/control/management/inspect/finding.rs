//! What a look at a node brought up.

use std::fmt;

use crate::domain::{NodeAddress, ServiceName};

/// Something about a node or a service that its operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    severity: Severity,
    subject: String,
    text: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Clients will not get what they were promised.
    Problem,
    /// It works, but not as well as it could, or not for everybody.
    Warning,
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Whether clients will not get what they were promised.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }

    /// What it is about: `services.orders node 127.0.0.1:5433`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What was found and what to do about it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}: {}", self.subject, self.text)
    }
}

/// What findings are about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    Service(&'a ServiceName),
    Node(&'a ServiceName, &'a NodeAddress),
}

/// Collects the findings about one subject.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    subject: Subject<'a>,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(subject: Subject<'a>) -> Self {
        let found = Vec::new();
        Self { subject, found }
    }

    pub(super) fn problem(&mut self, text: impl AsRef<str>) {
        self.add(Severity::Problem, text.as_ref());
    }

    pub(super) fn warning(&mut self, text: impl AsRef<str>) {
        self.add(Severity::Warning, text.as_ref());
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.found
    }

    /// What servers say may hold any character; a finding is one line.
    fn add(&mut self, severity: Severity, text: &str) {
        let subject = match self.subject {
            Subject::Service(name) => format!("services.{name}"),
            Subject::Node(name, address) => format!("services.{name} node {address}"),
        };
        let text = text.replace(char::is_control, " ");
        self.found.push(Finding { severity, subject, text });
    }
}

//! How a client's service is found (decision 2).

use std::fmt;
use std::str::FromStr;

use super::section::Section;
use super::value::TextSetting;
use crate::domain::ServiceName;

/// The longest host name, in bytes (RFC 1035, 2.3.4).
const MAX_HOST_NAME: usize = 253;

/// The longest label of a host name, in bytes; a service takes one of them.
const MAX_LABEL: usize = 63;

/// How a client's service is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Below these, `<service>[-ro][-pooler]` is a host name of the service.
    pub domains: Vec<Domain>,
    /// The service of clients that name none.
    pub default_service: Option<ServiceName>,
}

/// A DNS name in lower case, below which every service has its host names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

/// A text that is no domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", <Domain as TextSetting>::EXPECTED)]
pub struct InvalidDomain;

impl Domain {
    /// The name, without a dot at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TextSetting for Domain {
    const EXPECTED: &'static str = "a domain such as \"db.example.com\"";
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let name = text.to_ascii_lowercase();
        let room = name.len() < MAX_HOST_NAME - MAX_LABEL;
        let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        let address = name.rsplit('.').next().is_none_or(number);
        if !room || address || !name.split('.').all(is_label) {
            return Err(InvalidDomain);
        }
        Ok(Self(name.into()))
    }
}

fn is_label(label: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(legal)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Reads `[routing]`.
pub(super) fn read(section: &mut Section) -> Routing {
    let routing = Routing {
        domains: section.or("domains", Vec::new()),
        default_service: section.optional("default_service"),
    };
    for (index, domain) in routing.domains.iter().enumerate() {
        if routing.domains[..index].contains(domain) {
            let place = section.at("domains").index(index);
            place.problem(format!("\"{domain}\" is listed twice"));
        }
    }
    routing
}

#[cfg(test)]
mod tests {
    use super::super::fixture::refused;
    use super::*;

    #[test]
    fn domains_are_dns_names_in_lower_case() {
        for (text, name) in [
            ("db.example.com", "db.example.com"),
            ("DB.Example.COM", "db.example.com"),
            ("localhost", "localhost"),
            ("1.a", "1.a"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(100) + "a";
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "*.a",
            "bücher.example",
            "a b",
            "127.0.0.1",
            "a.1",
            "::1",
            &long_label,
            &long_name,
        ] {
            assert_eq!(text.parse::<Domain>(), Err(InvalidDomain), "{text:?}");
        }
    }

    #[test]
    fn domains_are_checked_and_unique() {
        refused(
            "[routing]\ndomains = [\"a.example\", \"*.example\", \"A.example\"]",
            &[
                "routing.domains[1]: expected a domain such as \"db.example.com\"; found \"*.example\"",
            ],
        );
        refused(
            "[routing]\ndomains = [\"a.example\", \"A.example\"]",
            &["routing.domains[1]: \"a.example\" is listed twice"],
        );
    }
}

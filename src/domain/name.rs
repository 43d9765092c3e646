//! Service names, and the host names made from them (decision 1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::endpoint::{Access, PoolMode};

/// The longest service name: a DNS label has 63 bytes, and `-ro-pooler` must
/// still fit behind the name.
pub const MAX_SERVICE_NAME: usize = 52;

const READ_ONLY_SUFFIX: &str = "-ro";
const POOLER_SUFFIX: &str = "-pooler";

/// Names that belong to the SQL console (decision 5).
const RESERVED: [&str; 2] = ["postern", "pgbouncer"];

/// A service's name: `[a-z][a-z0-9-]{0,51}`, not ending in `-`, `-ro` or
/// `-pooler`, and not a name of the console. Clones share the text: whatever
/// belongs to a service holds its name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// Why a text is no service name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty or longer than [`MAX_SERVICE_NAME`] bytes.
    #[error("a service name has 1 to {MAX_SERVICE_NAME} characters")]
    Length,
    /// The first character is no lower-case letter.
    #[error("a service name begins with a lower-case letter")]
    Start,
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("a service name holds only lower-case letters, digits and hyphens")]
    Character,
    /// The name ends in a hyphen or in a suffix with a meaning of its own.
    #[error("a service name does not end in \"-\", \"-ro\" or \"-pooler\"")]
    Ending,
    /// The name belongs to the SQL console.
    #[error("\"postern\" and \"pgbouncer\" name the SQL console")]
    Reserved,
}

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label of the host name of one of the service's endpoints.
    #[must_use]
    pub fn host_label(&self, access: Access, mode: PoolMode) -> String {
        let read_only = match access {
            Access::ReadWrite => "",
            Access::ReadOnly => READ_ONLY_SUFFIX,
        };
        let pooler = match mode {
            PoolMode::Session => "",
            PoolMode::Transaction => POOLER_SUFFIX,
        };
        format!("{self}{read_only}{pooler}")
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > MAX_SERVICE_NAME {
            return Err(InvalidName::Length);
        }
        if !text.as_bytes()[0].is_ascii_lowercase() {
            return Err(InvalidName::Start);
        }
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !text.bytes().all(legal) {
            return Err(InvalidName::Character);
        }
        if ["-", READ_ONLY_SUFFIX, POOLER_SUFFIX].iter().any(|end| text.ends_with(end)) {
            return Err(InvalidName::Ending);
        }
        if RESERVED.contains(&text) {
            return Err(InvalidName::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What the first label of a host name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLabel {
    /// The service named.
    pub service: ServiceName,
    /// `-ro`: the read-only endpoint.
    pub access: Access,
    /// `-pooler`: transaction pooling; without it the listener decides.
    pub mode: Option<PoolMode>,
}

impl FromStr for HostLabel {
    type Err = InvalidName;

    /// Reads `<service>[-ro][-pooler]`, upper or lower case.
    fn from_str(label: &str) -> Result<Self, InvalidName> {
        let label = label.to_ascii_lowercase();
        let (rest, mode) = match label.strip_suffix(POOLER_SUFFIX) {
            Some(rest) => (rest, Some(PoolMode::Transaction)),
            None => (label.as_str(), None),
        };
        let (rest, access) = match rest.strip_suffix(READ_ONLY_SUFFIX) {
            Some(rest) => (rest, Access::ReadOnly),
            None => (rest, Access::ReadWrite),
        };
        Ok(Self { service: rest.parse()?, access, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_pattern_are_accepted() {
        for name in ["a", "orders", "a-1", "x0", &"a".repeat(52)] {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn every_rule_has_a_name_that_breaks_it() {
        let cases = [
            ("", InvalidName::Length),
            ("1a", InvalidName::Start),
            ("-a", InvalidName::Start),
            ("Orders", InvalidName::Start),
            ("oRders", InvalidName::Character),
            ("a.b", InvalidName::Character),
            ("a_b", InvalidName::Character),
            ("a\n", InvalidName::Character),
            ("a-", InvalidName::Ending),
            ("a-ro", InvalidName::Ending),
            ("a-pooler", InvalidName::Ending),
            ("postern", InvalidName::Reserved),
            ("pgbouncer", InvalidName::Reserved),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<ServiceName>(), Err(why), "{text:?}");
        }
        assert_eq!("a".repeat(53).parse::<ServiceName>(), Err(InvalidName::Length));
    }

    #[test]
    fn host_labels_round_trip() {
        let name: ServiceName = "orders".parse().unwrap();
        for access in [Access::ReadWrite, Access::ReadOnly] {
            for mode in [PoolMode::Session, PoolMode::Transaction] {
                let label = name.host_label(access, mode).to_uppercase();
                let read: HostLabel = label.parse().unwrap();
                assert_eq!((&read.service, read.access), (&name, access));
                assert_eq!(read.mode.unwrap_or(PoolMode::Session), mode);
            }
        }
        assert!("orders-pooler-ro".parse::<HostLabel>().is_err());
    }
}

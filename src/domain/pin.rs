//! Why a client keeps its server connection beyond the transaction.
//!
//! One name per kind of state that cannot be carried to another connection
//! (decision 22). Pins are counted by these names, so they never change.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::str::FromStr;

/// A kind of session state that holds a client to its server connection.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PinReason {
    /// A setting whose name the text does not tell, or the random seed.
    Setting,
    /// `LISTEN`.
    Listen,
    /// SQL `PREPARE`.
    SqlPrepare,
    /// A temporary table, view, sequence, function, type or replication slot.
    TemporaryObject,
    /// An advisory lock of the session, not of the transaction.
    AdvisoryLock,
    /// A cursor `WITH HOLD`.
    HeldCursor,
    /// `LOAD`.
    Load,
    /// A use of what `nextval` left: `currval`, `lastval`.
    Sequence,
    /// A replication origin, set up for the session.
    ReplicationOrigin,
    /// A base backup, to be stopped by the session that started it.
    Backup,
    /// The text was suspicious, and too long or too strange to read; or nobody
    /// knows how a statement was read (decision record 0021).
    Unparsed,
}

impl PinReason {
    /// All of them, in the order of their bits.
    pub const ALL: [Self; 11] = [
        Self::Setting,
        Self::Listen,
        Self::SqlPrepare,
        Self::TemporaryObject,
        Self::AdvisoryLock,
        Self::HeldCursor,
        Self::Load,
        Self::Sequence,
        Self::ReplicationOrigin,
        Self::Backup,
        Self::Unparsed,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Listen => "listen",
            Self::SqlPrepare => "sql_prepare",
            Self::TemporaryObject => "temporary_object",
            Self::AdvisoryLock => "advisory_lock",
            Self::HeldCursor => "held_cursor",
            Self::Load => "load",
            Self::Sequence => "sequence",
            Self::ReplicationOrigin => "replication_origin",
            Self::Backup => "backup",
            Self::Unparsed => "unparsed",
        }
    }

    /// What it is, in words that follow "keeps" in a sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Setting => "a setting that cannot be followed",
            Self::Listen => "LISTEN",
            Self::SqlPrepare => "a statement prepared by SQL",
            Self::TemporaryObject => "temporary objects",
            Self::AdvisoryLock => "advisory locks of the session",
            Self::HeldCursor => "a cursor WITH HOLD",
            Self::Load => "a loaded library",
            Self::Sequence => "currval or lastval",
            Self::ReplicationOrigin => "a replication origin",
            Self::Backup => "a base backup",
            Self::Unparsed => "a statement that cannot be read",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// No kind of session state has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kinds of session state are setting, listen, sql_prepare, temporary_object, \
     advisory_lock, held_cursor, load, sequence, replication_origin, backup and unparsed"
)]
pub struct InvalidPinReason;

impl FromStr for PinReason {
    type Err = InvalidPinReason;

    fn from_str(text: &str) -> Result<Self, InvalidPinReason> {
        Self::ALL.into_iter().find(|reason| reason.label() == text).ok_or(InvalidPinReason)
    }
}

/// A set of reasons; two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Pins(u16);

impl Pins {
    /// No reason: the connection may go on to another client.
    pub const NONE: Self = Self(0);

    /// The set with these bits, as [`Self::bits`] gives them.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// One bit for each reason.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// What a person is told of each reason.
    #[must_use]
    pub fn described(self) -> String {
        let names: Vec<_> = self.iter().map(PinReason::description).collect();
        names.join(", ")
    }

    /// Whether there is no reason.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is among them.
    #[must_use]
    pub const fn contains(self, reason: PinReason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether every reason of `other` is among them.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of these reasons that are not among `others`.
    #[must_use]
    pub const fn except(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those of these reasons that are among `others` too.
    #[must_use]
    pub const fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Adds one reason.
    pub const fn insert(&mut self, reason: PinReason) {
        self.0 |= reason.bit();
    }

    /// The reasons, in the order of [`PinReason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }
}

impl From<PinReason> for Pins {
    fn from(reason: PinReason) -> Self {
        Self(reason.bit())
    }
}

impl FromIterator<PinReason> for Pins {
    fn from_iter<I: IntoIterator<Item = PinReason>>(reasons: I) -> Self {
        reasons.into_iter().fold(Self::NONE, |pins, reason| pins | reason.into())
    }
}

impl BitOr for Pins {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Pins {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_bit_and_label() {
        let bits: BTreeSet<u16> = PinReason::ALL.into_iter().map(PinReason::bit).collect();
        let labels: BTreeSet<&str> = PinReason::ALL.into_iter().map(PinReason::label).collect();
        assert_eq!((bits.len(), labels.len()), (PinReason::ALL.len(), PinReason::ALL.len()));
        let named = InvalidPinReason.to_string();
        for reason in PinReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.label());
        }
        for label in labels {
            assert_eq!(label.parse::<PinReason>().unwrap().label(), label);
            assert!(named.contains(label), "{label}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut pins = Pins::from(PinReason::Unparsed);
        pins.insert(PinReason::Setting);
        assert_eq!(pins.iter().collect::<Vec<_>>(), [PinReason::Setting, PinReason::Unparsed]);
        assert!(pins.includes(PinReason::Setting.into()));
        assert!(!Pins::NONE.includes(pins) && pins.includes(Pins::NONE));
        assert_eq!(format!("{pins:?}"), "{Setting, Unparsed}");
    }
}

//! Which primary of which data: what a connection to a primary belongs to
//! (decision 30).

use std::fmt;

/// The reign of one primary. A later one is greater; the fields are compared
/// in the order in which they stand here.
///
/// A server connection that was opened under an older epoch than the published
/// one is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Which incarnation of the service's data: grows when a service is
    /// restored or begun anew, and timelines start over.
    pub generation: u64,
    /// The timeline of the primary's WAL; 0 before there was a primary.
    pub timeline: u32,
    /// Grows whenever another node, or the same one on another timeline, is
    /// accepted as the primary.
    pub sequence: u64,
}

impl fmt::Display for Epoch {
    /// `generation.timeline.sequence`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.generation, self.timeline, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_reign_is_greater() {
        let epoch = |generation, timeline, sequence| Epoch { generation, timeline, sequence };
        let reigns =
            [epoch(0, 0, 0), epoch(0, 1, 1), epoch(0, 1, 2), epoch(0, 2, 3), epoch(1, 1, 4)];
        assert!(reigns.is_sorted());
        assert_eq!(reigns[0], Epoch::default());
        assert_eq!(reigns[3].to_string(), "0.2.3");
    }
}

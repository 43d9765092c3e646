//! What decided who the primary is, in words for logs and labels for metrics.

use std::fmt;

use super::{Leadership, Sight};

/// What decided who the primary is, or that nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was the primary, and still takes writes.
    StillWrites,
    /// Of the nodes that take writes it has the newest timeline.
    NewestTimeline,
    /// It holds the leader key and takes writes.
    LeaderKey,
    /// Nobody holds the leader key or can be asked for it; the last primary
    /// still takes writes on its timeline.
    StillWritesWithoutKey,
    /// Nobody: a node was never looked at.
    NotLookedAt,
    /// Nobody: no node answers.
    NobodyAnswers,
    /// Nobody: the nodes that answer take no writes.
    NobodyWrites,
    /// Nobody: who takes writes has a timeline older than the last primary's.
    OlderTimeline,
    /// Nobody: another node than the last primary takes writes on its
    /// timeline, or two do.
    SameTimeline,
    /// Nobody: who takes writes holds the data of another database.
    ForeignData,
    /// Nobody: who holds the leader key takes no writes.
    LeaderDoesNotWrite,
    /// Nobody: another node takes writes on a newer timeline than the leader.
    LeaderIsOutranked,
    /// Nobody: who holds the leader key is none of the service's nodes.
    LeaderIsNoNode,
    /// Nobody: there is no leader key, and the last primary does not go on.
    NoLeader,
    /// Nobody: the primary of a vector service lacks pgvector.
    NoPgvector,
}

impl Reason {
    /// Whether somebody who watches has to look at it: waiting does not help.
    #[must_use]
    pub fn needs_an_operator(self) -> bool {
        matches!(
            self,
            Self::OlderTimeline
                | Self::SameTimeline
                | Self::ForeignData
                | Self::LeaderIsOutranked
                | Self::LeaderIsNoNode
                | Self::NoPgvector
        )
    }

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::StillWrites => "it still takes writes",
            Self::NewestTimeline => "it takes writes on the newest timeline",
            Self::LeaderKey => "it holds the leader key and takes writes",
            Self::StillWritesWithoutKey => {
                "there is no leader key to be seen, and it still takes writes on its timeline"
            }
            Self::NotLookedAt => "not every node has been looked at",
            Self::NobodyAnswers => "no node answers",
            Self::NobodyWrites => "no node that answers takes writes",
            Self::OlderTimeline => {
                "the node that takes writes is on an older timeline than the last primary"
            }
            Self::SameTimeline => {
                "a node that is not the last primary takes writes on the same timeline"
            }
            Self::ForeignData => "the node that takes writes belongs to another database system",
            Self::LeaderDoesNotWrite => "the holder of the leader key takes no writes",
            Self::LeaderIsOutranked => {
                "another node takes writes on a newer timeline than the holder of the leader key"
            }
            Self::LeaderIsNoNode => "the holder of the leader key is no node of the service",
            Self::NoLeader => "there is no leader key, and the last primary does not go on",
            Self::NoPgvector => "the primary lacks pgvector",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why one primary followed another: what the former one was seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It did not answer.
    Lost,
    /// It answered and took no writes: a switchover.
    Demoted,
    /// It still took writes: it was outranked.
    Outranked,
    /// It is no node of the service any more.
    Removed,
    /// It went on itself, on a new timeline.
    Promoted,
}

impl Cause {
    /// From the last look at the former primary, if it is still a node.
    #[must_use]
    pub fn of(former: Option<Sight>) -> Self {
        match former {
            None => Self::Removed,
            Some(Sight::Unseen | Sight::Down) => Self::Lost,
            Some(Sight::Up(seen)) if seen.in_recovery || seen.read_only => Self::Demoted,
            Some(Sight::Up(_)) => Self::Outranked,
        }
    }

    /// The metrics' label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Demoted => "demoted",
            Self::Outranked => "outranked",
            Self::Removed => "removed",
            Self::Promoted => "promoted",
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Up(seen) = self else {
            return f.write_str(if *self == Self::Down { "down" } else { "not looked at" });
        };
        let role = match (seen.in_recovery, seen.read_only) {
            (true, _) => "standby",
            (false, true) => "read-only",
            (false, false) => "primary",
        };
        match seen.timeline {
            Some(timeline) => write!(f, "{role} on timeline {timeline}"),
            None => f.write_str(role),
        }
    }
}

impl Leadership {
    /// In words, if there is a store to speak of.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::ByTimeline => None,
            Self::Held(node) => Some(format!("leader key with {node}")),
            Self::HeldByStranger(name) => Some(format!("leader key with {name}, no node of ours")),
            Self::Vacant => Some("no leader key to be seen".to_owned()),
        }
    }
}

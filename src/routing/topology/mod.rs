//! Which node takes the writes: a decision over what the watchers saw
//! (decision 30).
//!
//! ```text
//! sights of the nodes ─┐
//! leader key, if any ──┼─▶ decide() ─▶ topology, reign, reason
//! reign so far ────────┘                  │        └─ persisted, and handed in again
//!                                         └─ published
//! ```
//!
//! What must stay true, whatever the watchers report:
//!
//! * nobody is a primary before he has been seen to take writes, with the data
//!   that the service is known by;
//! * a timeline older than one that was ever accepted never comes back, and
//!   nobody is the primary beside an eligible node with a newer one;
//! * at the same timeline the one who is the primary stays it;
//! * in doubt nobody is.
//!
//! A node of a vector service without pgvector may reign, so that the one
//! before it is not used again, but is not routed to.

pub mod lag;
mod reason;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::directory::{Node, Standby, Topology};
use crate::domain::refusal::Unavailable;
use crate::domain::{Epoch, Kind, NodeAddress};

pub use reason::{Cause, Reason};

/// What the last look at a node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It was not looked at yet.
    Unseen,
    /// Nobody answers there.
    Down,
    /// It answered.
    Up(Seen),
}

/// A node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// `pg_is_in_recovery()`: a standby.
    pub in_recovery: bool,
    /// `transaction_read_only`, also on for every standby.
    pub read_only: bool,
    /// Which data it holds: PostgreSQL's system identifier.
    pub system: u64,
    /// Of the WAL that it writes or, a standby, receives; none: a standby that
    /// receives nothing.
    pub timeline: Option<u32>,
    /// The pgvector extension can be created in its databases.
    pub pgvector: bool,
    /// How far a standby is behind; none: not known.
    pub lag: Option<std::time::Duration>,
}

/// What the HA manager's store says of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// The service has no such store: timelines decide.
    ByTimeline,
    /// This node holds the leader key.
    Held(NodeAddress),
    /// A member holds it that is none of the service's nodes; its name.
    HeldByStranger(String),
    /// Nobody holds it, or nobody can be asked.
    Vacant,
}

/// The newest primary ever accepted. It outlives the process (decision 30).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reign {
    /// Of that primary.
    pub epoch: Epoch,
    /// The node; none: there never was one.
    pub holder: Option<NodeAddress>,
    /// Which data it held.
    pub system: Option<u64>,
}

/// What follows from the sights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For the Directory.
    pub topology: Topology,
    /// For the next decision, and to be persisted before the topology is
    /// published.
    pub reign: Reign,
    /// What decided.
    pub reason: Reason,
}

/// What is known when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// PostgreSQL or vector.
    pub kind: Kind,
    /// The last look at each node of the service, in configured order.
    pub nodes: &'a [(Arc<Node>, Sight)],
    /// What the store says.
    pub leadership: &'a Leadership,
    /// The newest primary so far.
    pub reign: &'a Reign,
    /// There is a primary now: a node that was just added need not be looked
    /// at before it may stay.
    pub seated: bool,
}

/// Decides.
#[must_use]
pub fn decide(knowledge: Knowledge<'_>) -> Decision {
    let chosen = knowledge.choose();
    let (chosen, reason) = match chosen {
        Ok((candidate, reason)) => (Some(candidate), reason),
        Err(reason) => (None, reason),
    };
    let reign = match &chosen {
        Some(candidate) => knowledge.reign.accept(candidate),
        None => knowledge.reign.clone(),
    };
    let (primary, reason) = match chosen {
        Some(candidate) if knowledge.suits(candidate.seen.pgvector) => {
            (Ok(Arc::clone(candidate.node)), reason)
        }
        Some(_) => (Err(knowledge.no_pgvector()), Reason::NoPgvector),
        None => (Err(knowledge.unavailable()), reason),
    };
    let standbys = knowledge.standbys(&reign);
    let topology = Topology { primary, epoch: reign.epoch, standbys };
    Decision { topology, reign, reason }
}

/// A node that takes writes and holds the service's data.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    node: &'a Arc<Node>,
    seen: Seen,
    timeline: u32,
}

impl<'a> Knowledge<'a> {
    fn choose(&self) -> Result<(Candidate<'a>, Reason), Reason> {
        if !self.seated && self.nodes.iter().any(|(_, sight)| *sight == Sight::Unseen) {
            return Err(Reason::NotLookedAt);
        }
        let candidates = self.candidates()?;
        let newest = candidates.iter().map(|candidate| candidate.timeline).max();
        let newest = newest.ok_or_else(|| self.nobody_writes())?;
        if newest < self.reign.epoch.timeline {
            return Err(Reason::OlderTimeline);
        }
        match self.leadership {
            Leadership::ByTimeline => self.by_timeline(&candidates, newest),
            Leadership::Held(leader) => by_key(&candidates, newest, leader),
            Leadership::HeldByStranger(_) => Err(Reason::LeaderIsNoNode),
            Leadership::Vacant => self.without_key(&candidates, newest),
        }
    }

    /// The nodes that take writes, if they hold the service's data. Before
    /// anything is known, all that do must hold the same.
    fn candidates(&self) -> Result<Vec<Candidate<'a>>, Reason> {
        let mut candidates: Vec<_> = self.nodes.iter().filter_map(candidate).collect();
        let first = candidates.first().map(|candidate| candidate.seen.system);
        match self.reign.system {
            Some(system) => candidates.retain(|candidate| candidate.seen.system == system),
            None if candidates.iter().all(|other| Some(other.seen.system) == first) => {}
            None => return Err(Reason::ForeignData),
        }
        Ok(candidates)
    }

    fn nobody_writes(&self) -> Reason {
        let foreign = self.nodes.iter().find_map(candidate).is_some();
        let down = |(_, sight): &(_, Sight)| matches!(sight, Sight::Down | Sight::Unseen);
        match () {
            () if foreign => Reason::ForeignData,
            () if self.nodes.iter().all(down) => Reason::NobodyAnswers,
            () => Reason::NobodyWrites,
        }
    }

    /// The one with the newest timeline, if there is one; at an unchanged
    /// timeline the holder, unless he is no node of the service any more.
    fn by_timeline(
        &self,
        candidates: &[Candidate<'a>],
        newest: u32,
    ) -> Result<(Candidate<'a>, Reason), Reason> {
        if newest == self.reign.epoch.timeline {
            if let Some(holder) = self.holder_of(candidates, newest) {
                return Ok((holder, Reason::StillWrites));
            }
            if self.nodes.iter().any(|(node, _)| self.is_holder(node)) {
                return Err(Reason::SameTimeline);
            }
        }
        let mut top = candidates.iter().filter(|candidate| candidate.timeline == newest);
        match (top.next(), top.next()) {
            (Some(only), None) => Ok((*only, Reason::NewestTimeline)),
            _ => Err(Reason::SameTimeline),
        }
    }

    /// Nobody holds the key: the last primary may go on as it was.
    fn without_key(
        &self,
        candidates: &[Candidate<'a>],
        newest: u32,
    ) -> Result<(Candidate<'a>, Reason), Reason> {
        if newest > self.reign.epoch.timeline {
            return Err(Reason::NoLeader);
        }
        let holder = self.holder_of(candidates, newest);
        holder.map(|holder| (holder, Reason::StillWritesWithoutKey)).ok_or(Reason::NoLeader)
    }

    fn holder_of(&self, candidates: &[Candidate<'a>], timeline: u32) -> Option<Candidate<'a>> {
        let same = |c: &&Candidate<'_>| self.is_holder(c.node) && c.timeline == timeline;
        candidates.iter().find(same).copied()
    }

    fn is_holder(&self, node: &Node) -> bool {
        self.reign.holder.as_ref() == Some(&node.address)
    }

    fn suits(&self, pgvector: bool) -> bool {
        self.kind != Kind::Vector || pgvector
    }

    /// The standbys that hold the service's data and follow its timeline.
    fn standbys(&self, reign: &Reign) -> Vec<Standby> {
        let follows = |seen: &Seen| {
            seen.in_recovery
                && self.suits(seen.pgvector)
                && Some(seen.system) == reign.system
                && seen.timeline.is_none_or(|timeline| timeline == reign.epoch.timeline)
        };
        let standby = |(node, sight): &(Arc<Node>, Sight)| match sight {
            Sight::Up(seen) if follows(seen) => {
                Some(Standby { node: Arc::clone(node), lag: seen.lag })
            }
            _ => None,
        };
        self.nodes.iter().filter_map(standby).collect()
    }

    fn unavailable(&self) -> Unavailable {
        let up = |(_, sight): &(_, Sight)| matches!(sight, Sight::Up(_));
        if self.nodes.iter().any(up) { Unavailable::NoPrimary } else { Unavailable::Unreachable }
    }

    fn no_pgvector(&self) -> Unavailable {
        let lacks = |sight: &Sight| matches!(sight, Sight::Up(seen) if !seen.pgvector);
        let nodes = self.nodes.iter().filter(|(_, sight)| lacks(sight));
        Unavailable::NoPgvector { nodes: nodes.map(|(node, _)| node.address.to_string()).collect() }
    }
}

fn candidate((node, sight): &(Arc<Node>, Sight)) -> Option<Candidate<'_>> {
    match *sight {
        Sight::Up(seen) if !seen.in_recovery && !seen.read_only => {
            Some(Candidate { node, seen, timeline: seen.timeline? })
        }
        _ => None,
    }
}

/// The holder of the key, if it takes writes and nobody has a newer timeline.
fn by_key<'a>(
    candidates: &[Candidate<'a>],
    newest: u32,
    leader: &NodeAddress,
) -> Result<(Candidate<'a>, Reason), Reason> {
    let held = candidates.iter().find(|candidate| candidate.node.address == *leader);
    match held {
        None => Err(Reason::LeaderDoesNotWrite),
        Some(leader) if leader.timeline < newest => Err(Reason::LeaderIsOutranked),
        Some(leader) => Ok((*leader, Reason::LeaderKey)),
    }
}

impl Reign {
    /// The reign that follows if this one is the primary: a new one if it is
    /// another node or another timeline.
    fn accept(&self, candidate: &Candidate<'_>) -> Self {
        let same = self.holder.as_ref() == Some(&candidate.node.address)
            && self.epoch.timeline == candidate.timeline;
        if same {
            return self.clone();
        }
        Self {
            epoch: Epoch {
                timeline: candidate.timeline,
                sequence: self.epoch.sequence + 1,
                ..self.epoch
            },
            holder: Some(candidate.node.address.clone()),
            system: Some(candidate.seen.system),
        }
    }
}

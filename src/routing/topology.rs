//! Which node takes the writes: a decision over what the probes saw.
//!
//! Nobody is a primary before he has been seen to be one; a node of a vector
//! service without pgvector is never routed to.

use std::sync::Arc;

use crate::directory::{Node, Topology};
use crate::domain::refusal::Unavailable;
use crate::domain::{Epoch, Kind};

/// What the last look at a node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It was not looked at yet, or did not answer.
    Down,
    /// It answered.
    Up {
        /// Not in recovery, and transactions may write.
        writable: bool,
        /// The pgvector extension can be created in its databases.
        pgvector: bool,
    },
}

/// Decides from the last look at each node.
#[must_use]
pub fn decide(kind: Kind, nodes: &[(Arc<Node>, Sight)]) -> Topology {
    Topology { primary: primary(kind, nodes), epoch: Epoch::default(), standbys: Vec::new() }
}

fn primary(kind: Kind, nodes: &[(Arc<Node>, Sight)]) -> Result<Arc<Node>, Unavailable> {
    let suits = |pgvector| kind != Kind::Vector || pgvector;
    let mut writable = nodes.iter().filter_map(|(node, sight)| match *sight {
        Sight::Up { writable: true, pgvector } => Some((node, pgvector)),
        _ => None,
    });
    match writable.next() {
        Some((node, pgvector)) if suits(pgvector) => Ok(Arc::clone(node)),
        Some(_) => Err(Unavailable::NoPgvector { nodes: without_pgvector(nodes) }),
        None if nodes.iter().all(|(_, sight)| *sight == Sight::Down) => {
            Err(Unavailable::Unreachable)
        }
        None => Err(Unavailable::NoPrimary),
    }
}

fn without_pgvector(nodes: &[(Arc<Node>, Sight)]) -> Vec<String> {
    let lacks = |sight: &Sight| matches!(sight, Sight::Up { pgvector: false, .. });
    nodes
        .iter()
        .filter(|(_, sight)| lacks(sight))
        .map(|(node, _)| node.address.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::NodeTls;

    const PRIMARY: Sight = Sight::Up { writable: true, pgvector: true };
    const STANDBY: Sight = Sight::Up { writable: false, pgvector: true };
    const PLAIN: Sight = Sight::Up { writable: true, pgvector: false };

    fn decided(kind: Kind, sights: &[Sight]) -> Result<String, Unavailable> {
        let node = |n: usize| Node {
            service: "orders".parse().unwrap(),
            address: format!("n{n}:5432").parse().unwrap(),
            tls: NodeTls::Prefer,
            authorities: None,
            capacity: 1,
            pooling: crate::directory::Pooling::default(),
        };
        let nodes: Vec<_> =
            sights.iter().enumerate().map(|(n, sight)| (Arc::new(node(n)), *sight)).collect();
        decide(kind, &nodes).primary.map(|node| node.address.to_string())
    }

    #[test]
    fn the_writable_node_is_the_primary() {
        use Unavailable::{NoPgvector, NoPrimary, Unreachable};
        let sql = Kind::PostgreSql;
        assert_eq!(decided(sql, &[STANDBY, PRIMARY]), Ok("n1:5432".into()));
        assert_eq!(decided(sql, &[Sight::Down, PLAIN]), Ok("n1:5432".into()));
        assert_eq!(decided(sql, &[STANDBY, Sight::Down]), Err(NoPrimary));
        assert_eq!(decided(sql, &[Sight::Down]), Err(Unreachable));
        assert_eq!(decided(Kind::Vector, &[PRIMARY]), Ok("n0:5432".into()));
        let nodes = vec!["n0:5432".to_owned()];
        assert_eq!(decided(Kind::Vector, &[PLAIN]), Err(NoPgvector { nodes }));
    }
}

//! Whether a standby has what the primary has: asked before somebody is
//! promoted on purpose.
//!
//! An HA manager promotes a standby that lacks a little, because in a crash
//! that is better than nobody. In a planned switchover it would lose what was
//! acknowledged, with everybody in good health.
//!
//! What the primary has *written* counts: all that was acknowledged, but for
//! the last moments of `synchronous_commit = off`.

use std::time::Duration;

use tokio::time::sleep;

use super::node::NodeWatch;
use super::service::ServiceWatch;
use crate::routing::topology::lag::Position;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl ServiceWatch {
    /// Waits until whoever is to be promoted has replayed what the primary had
    /// written a moment ago: the node of this address, every standby if a name
    /// is given that is no address, or any. Never ends if that does not come;
    /// the caller sets the deadline. Cancel-safe.
    pub(super) async fn caught_up(&self, to: Option<&str>) {
        while !self.has_caught_up(to).await {
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn has_caught_up(&self, to: Option<&str>) -> bool {
        let (mut primary, standbys): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|node| self.is_primary(&node.address));
        let Some(primary) = primary.pop() else { return false };
        let Some(written) = self.position(primary, false).await else { return false };
        let meant = |node: &NodeWatch| to == Some(&node.address.to_string());
        let named = standbys.iter().any(|node| meant(node));
        let mut have_it = Vec::new();
        for node in standbys.iter().filter(|node| !named || meant(node)) {
            let replayed = self.position(node, true).await;
            have_it.push(replayed.is_some_and(|replayed| replayed >= written));
        }
        match to {
            Some(_) => !have_it.is_empty() && have_it.iter().all(|has| *has),
            None => have_it.contains(&true),
        }
    }

    /// How far a node has written, or replayed; none if it does not say so, or
    /// is not what it is taken for.
    async fn position(&self, node: &NodeWatch, in_recovery: bool) -> Option<Position> {
        let (look, position) = node.look(self).await.ok()?;
        position.filter(|_| look.in_recovery == in_recovery)
    }
}

//! From the looks at a service's nodes to what is published of them: decides,
//! records the reign, publishes, and says in one line what changed and why.

use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::node::NodeWatch;
use super::service::{ServiceWatch, lock};
use crate::directory::{Node, Service, Topology};
use crate::routing::topology::{
    Cause, Decision, Knowledge, Leadership, Reason, Reign, Sight, decide,
};

/// What a service remembers of its primaries.
#[derive(Debug)]
pub(super) struct Throne {
    /// The newest primary.
    pub(super) reign: Reign,
    /// There is a primary now.
    pub(super) seated: bool,
    /// Since when there is one, or none.
    pub(super) since: Instant,
    /// What decided last.
    pub(super) reason: Reason,
}

impl Throne {
    /// As it was left.
    pub(super) fn new(reign: Reign, now: Instant) -> Self {
        Self { reign, seated: false, since: now, reason: Reason::NotLookedAt }
    }
}

impl ServiceWatch {
    /// Publishes what has been seen, if it is not published already.
    pub(super) fn publish(&self) {
        self.common.publisher.publish(&self.name, |service| self.completed(service));
    }

    /// The service with what has been seen of its nodes; nothing if that is
    /// what it says, or if nothing has been seen yet. Whoever asks publishes
    /// the answer: a new primary is on record from now on.
    pub(super) fn completed(&self, service: &Service) -> Option<Service> {
        if self.nodes.iter().all(|node| node.is_unseen()) {
            return None;
        }
        let plan = service.plan.max_connections.get();
        let nodes: Vec<_> =
            service.nodes.iter().map(|node| self.with_capacity(node, plan)).collect();
        let sights: Vec<_> = nodes.iter().map(|node| self.seen(node)).collect();
        let topology = self.decide(service, &sights);
        let is_new = nodes != service.nodes || topology != service.topology;
        is_new.then(|| Service { nodes, topology, ..service.clone() })
    }

    fn decide(&self, service: &Service, sights: &[(Arc<Node>, Sight)]) -> Topology {
        let leadership = self.leadership();
        let mut throne = self.throne();
        let decision = decide(Knowledge {
            kind: service.kind,
            nodes: sights,
            leadership: &leadership,
            reign: &throne.reign,
            seated: throne.seated,
        });
        self.take(&mut throne, &decision, sights, &leadership);
        decision.topology
    }

    /// Takes a decision over: a new reign is recorded first.
    fn take(
        &self,
        throne: &mut Throne,
        decision: &Decision,
        sights: &[(Arc<Node>, Sight)],
        leadership: &Leadership,
    ) {
        let seated = decision.topology.primary.is_ok();
        let is_new = decision.reign != throne.reign;
        if is_new {
            self.common.reigns.record(&self.name, &decision.reign);
        }
        if is_new
            || seated != throne.seated
            || decision.reason.needs_an_operator() && decision.reason != throne.reason
        {
            self.report(throne, decision, sights, leadership);
        }
        if is_new || seated != throne.seated {
            throne.since = Instant::now();
        }
        if throne.seated && !seated {
            // Whoever becomes the next one is to be seen at once.
            self.wake();
        }
        if is_new && let Some(cause) = cause(&throne.reign, &decision.reign, sights) {
            self.common.metrics.failed_over(&self.name, cause.label());
        }
        throne.reign.clone_from(&decision.reign);
        (throne.seated, throne.reason) = (seated, decision.reason);
    }

    /// One line for each change, with what decided it.
    fn report(
        &self,
        throne: &Throne,
        decision: &Decision,
        sights: &[(Arc<Node>, Sight)],
        leadership: &Leadership,
    ) {
        let (service, epoch, reason) = (&self.name, decision.topology.epoch, decision.reason);
        let former = throne.reign.holder.as_ref().map(ToString::to_string);
        let former = former.unwrap_or_else(|| "none".to_owned());
        let seen = evidence(sights, leadership);
        match &decision.topology.primary {
            Ok(primary) => {
                let cause = cause(&throne.reign, &decision.reign, sights).map(Cause::label);
                let cause = cause.unwrap_or("none");
                tracing::info!(%service, primary = %primary.address, former, %epoch, cause, %reason, seen, "a service has a primary");
            }
            Err(_) if reason == Reason::NotLookedAt => {}
            Err(_) if reason.needs_an_operator() => {
                tracing::error!(%service, former, %epoch, %reason, seen, "a service has no primary and needs somebody to look at it");
            }
            Err(_) => {
                tracing::warn!(%service, former, %epoch, %reason, seen, "a service has no primary");
            }
        }
    }

    /// The service's throne.
    pub(super) fn throne(&self) -> MutexGuard<'_, Throne> {
        lock(&self.memory.throne)
    }

    /// What the service's store says of the leader.
    fn leadership(&self) -> Leadership {
        lock(&self.memory.leadership).clone()
    }

    /// The node with as many slots as the plan has and the node can offer.
    fn with_capacity(&self, node: &Arc<Node>, plan: u32) -> Arc<Node> {
        let offer = self.watch_of(node).and_then(NodeWatch::offer);
        let capacity = offer.map_or(plan, |offer| offer.min(plan));
        if node.capacity == capacity {
            return Arc::clone(node);
        }
        Arc::new(Node { capacity, ..Node::clone(node) })
    }

    fn seen(&self, node: &Arc<Node>) -> (Arc<Node>, Sight) {
        let watch = self.watch_of(node);
        let sight = watch.map_or(Sight::Unseen, |watch| watch.condition().sight());
        (Arc::clone(node), sight)
    }

    fn watch_of(&self, node: &Node) -> Option<&NodeWatch> {
        let mut nodes = self.nodes.iter().map(|watch| &**watch);
        nodes.find(|watch| watch.address == node.address)
    }
}

/// Why this reign follows that one; nothing follows nobody.
fn cause(former: &Reign, next: &Reign, sights: &[(Arc<Node>, Sight)]) -> Option<Cause> {
    let holder = former.holder.as_ref()?;
    if former == next {
        return None;
    }
    if next.holder.as_ref() == Some(holder) {
        return Some(Cause::Promoted);
    }
    let sight = sights.iter().find(|(node, _)| node.address == *holder);
    Some(Cause::of(sight.map(|(_, sight)| *sight)))
}

/// What was seen when it was decided, for the log.
fn evidence(sights: &[(Arc<Node>, Sight)], leadership: &Leadership) -> String {
    let node = |(node, sight): &(Arc<Node>, Sight)| format!("{} {}", node.address, sight);
    let mut seen: Vec<_> = sights.iter().map(node).collect();
    seen.extend(leadership.text());
    seen.join(", ")
}

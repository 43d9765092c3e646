//! From what the HA manager's store claims to what the policy is told: a
//! member becomes a node of the service.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::service::{ServiceWatch, lock};
use crate::control::config;
use crate::control::leader::{self, Claim, Claims, Member, Pace};
use crate::domain::NodeAddress;
use crate::routing::topology::Leadership;

/// From one question to the next, where a store cannot be watched.
const CALM: Duration = Duration::from_secs(1);
/// The same while the service has no primary.
const URGENT: Duration = Duration::from_millis(100);
/// For a name to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(1);

impl ServiceWatch {
    /// Follows the leader that a store names; never ends by itself.
    pub(super) async fn follow_leader(&self, store: &config::Store) {
        let pause = || if self.vacant_for().is_some() { URGENT } else { CALM };
        let pace = Pace { pause, woken: std::sync::Arc::clone(&self.memory.doubted) };
        let claims = Claims::new(Claim::Silence);
        let mut told = claims.subscribe();
        let heeding = async {
            while told.changed().await.is_ok() {
                let claim = told.borrow_and_update().clone();
                self.heed(claim).await;
            }
        };
        tokio::join!(leader::follow(store, pace, &claims), heeding);
    }

    async fn heed(&self, claim: Claim) {
        let leadership = match claim {
            Claim::Nobody | Claim::Silence => Leadership::Vacant,
            Claim::Leader(member) => self.led_by(member).await,
        };
        let before = std::mem::replace(&mut *lock(&self.memory.leadership), leadership.clone());
        if before != leadership {
            let said = leadership.text().unwrap_or_default();
            tracing::info!(service = %self.name, said, "the leader changed");
            // Who leads is believed once it takes writes: it is looked at.
            self.wake();
            self.publish();
        }
    }

    async fn led_by(&self, member: Member) -> Leadership {
        let Some((host, port)) = &member.address else {
            return Leadership::HeldByStranger(member.name);
        };
        let same = |node: &&NodeAddress| match node {
            NodeAddress::Tcp { host: known, port: at } => **known == **host && at == port,
            NodeAddress::Unix { .. } => false,
        };
        if let Some(node) = self.addresses().find(same) {
            return Leadership::Held(node.clone());
        }
        match self.node_at(host, *port).await {
            Some(node) => Leadership::Held(node),
            None => Leadership::HeldByStranger(member.name),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = &NodeAddress> {
        self.nodes.iter().map(|node| &node.address)
    }

    /// The node that another name leads to: the store may know nodes by their
    /// addresses, and the configuration by their names.
    async fn node_at(&self, host: &str, port: u16) -> Option<NodeAddress> {
        let leader = resolved(host, port).await;
        for node in self.addresses() {
            if let NodeAddress::Tcp { host, port: at } = node
                && *at == port
                && !resolved(host, port).await.is_disjoint(&leader)
            {
                return Some(node.clone());
            }
        }
        None
    }
}

async fn resolved(host: &str, port: u16) -> HashSet<IpAddr> {
    let addresses = timeout(RESOLVED_WITHIN, lookup_host((host, port))).await;
    let addresses = addresses.ok().and_then(Result::ok).into_iter().flatten();
    addresses.map(|address| address.ip().to_canonical()).collect()
}

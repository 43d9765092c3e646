//! Where to: which service a client means, and which node serves it.
//!
//! Both are decisions over values; the watchers that look at nodes live in
//! `control` and only feed them.

pub mod naming;
pub mod topology;

use crate::directory::Node;

/// Where the data path reports trouble with a node. It only makes somebody
/// look; what the look shows decides (decision 31).
pub trait EvidenceSink: Send + Sync {
    /// A node behaved as if it were down, or no primary.
    fn suspect(&self, node: &Node);
}

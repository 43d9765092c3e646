//! The process's descriptors: as many as the system allows, and how many
//! clients that is (decision 7).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::session::accept::Descriptors;

/// Kept back from clients: listeners, runtimes, the admin socket, metrics,
/// management connections, name lookups.
const RESERVED: u64 = 40;
/// What is assumed where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit to the hard one and says what that allows.
pub(super) fn raise_limit(max_clients: usize) -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the descriptor limit could not be raised");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    let descriptors = Descriptors::new(limit, RESERVED);
    let clients = descriptors.clients();
    if clients < max_clients {
        tracing::warn!(
            limit,
            clients,
            max_clients,
            "the descriptor limit allows fewer clients than max_clients: raise LimitNOFILE or ulimit -n"
        );
    } else {
        tracing::info!(limit, clients, "descriptors");
    }
    descriptors
}

//! A client of the transaction endpoint: a server connection for each
//! transaction, lent by the pool and given back when nothing is left on it.
//!
//! ```text
//!   ┌─▶ without a connection: only the client is read ─┐ first bytes
//!   │                                                  ▼
//!   │                       lease: idle, or opened, or waited for
//!   │                                                  ▼
//!   └── given back ◀── ReadyForQuery 'I', ◀── relay both ways,
//!       nothing owed, no pin                  names and reports translated
//! ```
//!
//! The way through an idle connection of the pool is one poll: read, lease,
//! write; no task, no channel, no allocation.

mod aftermath;
pub mod client_state;
pub mod downward;
pub mod errand;
pub mod expected;
pub mod join;
pub mod lease;
pub mod pending;
pub mod relay;
mod skipping;
pub mod unanswered;
pub mod upward;

use std::sync::Arc;

use super::cancel::CancelTarget;
use super::standing::Standing;
use crate::auth::client::Keys;
use crate::directory::cancel_keys::Registration;
use crate::directory::roster::Seated;
use crate::net::Connection;
use crate::pool::ledger::PoolId;
use crate::pool::{NodeSlots, PoolKey};
use client_state::ClientState;

/// A client of the transaction endpoint.
pub struct Pooled {
    connection: Connection,
    member: Member,
    registration: Registration<CancelTarget>,
}

/// Everything about such a client but its connection.
struct Member {
    seat: Seated,
    state: ClientState,
    key: PoolKey,
    keys: Arc<Keys>,
    target: Arc<CancelTarget>,
    place: Option<Place>,
    /// What the client has been told of its server's role.
    standing: Standing,
}

/// Where the client's pool is, as of a version of the directory.
#[derive(Clone)]
struct Place {
    version: u64,
    slots: Arc<NodeSlots>,
    pool: PoolId,
    /// What shows the pool that it has a client.
    _keys: Arc<Keys>,
}

//! Lends server connections within each node's limit.
//!
//! The ledger counts, as a plain value; a [`Slot`] is the right to one server
//! connection and goes back by `Drop`; the closer keeps a connection's slot
//! until the server has really let go (decision 8).

pub mod closer;
pub mod keeper;
pub mod ledger;
pub mod pooled;
pub mod roles;
pub mod server;
pub mod slots;
pub mod spares;
pub mod trial;

pub use closer::{BackendReaper, Closer, ReaperAnswer};
pub use pooled::{Greeting, Origin, PoolKey, PooledServer};
pub use server::{Lead, ServerConnection};
pub use slots::{NodeSlots, Refused, Slot, SlotCounts, Slots};

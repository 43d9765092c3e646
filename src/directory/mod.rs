//! What the data path reads: the published snapshot, the live sessions, and
//! the keys that cancel their queries.
//!
//! The control plane writes here and the data path reads; neither calls the
//! other.

pub mod cancel_keys;
pub mod clock;
mod pace;
pub mod pooling;
pub mod refusals;
pub mod roster;
pub mod services;
pub mod snapshot;
pub mod tenure;

pub use cancel_keys::CancelKeys;
pub use clock::CoarseClock;
pub use pooling::{ClientLimits, Pooling, Reading};
pub use refusals::{Refusals, Refused};
pub use roster::{Roster, Seat};
pub use services::Services;
pub use snapshot::{Directory, Node, Routing, Service, Snapshot, Standby, Topology};
pub use tenure::{Tenure, Tenures};

//! The vocabulary: values without sockets, clocks or shared state.
//!
//! Everything else in Postern speaks in these types. A value that exists is
//! valid: names and addresses are parsed once, at the edge, and never checked
//! again (`docs` of each type say what is accepted).

pub mod address;
pub mod allowlist;
pub mod endpoint;
pub mod epoch;
pub mod name;
pub mod pin;
pub mod plan;
pub mod refusal;
pub mod secret;
pub mod service;
pub mod sqlstate;

pub use address::{ClientAddress, NodeAddress};
pub use allowlist::Allowlist;
pub use endpoint::{Access, Endpoint, PoolMode};
pub use epoch::Epoch;
pub use name::{InvalidName, ServiceName};
pub use pin::{PinReason, Pins};
pub use plan::Plan;
pub use refusal::Refusal;
pub use secret::Secret;
pub use service::{Kind, NodeTls};
pub use sqlstate::SqlState;

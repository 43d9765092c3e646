//! What the entries of the catalogue say.
//!
//! Texts that were checked on their way in are kept as texts; passwords are
//! never here but sealed, in a collection of their own.

mod access;
mod node;
mod service;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::Collection;
pub use access::{IdempotencyRecord, Scope, TokenRecord};
pub use node::{Found, NodeRecord, Usage};
pub use service::{
    PlacedNode, Provider, RoleRecord, RoleStage, ServiceKind, ServiceRecord, Stage, Step,
    TopologyRecord, role_secret, rotation_secret,
};

/// What an entry can be read as.
pub trait Record: Serialize + DeserializeOwned {
    /// Where such entries are.
    const COLLECTION: Collection;

    /// The entry's name there.
    fn name(&self) -> String;
}

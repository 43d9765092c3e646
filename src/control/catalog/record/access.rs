//! Who may do what, and what was done once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Record;
use crate::control::catalog::store::Collection;

/// What a token may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See everything but passwords.
    Read,
    /// Change services, and see their passwords.
    Write,
    /// Also nodes, tokens and the audit log.
    Admin,
}

/// A bearer token, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id, the public half of the token.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub scope: Scope,
    /// SHA-256 of the whole token, hexadecimal. A token is 256 random bits, so
    /// that a slow hash would protect nothing more.
    pub hash: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

impl Record for TokenRecord {
    const COLLECTION: Collection = Collection::Tokens;

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// What was created under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// Who created it, and the key.
    pub key: String,
    /// A hash of the request.
    pub fingerprint: String,
    /// The name of what was created.
    pub created: String,
    /// When, RFC 3339.
    pub at: String,
}

impl Record for IdempotencyRecord {
    const COLLECTION: Collection = Collection::Idempotency;

    fn name(&self) -> String {
        self.key.clone()
    }
}

//! What happened, and who did it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its number.
    pub id: u64,
    /// When, RFC 3339.
    pub at: String,
    /// In one word.
    pub kind: String,
    /// In a sentence.
    pub message: String,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its number.
    pub id: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What was changed: `services/orders`.
    pub subject: String,
    /// Who did it: the id of a token, or `socket`.
    pub actor: String,
    /// What he did.
    pub action: String,
    /// What he gave, without secrets.
    pub detail: serde_json::Value,
}

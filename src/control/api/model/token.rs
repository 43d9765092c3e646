//! Bearer tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::catalog::record::Scope;

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100, example = "the platform's console")]
    pub description: String,
    /// What it may do.
    pub scope: Scope,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id, the public half.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// A new token: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// The token.
    pub token: String,
    /// Its id, the public half.
    pub id: String,
    /// What it may do.
    pub scope: Scope,
}

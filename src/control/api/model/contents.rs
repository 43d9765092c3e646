//! Roles and databases of a service.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleCreate {
    /// Its name.
    #[schema(min_length = 1, max_length = 63, example = "app")]
    pub name: String,
}

/// A role that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// Its password, for tokens that may see it.
    pub password: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When its password was last set, RFC 3339.
    pub rotated_at: String,
}

/// A database to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseCreate {
    /// Its name.
    #[schema(min_length = 1, max_length = 63, example = "shop")]
    pub name: String,
    /// The role that owns it; the admin role unless given.
    #[schema(min_length = 1, max_length = 63)]
    pub owner: Option<String>,
}

/// A database of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseView {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
}

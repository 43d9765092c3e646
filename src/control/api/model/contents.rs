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

/// The longest grace time, in seconds: seven days.
pub const LONGEST_GRACE: u32 = 7 * 24 * 3600;

/// A new password that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoleRotate {
    /// For how many seconds the old password works beside the new one; 0: it is
    /// refused at once.
    #[schema(maximum = 604_800)]
    pub grace: u32,
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
    /// Until when the password before works, too, RFC 3339: unless the password
    /// is changed in SQL meanwhile.
    pub previous_password_until: Option<String>,
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

//! Live sessions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// Its number.
    pub id: u64,
    /// `session` or `transaction`.
    pub endpoint: String,
    /// Its role.
    pub role: String,
    /// Its database.
    pub database: String,
    /// Its `application_name` at login.
    pub application: String,
    /// Where from.
    pub address: String,
    /// What it is doing.
    pub activity: String,
    /// For how many seconds it has been doing it.
    pub activity_seconds: u32,
    /// For how many seconds it has been here.
    pub age_seconds: u32,
}

/// How many sessions were told to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedView {
    /// So many.
    pub ended: usize,
}

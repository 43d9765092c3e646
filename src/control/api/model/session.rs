//! Live sessions, and clients that were turned away.

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

/// A client that was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// Its id; a client that had logged in was told it.
    pub id: String,
    /// When, RFC 3339.
    pub at: String,
    /// `reason` in `postern_refusals_total`.
    pub reason: String,
    /// The SQLSTATE that it was told.
    pub sqlstate: String,
    /// What it was told.
    pub message: String,
    /// What it was told of the circumstances.
    pub detail: Option<String>,
    /// What it was told to do.
    pub hint: Option<String>,
    /// Where it came from.
    pub address: String,
    /// The service that it asked for, if there was one of that name.
    pub service: Option<String>,
    /// The role that it had proved to be.
    pub role: Option<String>,
}

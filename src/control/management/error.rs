//! Why a node could not be asked.
//!
//! These texts go to the log and to `check --connect`. They hold what the
//! server said and nothing of what was said to it: no password, no verifier.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::upstream::dial::DialError;

/// Why a node could not be asked. Cheap to clone: all who waited for one
/// connection hear the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeError {
    /// No connection, or none encrypted as `node_tls` demands.
    #[error("{0}")]
    Dial(#[source] Arc<DialError>),
    /// The server refused the management role's login.
    #[error("the management role's login failed: {message} (SQLSTATE {sqlstate})")]
    Login {
        /// The server's message.
        message: String,
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// The server answered a query with an error.
    #[error("a query of the management role failed: {message} (SQLSTATE {sqlstate})")]
    Query {
        /// The server's message.
        message: String,
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// The connection ended, or what came over it was not PostgreSQL's
    /// protocol.
    #[error("the management connection broke: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The management role may not read verifiers.
    #[error(
        "the management role may not look verifiers up: run the output of `postern node sql` on \
         the service's primary, in the management database"
    )]
    NoGrant,
    /// The service or the node is not in the Directory any more.
    #[error("the node belongs to no service any more")]
    Unwatched,
}

impl NodeError {
    /// What a login ended in.
    pub(in crate::control) fn of_login(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(reported) => Self::Login {
                message: reported.message().to_owned(),
                sqlstate: reported.code().code().to_owned(),
            },
            None => Self::Broken(chain(error)),
        }
    }

    /// What a query ended in.
    pub(in crate::control) fn of_query(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(reported) => Self::Query {
                message: reported.message().to_owned(),
                sqlstate: reported.code().code().to_owned(),
            },
            None => Self::Broken(chain(error)),
        }
    }

    /// The SQLSTATE, if the server reported one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Login { sqlstate, .. } | Self::Query { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// Whether nobody serves there, as opposed to somebody who did not answer
    /// us: only the first says that the node is down.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            // Our own descriptors, memory or ports ran out (trap C-24).
            Self::Dial(error) if is_our_own(error) => false,
            Self::Dial(_) | Self::Broken(_) | Self::Unwatched => true,
            Self::Login { sqlstate, .. } | Self::Query { sqlstate, .. } => {
                matches!(sqlstate.as_str(), "57P01" | "57P02" | "57P03")
            }
            Self::Timeout(_) | Self::NoGrant => false,
        }
    }

    /// Whether the role may not do what it was told to do, or what it needs
    /// for that is missing.
    pub(super) fn is_about_rights(&self) -> bool {
        let missing = ["42501", "42883", "3F000"];
        matches!(self, Self::NoGrant) || self.sqlstate().is_some_and(|code| missing.contains(&code))
    }
}

/// Whether a connection could not be made because this process or host lacks
/// something, which says nothing about the node.
fn is_our_own(error: &DialError) -> bool {
    let DialError::Connect(error) = error else { return false };
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|code| lacking.contains(&code))
}

/// An error with its causes on one line.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

//! Who a client is: SCRAM-SHA-256 (RFC 5802, RFC 7677) on both sides.
//!
//! The client proves its password against PostgreSQL's own verifier; from the
//! proof comes the `ClientKey`, which logs the role in on the server, so that no
//! password is ever known here (decision 19). Everything in this folder is
//! computation: no sockets, no clock; time and randomness are arguments.

pub mod client;
pub mod credential;
pub mod freshness;
pub mod mock;
pub mod rotation;
pub mod scram;
pub mod server;
pub mod throttle;
pub mod verifier;

pub use verifier::{Lookup, LookupError, Verifier, VerifierSource};

//! What Postern says about itself over HTTP: metrics and health.
//!
//! The page is built from what the program counts while it runs
//! (`crate::metrics`) and from what is found by looking when somebody scrapes:
//! the data path keeps no gauges. Everything here runs on the control runtime
//! and only reads.

mod family;
#[cfg(test)]
pub(in crate::control) mod fixture;
mod health;
pub(in crate::control) mod http;
mod nodes;
mod page;
mod process;
mod readiness;
mod recency;
mod server;
mod sight;
#[cfg(test)]
mod tests;
mod topology;

pub use health::{Unhealthy, health};
pub use http::NoAnswer;
pub use nodes::{NodeRole, NodeState};
pub use page::{Exposition, Sources};
pub use readiness::{NotReady, Readiness};
pub use server::serve;

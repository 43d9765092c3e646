//! The admin socket: what the command line on the host asks and orders
//! (decision 39).
//!
//! Both sides are here, so that they speak of the same types: the server,
//! which `postern serve` runs on the control runtime, and the client behind
//! `postern status|drain|reload`. Whoever may open the socket may do
//! everything: its mode is 0600, and its peers are root or of our own user.
//! How a reload works is not known here.

mod client;
mod peer;
mod reload;
mod server;
mod status;
mod table;
#[cfg(test)]
mod tests;

pub use client::{AdminClient, AdminError};
pub use reload::{Reload, ReloadReport};
pub use server::{AdminSocket, AdminSocketError, Controls};
pub use status::{ClientCounts, Listening, NodeStatus, ServiceStatus, SlotStatus, Stage, Status};

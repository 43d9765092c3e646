//! Postern: the front door of a managed PostgreSQL platform.
//!
//! The folders are floors (`ARCHITECTURE.md`): a module imports only from
//! floors below its own, siblings never import each other, and
//! `tests/architecture.rs` says so.

pub mod admission;
pub mod app;
pub mod auth;
pub mod cluster;
pub mod control;
pub mod directory;
pub mod disk;
pub mod domain;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod rehearsal;
pub mod routing;
pub mod session;
pub mod shutdown;
pub mod state;
pub mod upstream;
pub mod wire;

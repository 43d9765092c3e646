//! Postern: the front door of a managed PostgreSQL platform.
//!
//! The folders are floors (`ARCHITECTURE.md`): a module imports only from
//! floors below its own, siblings never import each other, and
//! `tests/architecture.rs` says so.

pub mod auth;
pub mod control;
pub mod domain;
pub mod wire;

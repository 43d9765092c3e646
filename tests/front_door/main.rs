//! Postern in front of real PostgreSQL servers.
//!
//! One server of each kind is started for the whole binary (`stage`); each
//! test gets a Postern, a role and a database of its own, so that all of them
//! run side by side. `raw` is a client that can say anything, at byte level.
//! Tests of a known trap of the field carry its number in their name.

#![allow(unreachable_pub, reason = "this binary has one module tree and no users outside it")]

#[path = "../drivers/clients.rs"]
#[allow(dead_code, reason = "the tests of the drivers use the rest")]
mod clients;
mod pooled_client;
mod program;
mod random;
mod raw;
mod stage;

mod cancel;
mod encryption;
mod endurance;
mod failover;
mod introduction;
mod limits;
mod login;
mod operation;
mod ownership;
mod platform;
mod pooling;
mod prepared;
mod refusals;
mod relay;
mod reuse;
mod scale;
mod session_state;
mod shared_node;
mod stress;
mod timeouts;
mod topology;
mod transcripts;
mod vector;

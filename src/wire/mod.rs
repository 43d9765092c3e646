//! Bytes to values and back: PostgreSQL's frontend/backend protocol, version 3
//! (PostgreSQL documentation, chapter 55).
//!
//! Nothing here reads a socket or keeps state beyond the message at hand; all
//! parsers take untrusted bytes, allocate no more than they were given, and
//! never panic (property tests beside each of them).

pub mod answer;
pub mod conversation;
pub mod frame;
pub mod login;
pub mod options;
pub mod proxy_header;
pub mod request;
pub mod startup;

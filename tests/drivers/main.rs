//! The demo, and real clients in front of it.
//!
//! `demo_command` runs `postern demo` as a person would; `snippets` runs what
//! it prints; `session` and `pooled` run a script of each driver, which stands
//! beside this file and names on its standard output what it has seen work.
//! `document` holds the admin API to its own document.
//! These tests share one demo (`demo`), and each has a database of its own.

mod clients;
mod demo;

mod demo_command;
mod document;
mod pooled;
mod session;
mod snippets;

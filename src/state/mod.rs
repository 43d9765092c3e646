//! What a session leaves behind on a PostgreSQL connection.
//!
//! With transaction pooling a client's next transaction may run on another
//! connection. [`look()`] reads one SQL text and says what state it may create
//! that the next connection would lack; [`may_fold_dates`] says whether a
//! text means something else when it is prepared on another day.
//!
//! Nothing here has a socket or a clock: a text goes in, a verdict comes out.
//! Verdicts may be too strict, never too lenient: a text that PostgreSQL
//! accepts and that creates such state gets its verdict, and what is not seen
//! is named here:
//!
//! - what happens inside functions that the text does not call by name, as
//!   triggers, views and operators do, and inside those without a source; those
//!   of PostgreSQL itself are in [`functions`], those of users in [`routines`];
//! - SQL that is put together at run time out of pieces of words.
//!
//! Texts are read as they come. In some client encodings a byte below 0x80 may
//! be the second half of a character ([`reports::Reports::mixes_ascii`]): who
//! asks about such a text must take anything beyond ASCII for unreadable.

pub mod audit;
mod body;
pub mod carried;
mod commands;
pub mod company;
mod databases;
pub mod dates;
pub mod functions;
pub mod lexer;
mod literals;
pub mod look;
mod parameters;
mod prefilter;
pub mod reading;
pub mod reports;
pub mod routines;
pub mod schema;
mod settings;
pub mod statement_commands;
pub mod statements;
pub mod touched;
pub mod transactions;

pub use carried::Carried;
pub use company::{Company, Sequences};
pub use databases::wants_database_alone;
pub use dates::may_fold_dates;
pub use look::{LONGEST_READ, Look, look};
pub use parameters::parameter_count;
pub use statement_commands::{Discard, StatementCommand, StatementName};
pub use touched::Touched;

pub use crate::domain::{PinReason, Pins};

//! One connection to one node: dial, log in, reset, cancel.
//!
//! Who may have a connection, and what becomes of it, is `pool`'s business.

pub mod cancel;
pub mod dial;
pub mod login;
pub mod reset;

pub use dial::{Dialed, Dialer};
pub use login::{LoggedIn, LoginFailure};

//! May you: the caps on strangers, the allowlist, and the brake on guessing.
//!
//! Each check gives a permit that the next step demands; a permit is given
//! back when it is dropped.

pub mod allowed;
pub mod strangers;

pub use allowed::Allowed;
pub use strangers::{Stranger, Strangers};

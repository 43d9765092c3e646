//! `postern doctor`

use super::Failure;
use crate::control::doctor::{self, Uri};

/// Walks the way of a client, and prints each step.
///
/// # Errors
/// If a step fails, or the URI is none.
pub fn run(uri: &str) -> Result<(), Failure> {
    let uri: Uri = uri.parse().map_err(|error| Failure::new(format!("{error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arrived = runtime.block_on(doctor::walk(&uri, |finding| println!("{finding}")));
    if arrived { Ok(()) } else { Err(Failure::new("the way is blocked at the step above")) }
}

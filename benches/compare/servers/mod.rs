//! What runs: the PostgreSQL server behind everything, Postern, `PgBouncer`.

mod certificates;
pub mod pgbouncer;
pub mod postern;
mod stage;

pub use stage::{PASSWORD, Stage, USER};

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::Fallible;

/// Writes a file that only its owner reads.
fn write_private(path: &Path, text: &str) -> Fallible<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.map_err(|error| format!("{}: {error}", path.display()))?)
}

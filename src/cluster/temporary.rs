//! A directory for what goes with the servers: certificates, configuration.

use std::path::Path;

use tempfile::TempDir;

use super::account::Account;
use super::data::temporary_directory;
use super::error::Error;
use super::guardian::{Duty, Guardian};

/// A temporary directory of our own that is removed however this process ends.
#[derive(Debug)]
pub struct TemporaryDirectory {
    // Dropped first: it removes the directory, and then there is nothing left
    // for the directory's own drop to do.
    _guardian: Guardian,
    directory: TempDir,
}

impl TemporaryDirectory {
    /// Makes one below the system's directory for such things.
    pub fn create(prefix: &str) -> Result<Self, Error> {
        let directory = temporary_directory(prefix)?;
        let guardian =
            Guardian::start(Duty::postmaster(Some(directory.path())), Account::Ourselves)?;
        Ok(Self { _guardian: guardian, directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

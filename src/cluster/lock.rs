//! Two processes never work on one directory: the file `lock` in it is locked
//! until the last of what was started there has ended, which may be after the
//! process that started it. `initdb` that is told to end removes its data
//! directory, whosever that is by then.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::error::{Doing as _, Error};

/// For what an earlier process started to end: longer than guardians take.
const UNUSED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until nothing runs any more that an earlier process started in this
/// directory.
///
/// # Errors
/// [`Error::InUse`] after a minute; if the lock cannot be opened.
pub fn wait_until_unused(directory: &Path) -> Result<(), Error> {
    if directory.join("lock").exists() { acquire(directory).map(drop) } else { Ok(()) }
}

/// The lock of a directory, once nobody else has it. Closed, it is given up.
pub(super) fn acquire(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(&path).doing("opening", &path)?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > UNUSED_WITHIN {
            return Err(Error::InUse { directory: directory.to_owned() });
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(file)
}

//! Files that are there whole or not at all, also after a crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Puts a file in its place that holds these bytes and that nobody else may
/// read (mode 0600), in the place of one that may be there; makes its
/// directory. Returns when it is on the disk.
///
/// It is written beside its place and moved there, so that nobody ever reads
/// half of it; the directory is synced, so that it is the new one after a
/// crash. A crash in the middle leaves a hidden `.tmp` file and the old one.
///
/// # Errors
/// As the system; the file is the old one then, unless it was the directory
/// that could not be synced.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_stays_private() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("a/b");
        for bytes in [&b"a long first one"[..], b"short"] {
            replace(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let under_a_file = path.join("c");
        assert!(replace(&under_a_file, b"x").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}

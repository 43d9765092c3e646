//! The secret that mock verifiers are made from: made once, kept in a file, so
//! that a role that does not exist has the same salt after a restart
//! (decision 19).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::auth::scram::KEY;
use crate::domain::Secret;
use crate::session::door::random;

/// Reads the secret, or makes it if there is none yet.
///
/// # Errors
/// As the system; `InvalidData` if the file holds something else.
pub fn read_or_make(path: &Path) -> io::Result<Secret<[u8; KEY]>> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        done => done,
    }
}

fn read(path: &Path) -> io::Result<Secret<[u8; KEY]>> {
    let mut secret = [0; KEY];
    let mut file = fs::File::open(path)?;
    file.read_exact(&mut secret).map_err(|_| not_a_secret())?;
    if file.read(&mut [0])? != 0 {
        return Err(not_a_secret());
    }
    Ok(Secret::new(secret))
}

fn not_a_secret() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file does not hold {KEY} bytes"))
}

/// Written beside its place and moved there, so that nobody ever reads half
/// of it.
fn make(path: &Path) -> io::Result<Secret<[u8; KEY]>> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let secret: [u8; KEY] = random();
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(Secret::new(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/secret");
        let first = read_or_make(&path).unwrap();
        assert_eq!(first.expose(), read_or_make(&path).unwrap().expose());
        assert_ne!(first.expose(), &[0; KEY]);
        fs::write(&path, "short").unwrap();
        assert_eq!(read_or_make(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

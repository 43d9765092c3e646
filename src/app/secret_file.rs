//! The secret that mock verifiers are made from: made once, kept in a file, so
//! that a role that does not exist has the same salt after a restart
//! (decision 19).

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use crate::auth::scram::KEY;
use crate::disk;
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

fn make(path: &Path) -> io::Result<Secret<[u8; KEY]>> {
    let secret = Secret::new(random());
    disk::replace(path, secret.expose())?;
    Ok(secret)
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

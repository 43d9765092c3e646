//! The keys that the catalogue's secrets are sealed with: AES-256-GCM, each
//! secret bound to its path, so that none can be put in another's place.
//!
//! A key file has a key a line, 32 bytes in base64. The first line seals;
//! the others only open what was sealed before, until everything has been
//! sealed anew, which a start does. A key is told by the first bytes of its
//! SHA-256, so that a wrong key is recognised as such.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use zeroize::Zeroize as _;

use crate::domain::Secret;

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes that tell a key.
const ID: usize = 4;
/// Permission bits of users who are neither the file's owner nor in its group.
const OTHERS: u32 = 0o007;

/// Seals and opens.
#[derive(Debug)]
pub struct Keyring {
    /// The first seals.
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: [u8; ID],
    cipher: LessSafeKey,
}

/// Why a secret cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no list of keys.
    #[error("expected a key a line, each 32 bytes in base64 (openssl rand -base64 32)")]
    NoKeys,
    /// The file is open to everybody.
    #[error("the file is open to every user (mode {0:04o}): chmod o= it")]
    Open(u32),
    /// The file cannot be read or made.
    #[error("{0}")]
    File(String),
    /// Sealed with a key that is not here.
    #[error("it was sealed with another key")]
    WrongKey,
    /// Not what was sealed.
    #[error("a sealed secret is damaged")]
    Damaged,
}

impl Keyring {
    /// Reads keys, one a line.
    ///
    /// # Errors
    /// [`KeyError::NoKeys`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Option<Vec<_>> = lines.map(Key::parse).collect();
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or(KeyError::NoKeys)?;
        Ok(Self { keys })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file = |error: std::io::Error| KeyError::File(error.to_string());
        let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyError::Open(mode));
        }
        let text = fs::read_to_string(path).map(Secret::new).map_err(file)?;
        Self::parse(text.expose())
    }

    /// Makes a key file that is not there yet, with mode 0600.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn make(path: &Path) -> Result<Self, KeyError> {
        let text = Secret::new(format!("{}\n", random_key()));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.expose().as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| KeyError::File(error.to_string()))?;
        Self::parse(text.expose())
    }

    /// Seals a secret that belongs to this path.
    ///
    /// # Panics
    /// If the system has no random bytes.
    #[must_use]
    pub fn seal(&self, path: &str, secret: &str) -> Vec<u8> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system has random bytes");
        let mut text = secret.as_bytes().to_vec();
        let aad = Aad::from(path.as_bytes());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.cipher
            .seal_in_place_append_tag(nonce_used, aad, &mut text)
            .expect("a secret is far smaller than what a key may seal");
        [&key.id[..], &nonce[..], &text[..]].concat()
    }

    /// Opens what was sealed for this path.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] and [`KeyError::Damaged`].
    pub fn open(&self, path: &str, sealed: &[u8]) -> Result<Secret<String>, KeyError> {
        let (id, rest) = sealed.split_at_checked(ID).ok_or(KeyError::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(KeyError::Damaged)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or(KeyError::WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::Damaged)?;
        let mut text = text.to_vec();
        let opened = key.cipher.open_in_place(nonce, Aad::from(path.as_bytes()), &mut text);
        let opened = opened.map_err(|_| KeyError::Damaged)?;
        let opened = String::from_utf8(opened.to_vec()).map_err(|_| KeyError::Damaged);
        text.zeroize();
        opened.map(Secret::new)
    }

    /// Whether this was sealed with a key that only opens.
    #[must_use]
    pub fn is_old(&self, sealed: &[u8]) -> bool {
        !sealed.starts_with(&self.keys[0].id)
    }
}

impl Key {
    fn parse(line: &str) -> Option<Self> {
        let mut bytes = BASE64_STANDARD.decode(line).ok().filter(|bytes| bytes.len() == KEY)?;
        let mut id = [0; ID];
        id.copy_from_slice(&digest::digest(&digest::SHA256, &bytes).as_ref()[..ID]);
        let cipher = UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new);
        bytes.zeroize();
        Some(Self { id, cipher: cipher? })
    }
}

fn random_key() -> String {
    let mut bytes = [0; KEY];
    rand::fill(&mut bytes).expect("the system has random bytes");
    let text = BASE64_STANDARD.encode(bytes);
    bytes.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_and_at_its_path_only() {
        let ring = Keyring::parse(&random_key()).unwrap();
        let sealed = ring.seal("services/orders/admin", "hunter2");
        assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"));
        assert_eq!(ring.open("services/orders/admin", &sealed).unwrap().expose(), "hunter2");
        let elsewhere = ring.open("services/carts/admin", &sealed);
        assert_eq!(elsewhere.unwrap_err(), KeyError::Damaged);
        let other = Keyring::parse(&random_key()).unwrap();
        let wrong = other.open("services/orders/admin", &sealed);
        assert_eq!(wrong.unwrap_err(), KeyError::WrongKey);
        assert_eq!(ring.open("x", b"abc").unwrap_err(), KeyError::Damaged);
        assert_ne!(sealed, ring.seal("services/orders/admin", "hunter2"));
    }

    #[test]
    fn an_older_key_opens_and_the_first_one_seals() {
        let (old, new) = (random_key(), random_key());
        let sealed = Keyring::parse(&old).unwrap().seal("a", "hunter2");
        let both = Keyring::parse(&format!("{new}\n\n{old}\n")).unwrap();
        assert!(both.is_old(&sealed));
        assert_eq!(both.open("a", &sealed).unwrap().expose(), "hunter2");
        let again = both.seal("a", "hunter2");
        assert!(!both.is_old(&again));
        assert!(Keyring::parse(&new).unwrap().open("a", &again).is_ok());
    }

    #[test]
    fn a_key_file_is_private_and_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.key");
        let sealed = Keyring::make(&path).unwrap().seal("a", "x");
        assert!(Keyring::read(&path).unwrap().open("a", &sealed).is_ok());
        assert!(matches!(Keyring::make(&path), Err(KeyError::File(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Keyring::read(&path).unwrap_err(), KeyError::Open(0o644));
        for text in ["", "short", "AAAA"] {
            assert_eq!(Keyring::parse(text).unwrap_err(), KeyError::NoKeys, "{text:?}");
        }
    }
}

//! The certificates that both proxies show.

use std::fs;
use std::path::{Path, PathBuf};

use postern::app::certificate;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::write_private;
use crate::Fallible;
use crate::point::KeyType;

/// A directory with a pair for each type of key.
#[derive(Debug)]
pub struct Certificates {
    root: PathBuf,
}

impl Certificates {
    pub fn make(root: &Path) -> Fallible<Self> {
        let made = Self { root: root.to_owned() };
        let names = ["localhost", "127.0.0.1"];
        certificate::write(&made.directory(KeyType::Ecdsa), "Postern bench", &names)?;
        fs::create_dir(made.directory(KeyType::Rsa))?;
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let params = CertificateParams::new(names.map(String::from))?;
        write_private(&made.certificate(KeyType::Rsa), &params.self_signed(&key)?.pem())?;
        write_private(&made.key(KeyType::Rsa), &key.serialize_pem())?;
        Ok(made)
    }

    pub fn certificate(&self, key: KeyType) -> PathBuf {
        self.directory(key).join("server.crt")
    }

    pub fn key(&self, key: KeyType) -> PathBuf {
        self.directory(key).join("server.key")
    }

    fn directory(&self, key: KeyType) -> PathBuf {
        self.root.join(match key {
            KeyType::Ecdsa => "ecdsa",
            KeyType::Rsa => "rsa",
        })
    }
}

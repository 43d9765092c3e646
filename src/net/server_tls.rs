//! TLS towards clients (decision 21): 1.2 and 1.3, no tickets, no resumption,
//! no early data; the certificate chosen by the name the client asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{self, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::binding::end_point_hash;

/// The one application protocol (PostgreSQL 17, `sslnegotiation=direct`).
pub const ALPN: &[u8] = b"postgresql";

/// The certificates, and how handshakes are done with them.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

#[derive(Debug)]
struct Certificates(Vec<Certificate>);

#[derive(Debug)]
struct Certificate {
    certified: Arc<CertifiedKey>,
    /// Lower-case DNS names, perhaps `*.domain`.
    names: Vec<String>,
    binding: Option<Box<[u8]>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or is not PEM.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What PEM says.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{0}: no certificate in the file")]
    Empty(PathBuf),
    /// Key and certificate do not belong together, or are of no known kind.
    #[error("{path}: {source}")]
    Tls {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

impl ServerTls {
    /// Loads pairs of certificate chain and key; the first pair is for clients
    /// that ask for no name or for one that no certificate has.
    ///
    /// # Errors
    /// [`CertificateError`] for the first pair that cannot be used.
    ///
    /// # Panics
    /// If aws-lc-rs did not know TLS 1.2 and 1.3.
    pub fn load(pairs: &[(PathBuf, PathBuf)]) -> Result<Self, CertificateError> {
        let certificates: Result<Vec<_>, _> =
            pairs.iter().map(|(certificate, key)| Certificate::load(certificate, key)).collect();
        let certificates = Arc::new(Certificates(certificates?));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("aws-lc-rs knows both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// For one handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The same certificates for HTTP.
    #[must_use]
    pub fn https(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// The hash of the certificate that a client who asked for this name was
    /// shown.
    #[must_use]
    pub fn binding(&self, server_name: Option<&str>) -> Option<Box<[u8]>> {
        self.certificates.choose(server_name)?.binding.clone()
    }
}

impl Certificate {
    fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let pem = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Pem { path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(pem(certificate))?;
        let Some(leaf) = chain.first() else {
            return Err(CertificateError::Empty(certificate.to_owned()));
        };
        let (names, binding) = (dns_names(leaf), end_point_hash(leaf));
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|source| CertificateError::Tls { path: certificate.to_owned(), source })?;
        Ok(Self { certified: Arc::new(certified), names, binding })
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            None => own == name,
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        })
    }
}

fn dns_names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(alternatives)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(dns).collect()
}

impl Certificates {
    fn choose(&self, server_name: Option<&str>) -> Option<&Certificate> {
        let name = server_name.map(str::to_ascii_lowercase);
        let named = name.and_then(|name| self.0.iter().find(|c| c.is_for(&name)));
        named.or_else(|| self.0.first())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|certificate| Arc::clone(&certificate.certified))
    }
}

/// The rustls error inside an I/O error of a handshake, for the log.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::authority::Authority;

    #[test]
    fn e13_the_certificate_follows_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("test").unwrap();
        let pairs: Vec<_> = [vec!["localhost"], vec!["*.a.example", "a.example"]]
            .iter()
            .enumerate()
            .map(|(n, names)| {
                let leaf = authority.issue(names).unwrap();
                let pair =
                    (dir.path().join(format!("{n}.crt")), dir.path().join(format!("{n}.key")));
                std::fs::write(&pair.0, leaf.certificate).unwrap();
                std::fs::write(&pair.1, leaf.key).unwrap();
                pair
            })
            .collect();
        let tls = ServerTls::load(&pairs).unwrap();
        let (first, second) = (tls.binding(None), tls.binding(Some("a.example")));
        assert_ne!(first, second);
        for (name, hash) in [
            ("localhost", &first),
            ("other.example", &first),
            ("x.y.a.example", &first),
            ("ORDERS.A.Example", &second),
        ] {
            assert_eq!(&tls.binding(Some(name)), hash, "{name}");
        }
    }

    #[test]
    fn unusable_files_say_which() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let empty = file("empty.crt", "");
        let missing = dir.path().join("missing.crt");
        for path in [&empty, &missing] {
            let error = ServerTls::load(&[(path.clone(), path.clone())]).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
}

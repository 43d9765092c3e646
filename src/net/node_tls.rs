//! TLS towards nodes: libpq's `sslmode`, as `node_tls`.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::server_tls::ALPN;
use crate::domain::NodeTls;

/// A node's authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// `verify-ca` and `verify-full` need authorities.
    #[error("node_tls verifies certificates, but node_ca names no authority")]
    None,
    /// The file is no PEM, or holds something else than certificates.
    #[error("node_ca: {0}")]
    Invalid(String),
}

/// The configuration for connections to a node; `None` where they are never
/// encrypted.
///
/// # Errors
/// [`AuthorityError`].
///
/// # Panics
/// If aws-lc-rs did not know TLS 1.2 and 1.3.
pub fn client_config(
    mode: NodeTls,
    authorities: Option<&str>,
) -> Result<Option<Arc<ClientConfig>>, AuthorityError> {
    let check = match mode {
        NodeTls::Disable => return Ok(None),
        NodeTls::Prefer | NodeTls::Require => Check::Nothing,
        NodeTls::VerifyCa => Check::Authority(verifier(authorities)?),
        NodeTls::VerifyFull => Check::AuthorityAndName(verifier(authorities)?),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = NodeVerifier { check, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("aws-lc-rs knows both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

fn verifier(authorities: Option<&str>) -> Result<Arc<WebPkiServerVerifier>, AuthorityError> {
    let pem = authorities.ok_or(AuthorityError::None)?;
    let invalid = |error: &dyn std::fmt::Display| AuthorityError::Invalid(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| invalid(&error))
}

#[derive(Debug)]
enum Check {
    Nothing,
    Authority(Arc<WebPkiServerVerifier>),
    AuthorityAndName(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct NodeVerifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match &self.check {
            Check::Nothing => Ok(ServerCertVerified::assertion()),
            Check::AuthorityAndName(verifier) => verify(verifier),
            // rustls looks at the chain first and at the name last.
            Check::Authority(verifier) => match verify(verifier) {
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                other => other,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

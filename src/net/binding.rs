//! Channel binding `tls-server-end-point` (RFC 5929, section 4.1): the hash of
//! a certificate, by the hash function of its own signature.

use aws_lc_rs::digest;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The hash that both sides bind to, or `None` where the signature names no
/// hash function (Ed25519): then channel binding is not offered.
#[must_use]
pub fn end_point_hash(certificate: &[u8]) -> Option<Box<[u8]>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = signature_hash(&parsed)?;
    Some(digest::digest(algorithm, certificate).as_ref().into())
}

/// MD5 and SHA-1 count as SHA-256, as the RFC says.
fn signature_hash(certificate: &X509Certificate<'_>) -> Option<&'static digest::Algorithm> {
    let signature = &certificate.signature_algorithm;
    if let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(signature)
    {
        return hash_named(parameters.hash_algorithm_oid());
    }
    let by_signature = [
        (&oid::OID_PKCS1_SHA256WITHRSA, &digest::SHA256),
        (&oid::OID_PKCS1_SHA384WITHRSA, &digest::SHA384),
        (&oid::OID_PKCS1_SHA512WITHRSA, &digest::SHA512),
        (&oid::OID_PKCS1_SHA1WITHRSA, &digest::SHA256),
        (&oid::OID_PKCS1_MD5WITHRSAENC, &digest::SHA256),
        (&oid::OID_SIG_ECDSA_WITH_SHA256, &digest::SHA256),
        (&oid::OID_SIG_ECDSA_WITH_SHA384, &digest::SHA384),
        (&oid::OID_SIG_ECDSA_WITH_SHA512, &digest::SHA512),
    ];
    by_signature.into_iter().find(|(oid, _)| **oid == signature.algorithm).map(|(_, hash)| hash)
}

fn hash_named(name: &oid::Oid<'_>) -> Option<&'static digest::Algorithm> {
    let by_name = [
        (&oid::OID_NIST_HASH_SHA256, &digest::SHA256),
        (&oid::OID_NIST_HASH_SHA384, &digest::SHA384),
        (&oid::OID_NIST_HASH_SHA512, &digest::SHA512),
        (&oid::OID_HASH_SHA1, &digest::SHA256),
    ];
    by_name.into_iter().find(|(oid, _)| *oid == name).map(|(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a24_the_hash_follows_the_signature() {
        for (algorithm, bytes) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, 32),
            (&rcgen::PKCS_ECDSA_P384_SHA384, 48),
            (&rcgen::PKCS_RSA_SHA256, 32),
            (&rcgen::PKCS_RSA_SHA512, 64),
        ] {
            assert_eq!(end_point_hash(&self_signed(algorithm)).unwrap().len(), bytes);
        }
        assert_eq!(end_point_hash(&self_signed(&rcgen::PKCS_ED25519)), None);
        assert_eq!(end_point_hash(b"no certificate"), None);
    }
}

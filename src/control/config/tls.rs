//! How client connections are encrypted (decision 21).

use std::path::PathBuf;

use ipnet::IpNet;

use super::files;
use super::listen::Listen;
use super::section::Section;

/// How client connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether it is offered, and whether it is demanded.
    pub mode: TlsMode,
    /// Where `TlsMode::Require` lets a plain connection come from. Clients of
    /// unix sockets are always plain.
    pub plain_from: Vec<IpNet>,
    /// The certificate for clients whose SNI names no other one, or that send
    /// none.
    pub certificate: Option<CertificateFiles>,
    /// Certificates for further domains, chosen by SNI.
    pub further: Vec<CertificateFiles>,
}

/// Whether TLS is offered to clients, and whether it is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Not offered.
    Disable,
    /// Offered.
    Allow,
    /// Demanded, except from `plain_from`.
    Require,
}

/// A certificate chain and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

const MODES: [(&str, TlsMode); 3] = [
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("require", TlsMode::Require),
];

/// Reads `[tls]`.
pub(super) fn read(section: &mut Section, listen: &Listen) -> Tls {
    let tls = Tls {
        mode: section.choice("mode", &MODES, TlsMode::Require),
        plain_from: section.or("plain_from", loopback()),
        certificate: certificate(section),
        further: section.sections("certificates", further_certificate),
    };
    check(section, &tls, listen);
    tls
}

fn loopback() -> Vec<IpNet> {
    let v4 = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
    let v6 = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128);
    vec![v4.into(), v6.into()]
}

/// The default certificate: both files, or neither.
fn certificate(section: &mut Section) -> Option<CertificateFiles> {
    let certificate = files::optional_file(section, "certificate");
    let key: Option<PathBuf> = section.optional("key");
    if let Some(key) = &key {
        files::check_secret(key, &section.at("key"));
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => return Some(CertificateFiles { certificate, key }),
        (Some(_), None) => section
            .at("key")
            .problem("is missing; tls.certificate is given"),
        (None, Some(_)) => section
            .at("certificate")
            .problem("is missing; tls.key is given"),
        (None, None) => {}
    }
    None
}

fn further_certificate(section: &mut Section) -> Option<CertificateFiles> {
    let certificate = files::required_file(section, "certificate");
    let key: Option<PathBuf> = section.required("key");
    if let Some(key) = &key {
        files::check_secret(key, &section.at("key"));
    }
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
    })
}

fn check(section: &Section, tls: &Tls, listen: &Listen) {
    if tls.certificate.is_some() {
        return;
    }
    let place = section.at("certificate");
    if !tls.further.is_empty() {
        place.problem("is missing; clients that name no host are shown this one");
    } else if tls.mode != TlsMode::Disable
        && let Some(remote) = listen.remote()
    {
        place.problem(format!(
            "is missing, and other hosts can reach the listener {remote}: \
             make one with \"postern cert --self-signed DIR\", or set tls.mode = \"disable\""
        ));
    }
}

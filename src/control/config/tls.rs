//! How client connections are encrypted (decision 21).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::files::{ReadableFile, SecretFile};
use super::listen::Listen;
use super::reading::Place;
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
    /// The authority's certificate, PEM, that customers are shown.
    pub authority: Option<PathBuf>,
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

const MODES: [(&str, TlsMode); 3] =
    [("disable", TlsMode::Disable), ("allow", TlsMode::Allow), ("require", TlsMode::Require)];

/// Reads `[tls]`.
pub(super) fn read(section: &mut Section, listen: &Listen) -> Tls {
    let written = ["certificate", "key"].map(|key| section.has(key));
    let tls = Tls {
        mode: section.choice("mode", &MODES, TlsMode::Require),
        plain_from: section.or("plain_from", loopback()),
        certificate: default_certificate(section),
        further: section.sections("certificates", further_certificate),
        authority: section.optional::<ReadableFile>("authority").map(|file| file.0),
    };
    match written {
        [true, true] => {}
        [true, false] => section.at("key").problem("is missing; tls.certificate is given"),
        [false, true] => section.at("certificate").problem("is missing; tls.key is given"),
        [false, false] => check_without(&section.at("certificate"), &tls, listen),
    }
    tls
}

fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
    vec![v4.into(), v6.into()]
}

fn default_certificate(section: &mut Section) -> Option<CertificateFiles> {
    let certificate: Option<ReadableFile> = section.optional("certificate");
    let key: Option<SecretFile> = section.optional("key");
    certificate_files(certificate, key)
}

fn further_certificate(section: &mut Section) -> Option<CertificateFiles> {
    let certificate: Option<ReadableFile> = section.required("certificate");
    let key: Option<SecretFile> = section.required("key");
    certificate_files(certificate, key)
}

fn certificate_files(
    certificate: Option<ReadableFile>,
    key: Option<SecretFile>,
) -> Option<CertificateFiles> {
    Some(CertificateFiles { certificate: certificate?.0, key: key?.0 })
}

/// Whether these settings can do without a default certificate.
fn check_without(certificate: &Place, tls: &Tls, listen: &Listen) {
    if !tls.further.is_empty() {
        certificate.problem("is missing; clients that name no host are shown this one");
    } else if tls.mode == TlsMode::Disable {
        // Nobody is shown a certificate.
    } else if let Some(remote) = listen.remote() {
        certificate.problem(format!(
            "is missing, and other hosts can reach the listener {remote}: \
             make one with \"postern cert --self-signed DIR\", or set tls.mode = \"disable\""
        ));
    } else if tls.mode == TlsMode::Require && !listen.proxy_protocol_from.is_empty() {
        certificate.warning(
            "is missing: clients of other hosts that a PROXY header announces \
             will be told to encrypt, and cannot",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{accepted, refused};

    #[test]
    fn a_listener_for_other_hosts_needs_a_certificate() {
        let listen = "[listen]\nsession = [\"127.0.0.1:5432\", \"0.0.0.0:5432\"]\n";
        refused(
            listen,
            &[
                "tls.certificate: is missing, and other hosts can reach the listener 0.0.0.0:5432: make one with \"postern cert --self-signed DIR\", or set tls.mode = \"disable\"",
            ],
        );
        accepted(&format!("{listen}[tls]\nmode = \"disable\""));
        accepted(&format!("{listen}[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\""));
        accepted("[tls]\nmode = \"require\"");
    }

    #[test]
    fn clients_behind_a_balancer_need_a_certificate_too() {
        let balanced = "[listen]\nproxy_protocol_from = [\"127.0.0.1\"]";
        assert_eq!(
            accepted(balanced).warnings[0].to_string(),
            "tls.certificate: is missing: clients of other hosts that a PROXY header announces \
             will be told to encrypt, and cannot"
        );
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_not_called_missing() {
        refused(
            "[listen]\nsession = [\"0.0.0.0:1\"]\n[tls]\ncertificate = 5\nkey = \"server.key\"",
            &["tls.certificate: expected a path, found 5"],
        );
    }

    #[test]
    fn certificates_come_with_their_keys() {
        refused(
            "[tls]\ncertificate = \"server.crt\"",
            &["tls.key: is missing; tls.certificate is given"],
        );
        refused("[tls]\nkey = \"server.key\"", &["tls.certificate: is missing; tls.key is given"]);
        refused(
            "[[tls.certificates]]\ncertificate = \"other.crt\"\nkey = \"other.key\"",
            &["tls.certificate: is missing; clients that name no host are shown this one"],
        );
        refused(
            "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n[[tls.certificates]]\nkey = \"other.key\"",
            &["tls.certificates[0].certificate: is missing; expected a path"],
        );
    }
}

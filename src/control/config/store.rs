//! Where a service's HA manager says who leads (decision 30).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::constant_time;

use super::files::{Password, ReadableFile};
use super::section::Section;
use super::value::TextSetting;
use crate::domain::{Secret, ServiceName};

/// Who says which node leads; neither: timelines decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The REST APIs of the members of a Patroni cluster.
    pub patroni: Vec<Url>,
    /// Who Postern is to Patroni when it gives orders; none: nobody.
    pub login: Option<Login>,
    /// The etcd in which Patroni keeps the leader key; asked rather than
    /// `patroni` where both are there.
    pub etcd: Option<Etcd>,
    /// The authorities that the certificates of `https` are verified with, PEM.
    pub ca: Option<PathBuf>,
}

/// An etcd cluster, version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// Its members; any may be down.
    pub endpoints: Vec<Url>,
    /// Patroni's `namespace`, without a slash at its end.
    pub namespace: String,
    /// Patroni's `scope`: the cluster's name.
    pub scope: String,
    /// Who Postern is there; none: etcd asks nobody.
    pub login: Option<Login>,
}

/// A user and his password.
#[derive(Debug, Clone)]
pub struct Login {
    /// His name.
    pub user: String,
    /// His password.
    pub password: Arc<Secret<String>>,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|login| login.password.expose().as_bytes());
        self.user == other.user && constant_time::verify_slices_are_equal(own, others).is_ok()
    }
}

impl Eq for Login {}

/// An `http` or `https` address without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`.
    pub encrypted: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as \"http://10.0.0.1:8008\", without a path")]
pub struct InvalidUrl;

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let uri: hyper::Uri = text.parse().map_err(|_| InvalidUrl)?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(InvalidUrl),
        };
        let plain = uri.path() == "/" && uri.query().is_none() && !text.contains('@');
        let host = uri.host().filter(|_| plain).ok_or(InvalidUrl)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or(InvalidUrl)?;
        Ok(Self { encrypted, host, port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl TextSetting for Url {
    const EXPECTED: &'static str = "an address such as \"http://10.0.0.1:8008\"";
}

impl Store {
    /// Whether anybody is to be asked.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.patroni.is_empty() || self.etcd.is_some()
    }
}

/// Reads `[services.topology]`.
pub(super) fn read(section: &mut Section, service: Option<&ServiceName>) -> Store {
    let patroni: Vec<Url> = section.or("patroni", Vec::new());
    let etcd = section.section("etcd", |section| read_etcd(section, service));
    let ca: Option<ReadableFile> = section.optional("ca");
    let endpoints = etcd.iter().flat_map(|etcd| &etcd.endpoints);
    if ca.is_none() && patroni.iter().chain(endpoints).any(|url| url.encrypted) {
        section.at("ca").problem("is missing; https needs it");
    }
    let login = read_login(section).filter(|_| !patroni.is_empty());
    Store { patroni, login, etcd, ca: ca.map(|file| file.0) }
}

fn read_etcd(section: &mut Section, service: Option<&ServiceName>) -> Option<Etcd> {
    let endpoints: Vec<Url> = section.or("endpoints", Vec::new());
    let namespace = section.or("namespace", "/service".to_owned());
    let scope = section.or("scope", service.map(ToString::to_string).unwrap_or_default());
    let login = read_login(section);
    let namespace = format!("/{}", namespace.trim_matches('/'));
    (!endpoints.is_empty()).then_some(Etcd { endpoints, namespace, scope, login })
}

fn read_login(section: &mut Section) -> Option<Login> {
    let user: Option<String> = section.optional("user");
    let password: Option<Password> = section.optional("password_file");
    if user.is_some() != password.is_some() {
        let missing = if user.is_some() { "password_file" } else { "user" };
        section.at(missing).problem("is missing; user and password_file belong together");
    }
    user.zip(password).map(|(user, password)| Login { user, password: Arc::new(password.0) })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{accepted, refused, service};

    #[test]
    fn a_store_is_patroni_or_etcd() {
        assert!(!accepted(&service("")).services[0].store.is_there());
        let settings = accepted(&service(
            "topology.patroni = [\"http://db1:8008\", \"http://[::1]:8008\"]\n\
             topology.etcd = { endpoints = [\"http://10.0.0.1:2379/\"], namespace = \"ha/\" }",
        ));
        let store = &settings.services[0].store;
        let shown: Vec<_> = store.patroni.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://db1:8008", "http://[::1]:8008"]);
        let etcd = store.etcd.as_ref().unwrap();
        assert_eq!((&*etcd.namespace, &*etcd.scope), ("/ha", "orders"));
    }

    #[test]
    fn a_store_that_cannot_be_asked_is_refused() {
        refused(
            &service("topology.patroni = [\"db1:8008\"]"),
            &["services[0].topology.patroni[0]: expected an address such as \
               \"http://10.0.0.1:8008\", without a path; found \"db1:8008\""],
        );
        refused(
            &service("topology.etcd = { endpoints = [\"https://e1:2379\"], user = \"root\" }"),
            &[
                "services[0].topology.etcd.password_file: is missing; user and password_file belong together",
                "services[0].topology.ca: is missing; https needs it",
            ],
        );
    }
}

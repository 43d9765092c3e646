//! Where clients are accepted.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

use super::section::Section;
use super::value::TextSetting;

/// The longest path of a unix socket, in bytes: `sun_path` without its final
/// zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Where clients are accepted, and what they find there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Listeners of the session endpoint.
    pub session: Vec<ListenAddress>,
    /// Listeners of the transaction endpoint.
    pub transaction: Vec<ListenAddress>,
    /// From these addresses the PROXY header is mandatory, from others it is
    /// an error (decision 6).
    pub proxy_protocol_from: Vec<IpNet>,
}

impl Listen {
    /// The first listener that clients of other hosts can reach.
    #[must_use]
    pub fn remote(&self) -> Option<&ListenAddress> {
        let mut all = self.session.iter().chain(&self.transaction);
        all.find(|address| address.is_remote())
    }
}

/// The address of one listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket in a directory, where libpq looks for it.
    Unix {
        /// The absolute directory.
        directory: PathBuf,
        /// The number in `.s.PGSQL.<port>`.
        port: u16,
    },
}

/// A text that is no listener's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidListenAddress {
    /// Neither an IP address with a port nor a directory with one.
    #[error("expected {}", <ListenAddress as TextSetting>::EXPECTED)]
    Form,
    /// The path of the socket is longer than the system allows.
    #[error("the path of a socket has at most {MAX_SOCKET_PATH} bytes")]
    TooLong,
}

impl ListenAddress {
    /// The path of the socket, if it is one.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix { directory, port } => Some(directory.join(format!(".s.PGSQL.{port}"))),
        }
    }

    /// Whether clients of other hosts can reach it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => false,
        }
    }
}

impl TextSetting for ListenAddress {
    const EXPECTED: &'static str =
        "\"IP:port\", \"[IPv6]:port\" or a socket directory and port such as \"/run/postern:5432\"";
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        if text.starts_with('/') {
            return unix(text);
        }
        text.parse()
            .ok()
            .filter(|address: &SocketAddr| address.port() != 0)
            .map(Self::Tcp)
            .ok_or(InvalidListenAddress::Form)
    }
}

fn unix(text: &str) -> Result<ListenAddress, InvalidListenAddress> {
    let (directory, port) = text.rsplit_once(':').ok_or(InvalidListenAddress::Form)?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0);
    let address = ListenAddress::Unix {
        directory: directory.into(),
        port: port.ok_or(InvalidListenAddress::Form)?,
    };
    match address.socket_path() {
        Some(path) if !fits_a_socket(&path) => Err(InvalidListenAddress::TooLong),
        _ => Ok(address),
    }
}

/// Whether a unix socket can have this path.
pub(super) fn fits_a_socket(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.len() <= MAX_SOCKET_PATH && !bytes.contains(&0)
}

/// What a problem says about a path that [`fits_a_socket`] refuses.
pub(super) fn socket_path_rule() -> impl fmt::Display {
    InvalidListenAddress::TooLong
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// Reads `[listen]`.
pub(super) fn read(section: &mut Section) -> Listen {
    let listen = Listen {
        session: section.or("session", vec![loopback(5432)]),
        transaction: section.or("transaction", vec![loopback(6432)]),
        proxy_protocol_from: section.or("proxy_protocol_from", Vec::new()),
    };
    check(section, &listen);
    listen
}

fn loopback(port: u16) -> ListenAddress {
    ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn check(section: &Section, listen: &Listen) {
    if listen.session.is_empty() && listen.transaction.is_empty() {
        let text = "expected at least one listener, here or in listen.transaction";
        section.at("session").problem(text);
    }
    let endpoints = [("session", &listen.session), ("transaction", &listen.transaction)];
    let mut seen = Vec::new();
    for (key, addresses) in endpoints {
        for (index, address) in addresses.iter().enumerate() {
            let place = section.at(key).index(index);
            match seen.iter().find(|(known, _)| *known == address) {
                Some((_, first)) => {
                    place.problem(format!("{address} is listed at {first} already"));
                }
                None => seen.push((address, place.key().to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::refused;
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:5432", "[::1]:6432", "0.0.0.0:1", "/run/postern:5432"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let socket: ListenAddress = "/run/postern:5432".parse().unwrap();
        let path = Path::new("/run/postern/.s.PGSQL.5432");
        assert_eq!(socket.socket_path().as_deref(), Some(path));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5432",
            ":5432",
            "*:5432",
            "localhost:5432",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:5432",
            "/run/postern",
            "/run/postern:0",
            "/run/postern:+1",
            "run/postern:5432",
        ] {
            let refused = text.parse::<ListenAddress>();
            assert_eq!(refused, Err(InvalidListenAddress::Form), "{text:?}");
        }
        let long = format!("/{}:5432", "a".repeat(MAX_SOCKET_PATH));
        let refused = long.parse::<ListenAddress>();
        assert_eq!(refused, Err(InvalidListenAddress::TooLong));
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_the_host() {
        let remote = |text: &str| text.parse::<ListenAddress>().unwrap().is_remote();
        for text in ["127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "/run:1"] {
            assert!(!remote(text), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[fe80::1]:1"] {
            assert!(remote(text), "{text}");
        }
    }

    #[test]
    fn listeners_are_unique_and_there_is_one() {
        refused(
            "[listen]\nsession = [\"127.0.0.1:5432\"]\ntransaction = [\"[::1]:1\", \"127.0.0.1:5432\"]",
            &["listen.transaction[1]: 127.0.0.1:5432 is listed at listen.session[0] already"],
        );
        refused(
            "[listen]\nsession = []\ntransaction = []",
            &["listen.session: expected at least one listener, here or in listen.transaction"],
        );
        refused(
            "[listen]\nsession = \"127.0.0.1:5432\"",
            &["listen.session: expected a list in [ ], found \"127.0.0.1:5432\""],
        );
        refused(
            "[listen]\nproxy_protocol_from = [\"lb1\", \"10.0.0.1\"]",
            &[
                "listen.proxy_protocol_from[0]: expected an IP address or a CIDR block such as \"10.0.0.0/8\", found \"lb1\"",
            ],
        );
    }
}

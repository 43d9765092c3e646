//! Addresses: where a client comes from, and where a node is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a client comes from.
///
/// An IPv4 address that arrived mapped into IPv6 (`::ffff:10.0.0.1`, as every
/// dual-stack listener reports it) is stored as the IPv4 address it is, so
/// that an IPv4 block of an allowlist matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket.
    Local,
}

impl ClientAddress {
    /// A TCP client's address, canonical.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The IP address, if the client came over TCP.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Local => None,
        }
    }

    /// The network that caps and throttles count as one client: the address
    /// itself for IPv4, its /64 for IPv6 (decision 7), nothing for `local`.
    #[must_use]
    pub fn network(&self) -> ClientNetwork {
        match self.ip() {
            None => ClientNetwork::Local,
            Some(IpAddr::V4(v4)) => ClientNetwork::V4(v4.octets()),
            Some(IpAddr::V6(v6)) => {
                let octets = v6.octets();
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&octets[..8]);
                ClientNetwork::V6(prefix)
            }
        }
    }
}

impl fmt::Display for ClientAddress {
    /// The address without its port, as refusals and logs name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}", address.ip()),
            Self::Local => f.write_str("local"),
        }
    }
}

/// What counts as one client for caps and throttles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// One IPv4 address.
    V4([u8; 4]),
    /// One IPv6 /64.
    V6([u8; 8]),
    /// Unix sockets.
    Local,
}

/// A node's configured address (decision 4): its identity, also when the name
/// resolves to another IP address later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeAddress {
    /// Host name or IP address, and port.
    Tcp {
        /// A host name, an IPv4 or (without brackets) an IPv6 address.
        host: Box<str>,
        /// The TCP port.
        port: u16,
    },
    /// A socket directory and the port that names the socket in it.
    Unix {
        /// The absolute directory.
        directory: PathBuf,
        /// The number in `.s.PGSQL.<port>`.
        port: u16,
    },
}

/// Why a text is no node address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// No `:port` at the end.
    #[error("a node address ends in \":port\", as in \"db1.internal:5432\" or \"[::1]:5432\"")]
    NoPort,
    /// The part behind the last colon is no port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// An empty host, or an IPv6 address without brackets.
    #[error(
        "a host is a name, an IPv4 address, an IPv6 address in brackets or a directory that begins with \"/\""
    )]
    Host,
}

impl NodeAddress {
    /// The path of the socket, if the node is reached over one.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { directory, port } => Some(directory.join(format!(".s.PGSQL.{port}"))),
        }
    }

    /// Whether there is a name to resolve.
    #[must_use]
    pub fn has_name(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => host.parse::<IpAddr>().is_err(),
            Self::Unix { .. } => false,
        }
    }
}

impl FromStr for NodeAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::NoPort)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { port.parse().unwrap_or(0) } else { 0 };
        if port == 0 {
            return Err(InvalidAddress::Port);
        }
        if host.starts_with('/') {
            return Ok(Self::Unix { directory: Path::new(host).to_owned(), port });
        }
        let host = parse_host(host).ok_or(InvalidAddress::Host)?;
        Ok(Self::Tcp { host, port })
    }
}

fn parse_host(host: &str) -> Option<Box<str>> {
    if let Some(inner) = host.strip_prefix('[') {
        let v6 = inner.strip_suffix(']')?;
        return v6.parse::<std::net::Ipv6Addr>().ok().map(|_| v6.into());
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(legal)).then(|| host.into())
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_resolved() {
        let has_name = |text: &str| text.parse::<NodeAddress>().unwrap().has_name();
        assert!(has_name("db1.internal:5432"));
        assert!(!has_name("10.0.0.1:5432") && !has_name("[::1]:5432") && !has_name("/run:5432"));
    }

    #[test]
    fn node_addresses_round_trip() {
        for text in ["127.0.0.1:5432", "db1.internal:1", "[::1]:65535", "/var/run/postgresql:5432"]
        {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_node_addresses_say_why() {
        let cases = [
            ("db1", InvalidAddress::NoPort),
            ("db1:", InvalidAddress::Port),
            ("db1:0", InvalidAddress::Port),
            ("db1:65536", InvalidAddress::Port),
            ("db1:+5", InvalidAddress::Port),
            (":5432", InvalidAddress::Host),
            ("::1:5432", InvalidAddress::Host),
            ("[db1]:5432", InvalidAddress::Host),
            ("a b:5432", InvalidAddress::Host),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<NodeAddress>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn mapped_ipv4_is_ipv4() {
        let mapped = ClientAddress::tcp("[::ffff:10.0.0.1]:4000".parse().unwrap());
        assert_eq!(mapped.to_string(), "10.0.0.1");
        assert_eq!(mapped.network(), ClientNetwork::V4([10, 0, 0, 1]));
    }

    #[test]
    fn ipv6_clients_of_one_64_are_one_network() {
        let a = ClientAddress::tcp("[2001:db8::1]:1".parse().unwrap());
        let b = ClientAddress::tcp("[2001:db8::ffff:2]:2".parse().unwrap());
        let c = ClientAddress::tcp("[2001:db8:0:1::1]:1".parse().unwrap());
        assert_eq!(a.network(), b.network());
        assert_ne!(a.network(), c.network());
    }
}

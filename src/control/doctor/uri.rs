//! A libpq URI, as far as the doctor needs it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::{NodeAddress, NodeTls, Secret};

/// Where a client wants to go, and as whom. `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Uri {
    /// The host and the port.
    pub address: NodeAddress,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret<String>>,
    /// The database; the role's name unless given, as with libpq.
    pub database: String,
    /// `sslmode`.
    pub tls: NodeTls,
    /// `sslrootcert`.
    pub authority: Option<PathBuf>,
    /// `options`.
    pub options: Option<String>,
}

/// Why a text is no such URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUri {
    /// Another scheme.
    #[error("a URI begins with postgresql:// or postgres://")]
    Scheme,
    /// No user.
    #[error("name a role: postgresql://ROLE@HOST/DATABASE")]
    User,
    /// No host, or one that is none.
    #[error("{0:?} is no host with a port")]
    Host(String),
    /// `%` without two hexadecimal digits.
    #[error("{0:?} is not percent-encoded UTF-8")]
    Encoding(String),
    /// An `sslmode` that does not exist.
    #[error("sslmode={0:?} does not exist")]
    SslMode(String),
}

impl Uri {
    /// The host and the port, unless it is a unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<(&str, u16)> {
        match &self.address {
            NodeAddress::Tcp { host, port } => Some((host, *port)),
            NodeAddress::Unix { .. } => None,
        }
    }

    /// The authorities' certificates.
    ///
    /// # Errors
    /// The file's name, and why it cannot be read.
    pub fn authorities(&self) -> Result<Option<Arc<str>>, String> {
        let read = |path: &PathBuf| {
            let pem = std::fs::read_to_string(path);
            pem.map(Into::into).map_err(|error| format!("sslrootcert {}: {error}", path.display()))
        };
        self.authority.as_ref().map(read).transpose()
    }

    /// Whether a standby is asked for.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let host = self.tcp().map(|(host, _)| host.split('.').next().unwrap_or_default());
        let host = host.unwrap_or_default().trim_end_matches("-pooler");
        let options = self.options.as_deref().unwrap_or_default();
        host.ends_with("-ro") || options.contains("access=read-only") || options.contains("-ro")
    }
}

impl FromStr for Uri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(InvalidUri::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').ok_or(InvalidUri::User)?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (decode(user)?, Some(Secret::new(decode(password)?))),
            None => (decode(login)?, None),
        };
        if user.is_empty() {
            return Err(InvalidUri::User);
        }
        let database = decode(database)?;
        let mut uri = Self {
            address: address(&decode(host)?)?,
            database: if database.is_empty() { user.clone() } else { database },
            user,
            password,
            tls: NodeTls::Prefer,
            authority: None,
            options: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            uri.set(&decode(key)?, decode(value)?)?;
        }
        Ok(uri)
    }
}

impl Uri {
    fn set(&mut self, key: &str, value: String) -> Result<(), InvalidUri> {
        match key {
            "sslmode" => {
                let word = if value == "allow" { "prefer" } else { &value };
                let mode = serde_json::from_value(word.into());
                self.tls = mode.map_err(|_| InvalidUri::SslMode(value))?;
            }
            "sslrootcert" => self.authority = Some(value.into()),
            "options" => self.options = Some(value),
            // Whatever else there is does not change the way.
            _ => {}
        }
        Ok(())
    }
}

fn address(host: &str) -> Result<NodeAddress, InvalidUri> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = if has_port { host.to_owned() } else { format!("{host}:5432") };
    with_port.parse().map_err(|_| InvalidUri::Host(host.to_owned()))
}

fn decode(text: &str) -> Result<String, InvalidUri> {
    let wrong = || InvalidUri::Encoding(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.ok_or_else(wrong)?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_as_libpq_reads_it() {
        let text = "postgresql://ann%40home:a%3Ab@[::1]:5433/shop?sslmode=verify-full\
                    &sslrootcert=%2Ftmp%2Fca.crt&options=service%3Dorders&connect_timeout=5";
        let uri: Uri = text.parse().unwrap();
        assert_eq!(uri.tcp(), Some(("::1", 5433)));
        assert_eq!((uri.user.as_str(), uri.database.as_str()), ("ann@home", "shop"));
        assert_eq!(uri.password.as_ref().unwrap().expose(), "a:b");
        assert_eq!(
            (uri.tls, uri.options.as_deref()),
            (NodeTls::VerifyFull, Some("service=orders"))
        );
        assert!(!format!("{uri:?}").contains("a:b"));
        let short: Uri = "postgres://ann@orders-ro.db.example.com".parse().unwrap();
        assert_eq!(short.tcp(), Some(("orders-ro.db.example.com", 5432)));
        assert!(short.is_read_only() && short.database == "ann");
    }

    #[test]
    fn what_is_wrong_with_a_uri_is_said() {
        for (text, why) in [
            ("mysql://a@b/c", InvalidUri::Scheme),
            ("postgresql://host/db", InvalidUri::User),
            ("postgresql://a%2@host/db", InvalidUri::Encoding("a%2".to_owned())),
            ("postgresql://a@/db", InvalidUri::Host(String::new())),
            ("postgresql://a@h/db?sslmode=maybe", InvalidUri::SslMode("maybe".to_owned())),
        ] {
            assert_eq!(text.parse::<Uri>().unwrap_err(), why, "{text}");
        }
    }
}

//! How clients come in: what the URIs of a service are made of.

use std::fmt::Write as _;

use super::segment;
use crate::domain::{Access, PoolMode, ServiceName};

/// The front door as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// The first domain, if there is one: then each service has a host name.
    pub domain: Option<String>,
    /// The host where there is no domain.
    pub host: String,
    /// The port of the session endpoint.
    pub session_port: u16,
    /// The port of the transaction endpoint.
    pub transaction_port: Option<u16>,
    /// libpq's `sslmode` for the URIs.
    pub ssl_mode: &'static str,
    /// The authority's certificate, PEM, that customers are shown.
    pub authority: Option<String>,
}

/// Whose URI it is.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The role.
    pub user: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a str>,
    /// The database.
    pub database: Option<&'a str>,
}

impl Entrance {
    /// The host name of one of a service's endpoints.
    #[must_use]
    pub fn host(&self, service: &ServiceName, access: Access, mode: PoolMode) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", service.host_label(access, mode)),
            None => self.host.clone(),
        }
    }

    /// The URI of one of a service's endpoints.
    #[must_use]
    pub fn uri(&self, guest: Guest<'_>, access: Access, mode: PoolMode) -> String {
        let port = match mode {
            PoolMode::Session => self.session_port,
            PoolMode::Transaction => self.transaction_port.unwrap_or(self.session_port),
        };
        // The port says how to pool, so that the host name need not.
        let host = self.host(guest.service, access, PoolMode::Session);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mut uri = "postgresql://".to_owned();
        if let Some(user) = guest.user {
            uri.push_str(&segment(user));
            if let Some(password) = guest.password {
                let _ = write!(uri, ":{}", segment(password));
            }
            uri.push('@');
        }
        let database = guest.database.map(segment).unwrap_or_default();
        let _ = write!(uri, "{host}:{port}/{database}?sslmode={}", self.ssl_mode);
        if self.domain.is_none() {
            let name = guest.service.host_label(access, PoolMode::Session);
            let _ = write!(uri, "&options=service%3D{name}");
        }
        uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_the_service_by_host_or_by_options() {
        let mut entrance = Entrance {
            domain: Some("db.example.com".to_owned()),
            host: "::1".to_owned(),
            session_port: 5432,
            transaction_port: Some(6432),
            ssl_mode: "require",
            authority: None,
        };
        let service = "orders".parse().unwrap();
        let guest = Guest {
            service: &service,
            user: Some("ann@home"),
            password: Some("a:b/c"),
            database: Some("défaut"),
        };
        assert_eq!(
            entrance.uri(guest, Access::ReadOnly, PoolMode::Transaction),
            "postgresql://ann%40home:a%3Ab%2Fc@orders-ro.db.example.com:6432/d%C3%A9faut?sslmode=require"
        );
        entrance.domain = None;
        let guest = Guest { password: None, ..guest };
        assert_eq!(
            entrance.uri(guest, Access::ReadWrite, PoolMode::Session),
            "postgresql://ann%40home@[::1]:5432/d%C3%A9faut?sslmode=require&options=service%3Dorders"
        );
    }
}

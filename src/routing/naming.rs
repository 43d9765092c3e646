//! Which service a client means (decision 2).
//!
//! The first that applies: the TLS server name under a configured domain;
//! `service=` in `options`; `role.service` as the user; the default service.

use bytes::Bytes;

use crate::directory::Snapshot;
use crate::domain::name::HostLabel;
use crate::domain::refusal::InvalidOption;
use crate::domain::{Access, Endpoint, InvalidName, PoolMode, Refusal};

/// What a client says about its service.
#[derive(Debug, Clone, Copy)]
pub struct Hints<'a> {
    /// The TLS server name.
    pub server_name: Option<&'a str>,
    /// `service=` in `options`.
    pub service: Option<&'a str>,
    /// `access=` in `options`.
    pub access: Option<&'a str>,
    /// `pool=` in `options`.
    pub pool: Option<&'a str>,
    /// The user of the startup packet.
    pub user: &'a Bytes,
    /// What the listener is for.
    pub listener: PoolMode,
}

/// Whom a client means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A service, which may or may not exist.
    Service {
        /// The service and the way into it.
        endpoint: Endpoint,
        /// The role: the user without the service in it.
        role: Bytes,
    },
    /// A name that no service can have.
    Nowhere,
    /// No service is named, and there is no default.
    Unnamed,
}

/// Finds out whom a client means.
///
/// # Errors
/// [`Refusal::ServiceDisagreement`], [`Refusal::InvalidOption`].
pub fn destination(snapshot: &Snapshot, hints: Hints<'_>) -> Result<Destination, Refusal> {
    let (access, mode) = (wanted_access(hints.access)?, wanted_pool(hints.pool)?);
    let Some((label, role)) = named(snapshot, &hints)? else {
        return Ok(Destination::Unnamed);
    };
    let Ok(label) = label else {
        return Ok(Destination::Nowhere);
    };
    let endpoint = Endpoint {
        service: label.service,
        access: access.unwrap_or(label.access),
        mode: mode.or(label.mode).unwrap_or(hints.listener),
    };
    Ok(Destination::Service { endpoint, role })
}

/// A name, or why it is none, and the role that comes with it.
type Named = (Result<HostLabel, InvalidName>, Bytes);

fn named(snapshot: &Snapshot, hints: &Hints<'_>) -> Result<Option<Named>, Refusal> {
    let user = || hints.user.clone();
    let by_host = hints.server_name.and_then(|name| host_label(snapshot, name)).map(str::parse);
    let by_option = hints.service.map(str::parse::<HostLabel>);
    Ok(match (by_host, by_option) {
        (Some(Ok(host)), Some(option)) => {
            let host: HostLabel = host;
            if option.is_ok_and(|option| option.service == host.service) {
                Some((Ok(host), user()))
            } else {
                return Err(Refusal::ServiceDisagreement);
            }
        }
        (Some(label), _) | (None, Some(label)) => Some((label, user())),
        (None, None) => by_user_or_default(snapshot, hints.user),
    })
}

/// The label in front of a configured domain; any other name counts as none.
fn host_label<'a>(snapshot: &Snapshot, server_name: &'a str) -> Option<&'a str> {
    snapshot.routing.domains.iter().find_map(|domain| {
        let at = server_name.len().checked_sub(domain.len() + 1)?;
        let (label, rest) = server_name.split_at_checked(at)?;
        let rest = rest.strip_prefix('.')?;
        rest.eq_ignore_ascii_case(domain).then_some(label)
    })
}

fn by_user_or_default(snapshot: &Snapshot, user: &Bytes) -> Option<Named> {
    let plain = |service| Ok(HostLabel { service, access: Access::ReadWrite, mode: None });
    if let Some(dot) = user.iter().rposition(|b| *b == b'.') {
        let name = std::str::from_utf8(&user[dot + 1..]).ok().and_then(|s| s.parse().ok());
        if let Some(service) = name.filter(|name| snapshot.services.contains_key(name)) {
            return Some((plain(service), user.slice(..dot)));
        }
    }
    let default = snapshot.routing.default_service.clone()?;
    Some((plain(default), user.clone()))
}

fn wanted_access(text: Option<&str>) -> Result<Option<Access>, Refusal> {
    match text {
        None => Ok(None),
        Some("read-write") => Ok(Some(Access::ReadWrite)),
        Some("read-only") => Ok(Some(Access::ReadOnly)),
        Some(_) => Err(Refusal::InvalidOption(InvalidOption::Access)),
    }
}

fn wanted_pool(text: Option<&str>) -> Result<Option<PoolMode>, Refusal> {
    match text {
        None => Ok(None),
        Some("session") => Ok(Some(PoolMode::Session)),
        Some("transaction") => Ok(Some(PoolMode::Transaction)),
        Some(_) => Err(Refusal::InvalidOption(InvalidOption::Pool)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::directory::{Routing, Service};
    use crate::domain::ServiceName;

    fn snapshot(default: Option<&str>) -> Snapshot {
        let services = ["orders", "billing"].map(|name| {
            let name: ServiceName = name.parse().unwrap();
            (name.clone(), Arc::new(Service::without_nodes(name)))
        });
        Snapshot {
            services: services.into(),
            routing: Routing {
                domains: vec!["db.example.com".into()],
                default_service: default.map(|name| name.parse().unwrap()),
            },
        }
    }

    struct Says {
        server_name: Option<&'static str>,
        service: Option<&'static str>,
        user: &'static str,
    }

    fn ask(default: Option<&str>, says: &Says) -> Result<Destination, Refusal> {
        let user = Bytes::from_static(says.user.as_bytes());
        let hints = Hints {
            server_name: says.server_name,
            service: says.service,
            access: None,
            pool: None,
            user: &user,
            listener: PoolMode::Session,
        };
        destination(&snapshot(default), hints)
    }

    fn named(default: Option<&str>, says: &Says) -> (String, String) {
        match ask(default, says).unwrap() {
            Destination::Service { endpoint, role } => {
                (endpoint.service.to_string(), String::from_utf8(role.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn e13_the_first_that_applies_names_the_service() {
        let sni = Some("ORDERS.DB.example.com");
        let cases = [
            (Says { server_name: sni, service: None, user: "bob" }, "orders", "bob"),
            (
                Says { server_name: sni, service: None, user: "bob.billing" },
                "orders",
                "bob.billing",
            ),
            (Says { server_name: sni, service: Some("orders"), user: "bob" }, "orders", "bob"),
            (Says { server_name: None, service: Some("billing"), user: "bob" }, "billing", "bob"),
            (
                Says { server_name: Some("other.example"), service: Some("billing"), user: "b" },
                "billing",
                "b",
            ),
            (Says { server_name: None, service: None, user: "bob.billing" }, "billing", "bob"),
            (Says { server_name: None, service: None, user: "a.b.billing" }, "billing", "a.b"),
            (
                Says { server_name: None, service: None, user: "bob.unknown" },
                "orders",
                "bob.unknown",
            ),
            (
                Says { server_name: Some("db.example.com"), service: None, user: "bob" },
                "orders",
                "bob",
            ),
            (Says { server_name: None, service: Some("missing"), user: "bob" }, "missing", "bob"),
        ];
        for (says, service, role) in cases {
            assert_eq!(named(Some("orders"), &says), (service.into(), role.into()));
        }
    }

    #[test]
    fn e13_disagreement_is_refused_and_nonsense_leads_nowhere() {
        let sni = Some("orders.db.example.com");
        let disagree = Says { server_name: sni, service: Some("billing"), user: "bob" };
        assert_eq!(ask(None, &disagree), Err(Refusal::ServiceDisagreement));
        for name in ["x.orders.db.example.com", "-.db.example.com", ".db.example.com"] {
            let says = Says { server_name: Some(name), service: None, user: "bob" };
            assert_eq!(ask(Some("orders"), &says), Ok(Destination::Nowhere), "{name}");
        }
        let nobody = Says { server_name: None, service: None, user: "bob" };
        assert_eq!(ask(None, &nobody), Ok(Destination::Unnamed));
        let bad = Says { server_name: None, service: Some("-"), user: "bob" };
        assert_eq!(ask(None, &bad), Ok(Destination::Nowhere));
    }

    #[test]
    fn suffixes_and_options_choose_the_endpoint() {
        let user = Bytes::from_static(b"bob");
        let ask = |server_name, access, pool| {
            let listener = PoolMode::Session;
            let hints = Hints { server_name, service: None, access, pool, user: &user, listener };
            match destination(&snapshot(Some("orders")), hints)? {
                Destination::Service { endpoint, .. } => Ok((endpoint.access, endpoint.mode)),
                other => panic!("{other:?}"),
            }
        };
        let pooler = Some("orders-ro-pooler.db.example.com");
        assert_eq!(ask(pooler, None, None), Ok((Access::ReadOnly, PoolMode::Transaction)));
        assert_eq!(
            ask(pooler, Some("read-write"), Some("session")),
            Ok((Access::ReadWrite, PoolMode::Session))
        );
        assert_eq!(ask(None, None, None), Ok((Access::ReadWrite, PoolMode::Session)));
        assert_eq!(ask(None, Some("x"), None), Err(Refusal::InvalidOption(InvalidOption::Access)));
        assert_eq!(ask(None, None, Some("x")), Err(Refusal::InvalidOption(InvalidOption::Pool)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn e13_any_server_name_is_understood_or_refused(name in "[a-zA-Z0-9.ü-]{0,20}(\\.db\\.example\\.com)?") {
            let snapshot = snapshot_once();
            prop_assert!(host_label(&snapshot, &name).is_none_or(|label| label.len() < name.len()));
        }
    }

    fn snapshot_once() -> Snapshot {
        Snapshot {
            routing: Routing { domains: vec!["db.example.com".into()], default_service: None },
            ..Snapshot::default()
        }
    }
}

//! From a record of the catalogue to a service as the configuration file
//! would declare it: one meaning for both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{ServiceRecord, TopologyRecord, role_secret};
use super::store::Range;
use super::{Catalog, CatalogError, Versioned};
use crate::control::config::{self, Canary, Login, NodeCa, Plans, Settings, Store};
use crate::domain::refusal::Unavailable;
use crate::domain::{Allowlist, Secret};

/// The database that the management role connects to.
const MANAGEMENT_DATABASE: &str = "postgres";

/// The services of the catalogue that clients are to find.
///
/// # Errors
/// Every service that cannot be declared, and why; or that the catalogue
/// cannot be read.
pub fn services(catalog: &Catalog, plans: &Plans) -> Result<Vec<config::Service>, Vec<String>> {
    let unreadable = |error: CatalogError| vec![format!("catalog: {error}")];
    let records: Vec<Versioned<ServiceRecord>> = catalog.list(Range::ALL).map_err(unreadable)?;
    let mut secrets = catalog.secrets().map_err(unreadable)?;
    let published =
        records.into_iter().map(|found| found.record).filter(ServiceRecord::is_published);
    let mut problems = Vec::new();
    let mut services = Vec::new();
    for record in published {
        match declared(&record, plans, |path| Ok(secrets.remove(path))) {
            Ok(service) => services.push(service),
            Err(why) => problems.push(format!("catalog: service \"{}\": {why}", record.name)),
        }
    }
    if problems.is_empty() { Ok(services) } else { Err(problems) }
}

/// The service that clients are to find, if this one is there and made.
///
/// # Errors
/// Why it cannot be declared.
pub fn service(
    catalog: &Catalog,
    plans: &Plans,
    name: &str,
) -> Result<Option<config::Service>, String> {
    let found = catalog.get::<ServiceRecord>(name).map_err(|error| error.to_string())?;
    let Some(record) = found.map(|found| found.record).filter(ServiceRecord::is_published) else {
        return Ok(None);
    };
    declared(&record, plans, |path| catalog.secret(path).map_err(text)).map(Some)
}

fn declared(
    record: &ServiceRecord,
    plans: &Plans,
    mut secret: impl FnMut(&str) -> Result<Option<Secret<String>>, String>,
) -> Result<config::Service, String> {
    let plan = plans.find(&record.plan);
    let plan = plan.ok_or_else(|| format!("there is no plan \"{}\"", record.plan))?;
    let password = secret(&record.management_secret())?;
    let password = password.ok_or("its management role has no password")?;
    let store = match &record.topology {
        None => Store::default(),
        Some(topology) => {
            let password = secret(&record.patroni_secret())?;
            store(topology, password.ok_or("its Patroni has no password")?)?
        }
    };
    Ok(config::Service {
        name: record.name.parse().map_err(text)?,
        kind: record.kind.into(),
        plan: plan.clone(),
        allowlist: allowlist(&record.allowlist)?,
        nodes: record
            .nodes
            .iter()
            .map(|node| node.address.parse().map_err(text))
            .collect::<Result<_, _>>()?,
        node_tls: record.node_tls,
        node_ca: record.node_ca.as_deref().map(|pem| NodeCa::Pem(pem.into())),
        pooling: record.pooling.clone().into(),
        management: config::Management {
            user: record.management_role.clone(),
            password,
            database: MANAGEMENT_DATABASE.to_owned(),
        },
        // The catalogue itself is asked for the service's admin role.
        canary: None,
        suspended: (!record.powered).then_some(Unavailable::PoweredOff),
        paused: record.paused,
        store,
    })
}

fn store(topology: &TopologyRecord, password: Secret<String>) -> Result<Store, String> {
    let members = topology.patroni.iter().map(|url| url.parse().map_err(text));
    Ok(Store {
        patroni: members.collect::<Result<_, String>>()?,
        login: Some(Login { user: topology.user.clone(), password: Arc::new(password) }),
        ..Store::default()
    })
}

/// Whom drills of a service of the catalogue write as: its admin role, in its
/// database. None if there is no such service.
///
/// # Errors
/// Why the catalogue cannot be asked.
pub fn canary(catalog: &Catalog, name: &str) -> Result<Option<Canary>, CatalogError> {
    let Some(found) = catalog.get::<ServiceRecord>(name)? else { return Ok(None) };
    let ServiceRecord { admin_role: user, database, .. } = found.record;
    let password = catalog.secret(&role_secret(name, &user))?;
    Ok(password.map(|password| Canary { user, password, database }))
}

/// The list that these entries mean.
///
/// # Errors
/// The first entry that is none, and what one looks like.
pub fn allowlist(entries: &[String]) -> Result<Allowlist, String> {
    let entry = |text: &String| text.parse().map_err(|error| format!("{text:?}: {error}"));
    entries.iter().map(entry).collect::<Result<Vec<_>, _>>().map(Allowlist::new)
}

/// The file's services together with those of the catalogue.
///
/// # Errors
/// Names that both have, and whatever is wrong with the catalogue's.
pub fn with_catalog(
    mut settings: Settings,
    catalog: Option<&Catalog>,
) -> Result<Settings, Vec<String>> {
    let Some(catalog) = catalog else {
        return Ok(settings);
    };
    let created = services(catalog, &settings.plans)?;
    let file: BTreeMap<_, _> =
        settings.services.iter().enumerate().map(|(index, s)| (s.name.clone(), index)).collect();
    let twice = created.iter().filter_map(|service| {
        let index = file.get(&service.name)?;
        Some(format!(
            "services[{index}].name: the catalogue has a service \"{}\" already: delete one of \
             the two, or rename this one",
            service.name
        ))
    });
    let problems: Vec<_> = twice.collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    settings.services.extend(created);
    Ok(settings)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

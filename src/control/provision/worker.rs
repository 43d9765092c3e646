//! Brings one service to where the catalogue says it should be.

use std::time::Duration;

use tokio::time::sleep;

use super::local::{ManagerPasswords, Order};
use super::superuser::Superuser;
use super::{Means, blocking, local, login, look_at, placement, roles, steps};
use crate::control::catalog::record::{
    NodeRecord, PlacedNode, Provider, RoleRecord, ServiceKind, ServiceRecord, Stage, Step,
    TopologyRecord, Usage, role_secret,
};
use crate::control::catalog::store::{Expect, Range};
use crate::control::catalog::{Versioned, now};
use crate::control::management::NodeError;
use crate::domain::Secret;

/// The pause after a step could not be done; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Why a step was not done.
pub(super) enum Trouble {
    /// It may work later.
    Passing(String),
    /// It will not, as things are: somebody must do something.
    Final(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Passing(why)
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        let (Trouble::Passing(why) | Trouble::Final(why)) = trouble;
        why
    }
}

impl From<NodeError> for Trouble {
    fn from(error: NodeError) -> Self {
        Self::Passing(error.to_string())
    }
}

/// Works until there is nothing to be done.
pub(super) async fn work(means: &Means, name: &str) {
    let mut pause = FIRST;
    loop {
        let found = match read(means, name).await {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(why) => {
                tracing::error!(service = name, why, "provisioning cannot read the catalogue");
                sleep(LONGEST).await;
                continue;
            }
        };
        let before = found.record.stage;
        let done = match before {
            Stage::Provisioning(step) => provision(means, found, step).await,
            Stage::Deleting => delete(means, found).await,
            Stage::Ready => match keep_local(means, &found.record).await {
                Ok(()) => return,
                Err(why) => Err(why),
            },
            Stage::Failed => return,
        };
        if let Err(why) = done {
            // Somebody changed the record meanwhile, or the step must wait.
            tracing::info!(service = name, why, "provisioning goes on later");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        } else {
            pause = FIRST;
        }
    }
}

async fn read(means: &Means, name: &str) -> Result<Option<Versioned<ServiceRecord>>, String> {
    let name = name.to_owned();
    blocking(means, move |catalog| catalog.get::<ServiceRecord>(&name)).await
}

/// A step, and what comes of it in the catalogue.
async fn provision(
    means: &Means,
    found: Versioned<ServiceRecord>,
    step: Step,
) -> Result<(), String> {
    let mut record = found.record;
    let expect = Expect::Version(found.version);
    match take(means, &mut record, step).await {
        Ok(()) => {
            record.reason = None;
            record.stage = step.next().map_or(Stage::Ready, Stage::Provisioning);
            let (kind, message) = match step.next() {
                Some(next) => ("provisioning", format!("Next: {}.", next.label())),
                None => ("running", "The service is made and takes connections.".to_owned()),
            };
            save(means, record.clone(), expect, kind, message).await?;
            if record.stage == Stage::Ready {
                publish(means, &record).await?;
            }
            Ok(())
        }
        Err(Trouble::Final(why)) => {
            record.stage = Stage::Failed;
            let message = format!("{} failed: {why}", step.label());
            record.reason = Some(message.clone());
            save(means, record, expect, "failed", message).await
        }
        Err(Trouble::Passing(why)) => {
            let reason = format!("{}: {why}", step.label());
            if record.reason.as_ref() != Some(&reason) {
                record.reason = Some(reason.clone());
                save(means, record, expect, "waiting", reason).await?;
            }
            Err(why)
        }
    }
}

async fn save(
    means: &Means,
    record: ServiceRecord,
    expect: Expect,
    kind: &'static str,
    message: String,
) -> Result<(), String> {
    let saved = blocking(means, move |catalog| {
        let change = catalog.change().put(&record, expect);
        change.event(&record.name, kind, message).commit()
    });
    saved.await.map(drop)
}

async fn publish(means: &Means, record: &ServiceRecord) -> Result<(), String> {
    let name = record.name.parse().map_err(|error| format!("{}: {error}", record.name))?;
    (means.publish)(name).await.map(drop)
}

async fn take(means: &Means, record: &mut ServiceRecord, step: Step) -> Result<(), Trouble> {
    match step {
        Step::Server => server(means, record).await,
        Step::Look => look(means, record).await,
        Step::ManagementRole => {
            let session = primary(means, record, "postgres").await?;
            let password = secret(means, record.management_secret()).await?;
            Ok(steps::management_role(&session, &record.management_role, &password).await?)
        }
        Step::AdminRole => {
            let session = primary(means, record, "postgres").await?;
            let password = secret(means, role_secret(&record.name, &record.admin_role)).await?;
            Ok(steps::admin_role(&session, &record.admin_role, &password).await?)
        }
        Step::Database => {
            let session = primary(means, record, "postgres").await?;
            Ok(steps::database(&session, &record.database, &record.admin_role).await?)
        }
        Step::Extension if record.kind == ServiceKind::Vector => {
            let session = primary(means, record, &record.database).await?;
            Ok(steps::vector(&session).await?)
        }
        Step::Extension => Ok(()),
    }
}

async fn secret(means: &Means, path: String) -> Result<Secret<String>, Trouble> {
    let found = blocking(means, move |catalog| catalog.secret(&path)).await?;
    found.ok_or_else(|| Trouble::Final("a password is missing in the catalogue".to_owned()))
}

/// The first node is the primary that was found when the nodes were chosen;
/// another one may have taken over since.
pub(super) async fn primary(
    means: &Means,
    record: &ServiceRecord,
    database: &str,
) -> Result<Superuser, Trouble> {
    let mut why = Trouble::Final("the service has no node".to_owned());
    for node in &record.nodes {
        let login = login(means, record, &node.address).await?;
        match Superuser::connect(&means.dialer, &login, database).await {
            Ok(session) if record.nodes.len() == 1 || session.takes_writes().await? => {
                return Ok(session);
            }
            Ok(_) => why = Trouble::Passing("no node takes writes".to_owned()),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}

async fn server(means: &Means, record: &mut ServiceRecord) -> Result<(), Trouble> {
    if record.provider == Provider::External {
        return Ok(());
    }
    let servers = means.local.clone();
    let servers = servers.ok_or_else(|| {
        Trouble::Final("services cannot be made on this host: set [local] directory".to_owned())
    })?;
    let plan = (means.plans)().find(&record.plan).cloned();
    let plan = plan.ok_or_else(|| Trouble::Final(format!("there is no plan {}", record.plan)))?;
    let of_manager = if plan.nodes > 1 { Some(of_manager(means, record).await?) } else { None };
    let superuser = secret(means, local::superuser_secret(&record.name)).await?;
    let order =
        Order { service: record.name.clone(), kind: record.kind, plan, superuser, of_manager };
    let made = tokio::task::spawn_blocking(move || servers.make(&order));
    let made = made.await.map_err(|error| error.to_string())??;
    let place =
        |node: local::MadeNode| PlacedNode { id: node.id, address: node.address, zone: None };
    record.nodes = made.nodes.into_iter().map(place).collect();
    record.node_tls = made.tls;
    record.node_ca = made.authority;
    let user = local::PATRONI_USER.to_owned();
    let is_led = !made.patroni.is_empty();
    record.topology = is_led.then_some(TopologyRecord { patroni: made.patroni, user });
    Ok(())
}

async fn of_manager(means: &Means, record: &ServiceRecord) -> Result<ManagerPasswords, Trouble> {
    Ok(ManagerPasswords {
        replication: secret(means, local::replication_secret(&record.name)).await?,
        rest_api: secret(means, record.patroni_secret()).await?,
        etcd: secret(means, local::etcd_secret(&record.name)).await?,
    })
}

/// Looks at every node once more, and reports all that is wrong at once.
async fn look(means: &Means, record: &mut ServiceRecord) -> Result<(), Trouble> {
    if record.provider == Provider::Local {
        return Ok(());
    }
    let nodes = inventory(means, record).await?;
    let mut seen = Vec::new();
    for mut node in nodes {
        node.found =
            Some(look_at(means, &node).await.map_err(|why| format!("{}: {why}", node.id))?);
        node.unreachable = None;
        node.usage = Usage::Free;
        seen.push(node);
    }
    let plan = (means.plans)().find(&record.plan).cloned();
    let plan = plan.ok_or_else(|| Trouble::Final(format!("there is no plan {}", record.plan)))?;
    let wanted = placement::Wanted { plan: &plan, kind: record.kind, cloud: None, region: None };
    let ordered = placement::check(wanted, &seen.iter().collect::<Vec<_>>());
    let ordered = ordered.map_err(|problems| Trouble::Final(problems.join("; ")))?;
    let place = |node: &&NodeRecord| {
        let mut placed = record.nodes.iter().filter(|placed| placed.id == node.id);
        placed.next().cloned()
    };
    record.nodes = ordered.iter().filter_map(place).collect();
    Ok(())
}

/// The service's nodes as the inventory has them.
async fn inventory(means: &Means, record: &ServiceRecord) -> Result<Vec<NodeRecord>, Trouble> {
    let ids: Vec<_> = record.nodes.iter().map(|node| node.id.clone()).collect();
    let found = blocking(means, move |catalog| {
        ids.iter().map(|id| catalog.get::<NodeRecord>(id)).collect::<Result<Vec<_>, _>>()
    });
    let found = found.await?.into_iter().flatten().map(|found| found.record).collect();
    Ok(found)
}

/// Takes the service off the data path, then its servers, then its entries:
/// in the end nothing of it is left but its events and the audit log.
async fn delete(means: &Means, found: Versioned<ServiceRecord>) -> Result<(), String> {
    let record = found.record;
    publish(means, &record).await?;
    if let (Provider::Local, Some(servers)) = (record.provider, means.local.clone()) {
        let name = record.name.clone();
        let removed = tokio::task::spawn_blocking(move || servers.remove(&name)).await;
        removed.map_err(|error| error.to_string())??;
    }
    let forgotten = blocking(means, move |catalog| {
        let expect = Expect::Version(found.version);
        let mut change = catalog.change().remove(&record, expect);
        let prefix = format!("{}/", record.name);
        let of_service: Vec<Versioned<RoleRecord>> =
            catalog.list(Range { prefix: &prefix, ..Range::ALL })?;
        for role in of_service {
            change = roles::without(change, &role.record, Expect::Version(role.version));
        }
        change = change.unseal(&record.management_secret());
        for path in local::secrets(&record) {
            change = change.unseal(&path);
        }
        for placed in &record.nodes {
            if let Some(node) = catalog.get::<NodeRecord>(&placed.id)?
                && node.record.usage == Usage::Used(record.name.clone())
            {
                let expect = Expect::Version(node.version);
                let dirty = NodeRecord { usage: Usage::Dirty, ..node.record };
                change = change.put(&dirty, expect);
            }
        }
        change.event(&record.name, "deleted", format!("Deleted at {}.", now())).commit()
    });
    forgotten.await.map(drop)
}

/// A server of this host runs while its service is powered, and only then.
async fn keep_local(means: &Means, record: &ServiceRecord) -> Result<(), String> {
    let (Provider::Local, Some(servers)) = (record.provider, means.local.clone()) else {
        return Ok(());
    };
    let (name, powered) = (record.name.clone(), record.powered);
    let address = record.nodes.first().map(|node| node.address.clone()).unwrap_or_default();
    let kept = tokio::task::spawn_blocking(move || servers.keep(&name, &address, powered)).await;
    kept.map_err(|error| error.to_string())?
}

//! What a node is told of one role, as its stage in the catalogue says; by
//! whoever changes the role, or after a crash in the middle of that.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::superuser::{Superuser, scram_verifier};
use super::{Means, blocking, steps, worker};
use crate::auth::rotation::Rotation;
use crate::control::catalog::record::{
    RoleRecord, RoleStage, ServiceRecord, role_secret, rotation_secret,
};
use crate::control::catalog::store::Expect;
use crate::control::catalog::{Catalog, CatalogError, Change, Versioned, rotations};
use crate::control::management::NodeError;
use crate::domain::Secret;

/// The pause after a node could not be told; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// What is sealed of a role.
#[derive(Debug)]
pub struct Sealed {
    password: Secret<String>,
    rotation: Option<Rotation>,
}

impl Sealed {
    /// As the catalogue has it; none: no password is sealed.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn read(catalog: &Catalog, record: &RoleRecord) -> Result<Option<Self>, CatalogError> {
        let RoleRecord { service, role, previous_until, .. } = record;
        let Some(password) = catalog.secret(&role_secret(service, role))? else {
            return Ok(None);
        };
        let until = rotations::live(previous_until.as_deref(), SystemTime::now());
        let sealed = catalog.secret(&rotation_secret(service, role))?;
        let rotation = until.zip(sealed).and_then(|(until, text)| Rotation::parse(&text, until));
        Ok(Some(Self { password, rotation }))
    }

    /// What the node keeps of the password.
    fn verifier(&self) -> Secret<String> {
        match &self.rotation {
            Some(rotation) => rotation.verifier().to_text(),
            None => scram_verifier(&self.password),
        }
    }
}

/// Tells a primary; it can be told again. A role is taken away in the service's
/// database, where what it owns goes to the admin role.
///
/// # Errors
/// [`NodeError`].
pub async fn tell(
    session: &Superuser,
    service: &ServiceRecord,
    record: &RoleRecord,
    sealed: &Sealed,
) -> Result<(), NodeError> {
    match record.stage {
        RoleStage::Making => steps::role(session, &record.role, &sealed.password).await,
        RoleStage::Ready | RoleStage::Rotating => {
            steps::set_verifier(session, &record.role, &sealed.verifier()).await
        }
        RoleStage::Removing => steps::drop_role(session, &record.role, &service.admin_role).await,
    }
}

/// The change with which nothing is to be told any more: the node has done what
/// it was told, or refuses. A role that was taken away then, or that was not
/// made, is forgotten; another one is there as it is.
pub fn settled<'c>(
    catalog: &'c Catalog,
    found: &Versioned<RoleRecord>,
    is_done: bool,
) -> Change<'c> {
    let (change, expect) = (catalog.change(), Expect::Version(found.version));
    match (found.record.stage, is_done) {
        (RoleStage::Removing, true) | (RoleStage::Making, false) => {
            without(change, &found.record, expect)
        }
        _ => change.put(&RoleRecord { stage: RoleStage::Ready, ..found.record.clone() }, expect),
    }
}

/// Whether a node that said this will say it again: the customer has changed or
/// made something himself. Not a role that is just being made, by a statement
/// of before the crash.
fn is_final(sqlstate: &str) -> bool {
    const DUPLICATE_OBJECT: &str = "42710";
    (sqlstate.starts_with("42") || sqlstate.starts_with("2B")) && sqlstate != DUPLICATE_OBJECT
}

/// The role and all that is sealed of it is forgotten.
pub fn without<'c>(change: Change<'c>, record: &RoleRecord, expect: Expect) -> Change<'c> {
    let RoleRecord { service, role, .. } = record;
    let change = change.remove(record, expect).unseal(&role_secret(service, role));
    change.unseal(&rotation_secret(service, role))
}

/// Tells the primary what it is yet to be told of a role, as often as it takes.
pub(super) async fn settle(means: &Means, service: &str, role: &str) {
    let mut pause = FIRST;
    let mut overtaken = false;
    loop {
        match try_to_settle(means, service, role, overtaken).await {
            Ok(Outcome::Settled) => return,
            // What was told just now may be older than what somebody else told.
            Ok(Outcome::Overtaken) => overtaken = true,
            Err(why) => {
                tracing::info!(service, role, why, "what a role is to become is told later");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}

enum Outcome {
    Settled,
    Overtaken,
}

async fn try_to_settle(
    means: &Means,
    service: &str,
    role: &str,
    overtaken: bool,
) -> Result<Outcome, String> {
    let (of, name) = (service.to_owned(), format!("{service}/{role}"));
    let read = move |catalog: &Catalog| {
        let (service, role) = (catalog.get::<ServiceRecord>(&of)?, catalog.get(&name)?);
        let (Some(service), Some(role)) = (service, role) else { return Ok(None) };
        let sealed = Sealed::read(catalog, &role.record)?;
        Ok(Some((service.record, role, sealed)))
    };
    // A service that goes takes its roles with it.
    let Some((service, found, sealed)) = blocking(means, read).await? else {
        return Ok(Outcome::Settled);
    };
    if found.record.stage == RoleStage::Ready && !overtaken {
        return Ok(Outcome::Settled);
    }
    let sealed = sealed.ok_or("its password is not in the catalogue")?;
    let removes = found.record.stage == RoleStage::Removing;
    let database = if removes { service.database.as_str() } else { "postgres" };
    let session = worker::primary(means, &service, database).await?;
    let is_done = match tell(&session, &service, &found.record, &sealed).await {
        Ok(()) => true,
        Err(NodeError::Query { message, sqlstate }) if is_final(&sqlstate) => {
            tracing::warn!(
                service = service.name,
                role,
                message,
                sqlstate,
                "a node refuses what a role was to become"
            );
            false
        }
        Err(error) => return Err(error.to_string()),
    };
    let saved = blocking(means, move |catalog| match settled(catalog, &found, is_done).commit() {
        Err(error) if error.is_conflict() => Ok(Outcome::Overtaken),
        saved => saved.map(|_| Outcome::Settled),
    });
    saved.await
}

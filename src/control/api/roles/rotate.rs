//! `POST /v1/services/{name}/roles/{role}/rotate` (decision 19).
//!
//! The new password is sealed before the server is told, and with it what lets
//! the one before go on: a crash at any moment leaves a password that works,
//! the one before until the server is told after the restart.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use tokio::task::spawn_blocking;

use crate::auth::Verifier;
use crate::auth::rotation::Rotation;
use crate::control::api::authority::{Permit, Write, random_password};
use crate::control::api::databases::{primary, sql_problem};
use crate::control::api::model::{LONGEST_GRACE, RoleRotate, RoleView};
use crate::control::api::overview::Known;
use crate::control::api::problem::{Problem, Problems};
use crate::control::api::request::{Findings, Named, OptionalBody};
use crate::control::api::{Api, to_its_end};
use crate::control::catalog::record::{RoleRecord, RoleStage, role_secret, rotation_secret};
use crate::control::catalog::store::Expect;
use crate::control::catalog::{Audit, Versioned, now};
use crate::control::provision::steps;
use crate::control::provision::superuser::Superuser;
use crate::domain::Secret;

/// Gives a role another password. The old one is refused from now on, or after
/// the grace time; the one before it is refused in any case. Who is logged in
/// stays.
#[utoipa::path(post, path = "/services/{name}/roles/{role}/rotate", tag = "roles",
    request_body = Option<RoleRotate>,
    params(("name" = String, Path, description = "The service's name"),
           ("role" = String, Path, description = "The role's name")),
    responses((status = 200, description = "The role with its new password", body = RoleView), Problems))]
pub(in crate::control::api) async fn rotate(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named((name, role)): Named<(String, String)>,
    OptionalBody(order): OptionalBody<RoleRotate>,
) -> Result<Json<RoleView>, Problem> {
    let mut findings = Findings::default();
    if order.grace > LONGEST_GRACE {
        findings.add("/grace", format!("expected 0 to {LONGEST_GRACE}"));
    }
    findings.finish()?;
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    api.role(&name, &role).await?;
    let audit = Audit {
        actor: permit.caller.name,
        action: "role.rotate".to_owned(),
        detail: serde_json::json!({ "role": role, "grace": order.grace }),
    };
    to_its_end(async move {
        let _turn = api.turn(&name, &role)?;
        let live = api.known(&name)?;
        let session = primary(&api, &service, "postgres").await?;
        let password = random_password();
        let until = end_of_grace(order.grace);
        let rotation = rotation(&session, &role, &password, until).await?;
        let until = until.filter(|_| rotation.is_some());
        let sealed = Sealed { password, rotation: rotation.clone(), until };
        let found = api.seal(&name, &role, sealed, audit.clone()).await?;
        api.management.begin_rotation(&live, &role, rotation);
        let told = api.tell(&session, &service, found, audit, None).await;
        api.management.end_rotation(&live, &role, told.is_ok());
        told?;
        Ok(Json(api.role(&name, &role).await?.1))
    })
    .await
}

/// The next whole second after so many; none: there is no grace time.
fn end_of_grace(seconds: u32) -> Option<SystemTime> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let end = since + Duration::from_secs(seconds.into());
    let whole = end.as_secs() + u64::from(end.subsec_nanos() > 0);
    (seconds > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(whole))
}

/// Where there is a grace time, from the password that the server knows now to
/// this one. One that is not kept as SCRAM lets nobody in, and needs none.
async fn rotation(
    session: &Superuser,
    role: &str,
    password: &Secret<String>,
    until: Option<SystemTime>,
) -> Result<Option<Rotation>, Problem> {
    let Some(until) = until else { return Ok(None) };
    let previous = steps::verifier(session, role).await.map_err(|error| sql_problem(&error))?;
    let Some(previous) = previous.and_then(|text| Verifier::parse(text.expose())) else {
        return Ok(None);
    };
    let password = password.clone();
    let made = spawn_blocking(move || Rotation::new(previous, &password, until)).await;
    made.map(Some).map_err(|error| Problem::ours(&error))
}

/// What is sealed of a rotation.
struct Sealed {
    password: Secret<String>,
    rotation: Option<Rotation>,
    until: Option<SystemTime>,
}

impl Api {
    async fn seal(
        &self,
        service: &str,
        role: &str,
        sealed: Sealed,
        audit: Audit,
    ) -> Result<Versioned<RoleRecord>, Problem> {
        let (service, role) = (service.to_owned(), role.to_owned());
        let Sealed { password, rotation, until } = sealed;
        let previous_until =
            until.map(|until| humantime::format_rfc3339_seconds(until).to_string());
        let said = match &previous_until {
            None => format!("Role {role} has a new password."),
            Some(until) => {
                format!("Role {role} has a new password; the one before works until {until}.")
            }
        };
        let written = self.with_catalog(move |catalog| {
            let found = catalog.get::<RoleRecord>(&format!("{service}/{role}"))?;
            let found = found.ok_or_else(|| Problem::not_found("role", &role))?;
            let record = RoleRecord {
                rotated_at: now(),
                previous_until,
                stage: RoleStage::Rotating,
                ..found.record
            };
            let change = catalog.change().put(&record, Expect::Version(found.version));
            let change = change.seal(&role_secret(&service, &role), &password);
            let path = rotation_secret(&service, &role);
            let change = match rotation {
                Some(rotation) => change.seal(&path, &rotation.to_text()),
                None => change.unseal(&path),
            };
            let change = change.event(&service, "rotated", said);
            let version = change.audit(&format!("services/{service}"), &audit).commit()?;
            Ok(Versioned { version, record })
        });
        written.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_time_ends_with_a_whole_second_and_never_early() {
        let earliest = SystemTime::now() + Duration::from_secs(10);
        let end = end_of_grace(10).unwrap();
        assert!(end >= earliest && end <= earliest + Duration::from_secs(2));
        let since = end.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.subsec_nanos(), 0);
        assert_eq!(end_of_grace(0), None);
    }
}

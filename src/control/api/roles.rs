//! `/v1/services/{name}/roles`: the roles that were made here. Those that the
//! customer made himself are his own.

pub(super) mod rotate;

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::authority::{Permit, Read, Write, random_password};
use super::databases::{primary, sql_problem};
use super::model::{RoleCreate, RoleView};
use super::once::Once;
use super::overview::Known;
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::{Body, Findings, IdempotencyKey, Named};
use super::turns::Turn;
use super::{Api, created, segment, to_its_end};
use crate::control::catalog::record::{
    RoleRecord, RoleStage, Scope, ServiceRecord, role_secret, rotation_secret,
};
use crate::control::catalog::store::{Expect, Range};
use crate::control::catalog::{Audit, Record as _, Versioned, now, rotations};
use crate::control::management::NodeError;
use crate::control::provision::roles::{self, Sealed};
use crate::control::provision::steps;
use crate::control::provision::superuser::Superuser;
use crate::domain::Secret;

/// The roles that were made here.
#[utoipa::path(get, path = "/services/{name}/roles", tag = "roles",
    params(("name" = String, Path, description = "The service's name"), PageQuery),
    responses((status = 200, description = "A page of roles", body = Page<RoleView>), Problems))]
pub(super) async fn list(
    permit: Permit<Read>,
    State(api): State<Api>,
    Named(name): Named<String>,
    window: Window,
) -> Result<Json<Page<RoleView>>, Problem> {
    Known::find(&api, &permit.caller, &name).await?.into_record()?;
    let may_see = permit.caller.scope >= Scope::Write;
    let prefix = format!("{name}/");
    let (after, limit) = (format!("{prefix}{}", window.after()), window.most());
    let views = api.with_catalog(move |catalog| {
        let range = Range { prefix: &prefix, after: &after, ..Range::ALL };
        let roles: Vec<Versioned<RoleRecord>> = catalog.list(range)?;
        let shown = roles.into_iter().filter(|found| found.record.stage.is_shown());
        let view = |found: Versioned<RoleRecord>| {
            let path = role_secret(&found.record.service, &found.record.role);
            let password = if may_see { catalog.secret(&path)? } else { None };
            Ok(view(found.record, password))
        };
        shown.take(limit).map(view).collect::<Result<Vec<_>, Problem>>()
    });
    Ok(window.page(views.await?, |role| role.name.clone()))
}

fn view(record: RoleRecord, password: Option<Secret<String>>) -> RoleView {
    RoleView {
        name: record.role,
        password: password.map(|password| password.expose().clone()),
        created_at: record.created_at,
        rotated_at: record.rotated_at,
        previous_password_until: record
            .previous_until
            .filter(|until| rotations::live(Some(until), SystemTime::now()).is_some()),
    }
}

/// Makes a role with a password of its own. It may log in, and is given what
/// it may do by the admin role, in SQL.
#[utoipa::path(post, path = "/services/{name}/roles", tag = "roles", request_body = RoleCreate,
    params(("name" = String, Path, description = "The service's name"),
           ("Idempotency-Key" = Option<String>, Header,
            description = "Repeats of a request with the same key create nothing")),
    responses((status = 201, description = "The role", body = RoleView), Problems))]
pub(super) async fn create(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    key: IdempotencyKey,
    Body(body): Body<RoleCreate>,
) -> Result<Response, Problem> {
    let mut findings = Findings::default();
    findings.check_identifier("/name", &body.name);
    findings.finish()?;
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    let collection = format!("services/{name}/roles");
    let once = Once::new(key, &permit.caller, &collection, &body);
    let earlier = once.clone();
    let earlier = api.with_catalog(move |catalog| earlier.earlier(catalog)).await?;
    let role = match earlier {
        Some(role) => role,
        None => to_its_end(make(api.clone(), service, body.name, once, permit.caller.name)).await?,
    };
    let (version, made) = api.role(&name, &role).await?;
    Ok(created(&format!("/v1/services/{name}/roles/{}", segment(&role)), version, made))
}

/// Written down first, with its password: after a crash the role is made with
/// the same.
async fn make(
    api: Api,
    service: ServiceRecord,
    role: String,
    once: Once,
    actor: String,
) -> Result<String, Problem> {
    let _turn = api.turn(&service.name, &role)?;
    let session = primary(&api, &service, "postgres").await?;
    if steps::has_role(&session, &role).await.map_err(|error| sql_problem(&error))? {
        return Err(Problem::conflict(format!("There is a role {role:?} already.")));
    }
    let record = RoleRecord {
        service: service.name.clone(),
        role: role.clone(),
        created_at: now(),
        rotated_at: now(),
        previous_until: None,
        stage: RoleStage::Making,
    };
    let audit = Audit {
        actor,
        action: "role.create".to_owned(),
        detail: serde_json::json!({ "role": role }),
    };
    let (written, noted, asked) = (record.clone(), once.clone(), audit.clone());
    let written = api.with_catalog(move |catalog| {
        let before = catalog.get::<RoleRecord>(&written.name())?;
        if before.is_some_and(|before| !before.record.stage.is_shown()) {
            return Err(under_way());
        }
        let path = role_secret(&written.service, &written.role);
        let change = catalog.change().put(&written, Expect::Any).seal(&path, &random_password());
        let change = change.unseal(&rotation_secret(&written.service, &written.role));
        let change = noted.note(change, &written.role);
        Ok(change.audit(&format!("services/{}", written.service), &asked).commit()?)
    });
    let version = written.await?;
    api.tell(&session, &service, Versioned { version, record }, audit, Some(once)).await?;
    api.management.replace_role(&api.known(&service.name)?, &role);
    Ok(role)
}

fn under_way() -> Problem {
    Problem::unavailable("The role is being made or taken away at this moment; try again.")
}

/// Takes a role away; what it owned becomes the admin role's.
#[utoipa::path(delete, path = "/services/{name}/roles/{role}", tag = "roles",
    params(("name" = String, Path, description = "The service's name"),
           ("role" = String, Path, description = "The role's name")),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named((name, role)): Named<(String, String)>,
) -> Result<Response, Problem> {
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    api.role(&name, &role).await?;
    if role == service.admin_role {
        return Err(Problem::conflict("The admin role goes with its service."));
    }
    to_its_end(take_away(api, service, role, permit.caller.name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Written down first: after a crash the role goes all the same.
async fn take_away(
    api: Api,
    service: ServiceRecord,
    role: String,
    actor: String,
) -> Result<(), Problem> {
    let _turn = api.turn(&service.name, &role)?;
    let live = api.known(&service.name)?;
    let session = primary(&api, &service, &service.database).await?;
    let audit = Audit {
        actor,
        action: "role.delete".to_owned(),
        detail: serde_json::json!({ "role": role }),
    };
    let (name, of, asked) = (service.name.clone(), role.clone(), audit.clone());
    let marked = api.with_catalog(move |catalog| {
        let found = catalog.get::<RoleRecord>(&format!("{name}/{of}"))?;
        let found = found.ok_or_else(|| Problem::not_found("role", &of))?;
        let record = RoleRecord { stage: RoleStage::Removing, ..found.record };
        let change = catalog.change().put(&record, Expect::Version(found.version));
        let version = change.audit(&format!("services/{name}"), &asked).commit()?;
        Ok(Versioned { version, record })
    });
    let marked = marked.await?;
    api.tell(&session, &service, marked, audit, None).await?;
    api.management.replace_role(&live, &role);
    Ok(())
}

impl Api {
    /// The right to change a role.
    fn turn(&self, service: &str, role: &str) -> Result<Turn, Problem> {
        let turn = self.turns.take(format!("{service}/{role}"));
        turn.ok_or_else(|| Problem::conflict("The role is being changed at this moment."))
    }

    /// Tells the primary what stands in the catalogue of a role, and notes that
    /// it knows. What it refuses is as if nobody had asked for it, but for the
    /// audit log; where nobody knows what has become of it, it is told again
    /// until it answers.
    async fn tell(
        &self,
        session: &Superuser,
        service: &ServiceRecord,
        found: Versioned<RoleRecord>,
        audit: Audit,
        once: Option<Once>,
    ) -> Result<(), Problem> {
        let record = found.record.clone();
        let sealed = self.with_catalog(move |catalog| Ok(Sealed::read(catalog, &record)?));
        let sealed = sealed.await?.ok_or_else(|| Problem::ours(&"no password is sealed"))?;
        match roles::tell(session, service, &found.record, &sealed).await {
            Ok(()) => {
                let noted = self.with_catalog(move |catalog| {
                    Ok(roles::settled(catalog, &found, true).commit()?)
                });
                noted.await.map(drop)
            }
            Err(error @ NodeError::Query { .. }) => {
                let audit = audit.failed(&error);
                let noted = self.with_catalog(move |catalog| {
                    let change = roles::settled(catalog, &found, false);
                    let change =
                        change.audit(&format!("services/{}", found.record.service), &audit);
                    Ok(once.iter().fold(change, |change, once| once.forget(change)).commit()?)
                });
                noted.await?;
                Err(sql_problem(&error))
            }
            Err(error) => {
                self.provisioner()?.settle_role(&service.name, &found.record.role);
                Err(sql_problem(&error))
            }
        }
    }

    /// A role with its password, and its version.
    async fn role(&self, service: &str, role: &str) -> Result<(u64, RoleView), Problem> {
        let (service, role) = (service.to_owned(), role.to_owned());
        let found = self.with_catalog(move |catalog| {
            let found = catalog.get::<RoleRecord>(&format!("{service}/{role}"))?;
            let found = found.filter(|found| found.record.stage != RoleStage::Removing);
            let found = found.ok_or_else(|| Problem::not_found("role", &role))?;
            if !found.record.stage.is_shown() {
                return Err(under_way());
            }
            Ok((found.version, found.record, catalog.secret(&role_secret(&service, &role))?))
        });
        let (version, record, password) = found.await?;
        Ok((version, view(record, password)))
    }
}

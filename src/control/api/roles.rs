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
use super::{Api, created, segment};
use crate::control::catalog::record::{RoleRecord, Scope, role_secret, rotation_secret};
use crate::control::catalog::store::{Expect, Range};
use crate::control::catalog::{Audit, Versioned, now, rotations};
use crate::control::provision::steps;
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
        let range = Range { prefix: &prefix, after: &after, limit };
        let roles: Vec<Versioned<RoleRecord>> = catalog.list(range)?;
        let view = |found: Versioned<RoleRecord>| {
            let path = role_secret(&found.record.service, &found.record.role);
            let password = if may_see { catalog.secret(&path)? } else { None };
            Ok(view(found.record, password))
        };
        roles.into_iter().map(view).collect::<Result<Vec<_>, Problem>>()
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
    if earlier.is_none() {
        let session = primary(&api, &service, "postgres").await?;
        let there = steps::has_role(&session, &body.name).await.map_err(|e| sql_problem(&e))?;
        if there {
            return Err(Problem::conflict(format!("There is a role {:?} already.", body.name)));
        }
        // Written down first, so that a crash leaves no role whose password
        // nobody knows: the role is made again with the same.
        let password = random_password();
        let record = RoleRecord {
            service: name.clone(),
            role: body.name.clone(),
            created_at: now(),
            rotated_at: now(),
            previous_until: None,
        };
        let audit = Audit {
            actor: permit.caller.name.clone(),
            action: "role.create".to_owned(),
            detail: serde_json::json!({ "role": body.name }),
        };
        let (sealed, noted) = (password.clone(), once.clone());
        let written = api.with_catalog(move |catalog| {
            let path = role_secret(&record.service, &record.role);
            let change = catalog.change().put(&record, Expect::Any).seal(&path, &sealed);
            let change = change.unseal(&rotation_secret(&record.service, &record.role));
            let change = noted.note(change, &record.role);
            Ok(change.audit(&format!("services/{}", record.service), &audit).commit()?)
        });
        written.await?;
        steps::role(&session, &body.name, &password).await.map_err(|error| sql_problem(&error))?;
        api.management.replace_role(&api.known(&name)?, &body.name);
    }
    let role = earlier.unwrap_or(body.name);
    let (version, made) = api.role(&name, &role).await?;
    Ok(created(&format!("/v1/services/{name}/roles/{}", segment(&role)), version, made))
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
    let live = api.known(&name)?;
    let session = primary(&api, &service, &service.database).await?;
    let dropped = steps::drop_role(&session, &role, &service.admin_role).await;
    dropped.map_err(|error| sql_problem(&error))?;
    api.management.replace_role(&live, &role);
    let audit = Audit {
        actor: permit.caller.name,
        action: "role.delete".to_owned(),
        detail: serde_json::json!({ "role": role }),
    };
    let removed = api.with_catalog(move |catalog| {
        let found = catalog.get::<RoleRecord>(&format!("{name}/{role}"))?;
        let found = found.ok_or_else(|| Problem::not_found("role", &role))?;
        let change = catalog.change().remove(&found.record, Expect::Version(found.version));
        let change = change.unseal(&role_secret(&name, &role));
        let change = change.unseal(&rotation_secret(&name, &role));
        Ok(change.audit(&format!("services/{name}"), &audit).commit()?)
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Api {
    /// A role with its password, and its version.
    async fn role(&self, service: &str, role: &str) -> Result<(u64, RoleView), Problem> {
        let (service, role) = (service.to_owned(), role.to_owned());
        let found = self.with_catalog(move |catalog| {
            let found = catalog.get::<RoleRecord>(&format!("{service}/{role}"))?;
            let found = found.ok_or_else(|| Problem::not_found("role", &role))?;
            Ok((found.version, found.record, catalog.secret(&role_secret(&service, &role))?))
        });
        let (version, record, password) = found.await?;
        Ok((version, view(record, password)))
    }
}

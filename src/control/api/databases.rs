//! `/v1/services/{name}/databases`: asked of the service's primary itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::authority::{Permit, Read, Write};
use super::model::{DatabaseCreate, DatabaseView};
use super::overview::Known;
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::{Body, Findings, Named};
use super::{Api, created, segment};
use crate::control::catalog::record::ServiceRecord;
use crate::control::catalog::{Audit, Catalog};
use crate::control::management::NodeError;
use crate::control::provision::steps;
use crate::control::provision::superuser::Superuser;

const DATABASES: &str = "\
    SELECT d.datname::pg_catalog.text, r.rolname::pg_catalog.text
    FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
    WHERE NOT d.datistemplate AND d.datname <> 'postgres'
      AND d.datname::pg_catalog.text COLLATE \"C\" > $1
    ORDER BY d.datname::pg_catalog.text COLLATE \"C\" LIMIT $2";

/// The databases of a service.
#[utoipa::path(get, path = "/services/{name}/databases", tag = "databases",
    params(("name" = String, Path, description = "The service's name"), PageQuery),
    responses((status = 200, description = "A page of databases", body = Page<DatabaseView>), Problems))]
pub(super) async fn list(
    permit: Permit<Read>,
    State(api): State<Api>,
    Named(name): Named<String>,
    window: Window,
) -> Result<Json<Page<DatabaseView>>, Problem> {
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    let session = primary(&api, &service, "postgres").await?;
    let most = i64::try_from(window.most()).unwrap_or(i64::MAX);
    let rows = session.rows(DATABASES, &[&window.after(), &most]).await;
    let rows = rows.map_err(|error| sql_problem(&error))?;
    let view = |row: &tokio_postgres::Row| DatabaseView { name: row.get(0), owner: row.get(1) };
    Ok(window.page(rows.iter().map(view), |database| database.name.clone()))
}

/// Makes a database.
#[utoipa::path(post, path = "/services/{name}/databases", tag = "databases",
    request_body = DatabaseCreate,
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 201, description = "The database", body = DatabaseView), Problems))]
pub(super) async fn create(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    Body(body): Body<DatabaseCreate>,
) -> Result<Response, Problem> {
    let mut findings = Findings::default();
    findings.check_identifier("/name", &body.name);
    if ["postgres", "template0", "template1", "pgbouncer"].contains(&body.name.as_str()) {
        findings.add("/name", "is PostgreSQL's own");
    }
    findings.finish()?;
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    let session = primary(&api, &service, "postgres").await?;
    let owner = body.owner.clone().unwrap_or_else(|| service.admin_role.clone());
    if !steps::has_role(&session, &owner).await.map_err(|error| sql_problem(&error))? {
        return Err(Problem::field("/owner", format!("there is no role {owner:?}")));
    }
    let there = has_database(&session, &body.name).await?;
    if there {
        return Err(Problem::conflict(format!("There is a database {:?} already.", body.name)));
    }
    note(&api, &permit, "database.create", &name, &body.name, None).await?;
    if let Err(error) = steps::database(&session, &body.name, &owner).await {
        note(&api, &permit, "database.create", &name, &body.name, Some(&error)).await?;
        return Err(sql_problem(&error));
    }
    let path = format!("/v1/services/{name}/databases/{}", segment(&body.name));
    Ok(created(&path, 0, DatabaseView { name: body.name, owner }))
}

/// Drops a database, with everything in it. Sessions there are ended.
#[utoipa::path(delete, path = "/services/{name}/databases/{database}", tag = "databases",
    params(("name" = String, Path, description = "The service's name"),
           ("database" = String, Path, description = "The database's name")),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named((name, database)): Named<(String, String)>,
) -> Result<Response, Problem> {
    let service = Known::find(&api, &permit.caller, &name).await?.into_record()?.record;
    let not_found = || Problem::not_found("database", &database);
    if database == "postgres" || database.starts_with("template") {
        return Err(not_found());
    }
    if database == service.database {
        return Err(Problem::conflict("The default database goes with its service."));
    }
    let session = primary(&api, &service, "postgres").await?;
    if !has_database(&session, &database).await? {
        return Err(not_found());
    }
    note(&api, &permit, "database.delete", &name, &database, None).await?;
    if let Err(error) = steps::drop_database(&session, &database).await {
        note(&api, &permit, "database.delete", &name, &database, Some(&error)).await?;
        return Err(sql_problem(&error));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn has_database(session: &Superuser, name: &str) -> Result<bool, Problem> {
    // No name of PostgreSQL holds a zero byte, and no parameter may.
    if name.contains('\0') {
        return Ok(false);
    }
    let found = session.finds("SELECT FROM pg_catalog.pg_database WHERE datname = $1", name).await;
    found.map_err(|error| sql_problem(&error))
}

/// Before it is done, so that nothing is done of which the audit log does not
/// know; once more with the reason, if it was not done.
async fn note(
    api: &Api,
    permit: &Permit<Write>,
    action: &str,
    service: &str,
    database: &str,
    failed: Option<&NodeError>,
) -> Result<(), Problem> {
    let detail = serde_json::json!({ "database": database });
    let audit = Audit { actor: permit.caller.name.clone(), action: action.to_owned(), detail };
    let audit = match failed {
        None => audit,
        Some(error) => audit.failed(error),
    };
    let subject = format!("services/{service}");
    let note = move |catalog: &Catalog| Ok(catalog.change().audit(&subject, &audit).commit()?);
    api.with_catalog(note).await.map(drop)
}

/// A superuser's session on the service's primary.
pub(super) async fn primary(
    api: &Api,
    service: &ServiceRecord,
    database: &str,
) -> Result<Superuser, Problem> {
    let name = service.name.parse().map_err(|_| Problem::not_found("service", &service.name))?;
    let live = api.directory.service(&name);
    let live = live.ok_or_else(|| Problem::conflict("The service is not running yet."))?;
    if !service.powered {
        return Err(Problem::conflict("The service is powered off."));
    }
    let Ok(node) = &live.topology.primary else {
        return Err(Problem::unavailable("The service has no primary at the moment."));
    };
    let provisioner = api.provisioner()?;
    let login = provisioner.login(service, &node.address).await;
    let login = login.map_err(|why| Problem::ours(&why))?;
    let session = Superuser::connect(provisioner.dialer(), &login, database).await;
    session.map_err(|error| sql_problem(&error))
}

/// What a node said about what it was asked to do.
pub(super) fn sql_problem(error: &NodeError) -> Problem {
    match error {
        NodeError::Query { message, sqlstate } => {
            Problem::conflict(format!("PostgreSQL says: {message} (SQLSTATE {sqlstate})."))
        }
        other => {
            tracing::warn!(error = %other, "a node could not be worked on");
            Problem::unavailable("The service's primary does not answer; try again.")
        }
    }
}

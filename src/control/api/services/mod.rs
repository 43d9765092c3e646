//! `/v1/services`

pub(super) mod change;
pub(super) mod create;
pub(super) mod planned;

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::authority::{Caller, Permit, Read, Write};
use super::model::{EventView, ServiceSummary, ServiceView};
use super::overview::{Known, Roles, summary};
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::{IfMatch, Named, etag};
use crate::control::catalog::record::{ServiceRecord, Stage};
use crate::control::catalog::store::{Line, Log};
use crate::control::catalog::{Audit, Event};
use crate::domain::ServiceName;

/// The services, those of the configuration file among them.
#[utoipa::path(get, path = "/services", tag = "services", params(PageQuery),
    responses((status = 200, description = "A page of services", body = Page<ServiceSummary>), Problems))]
pub(super) async fn list(
    _: Permit<Read>,
    State(api): State<Api>,
    window: Window,
) -> Result<Json<Page<ServiceSummary>>, Problem> {
    let records: Vec<ServiceRecord> =
        if api.catalog.is_some() { api.records(&window).await? } else { Vec::new() };
    let snapshot = api.directory.current();
    let live = snapshot.services.keys().filter(|name| name.as_str() > window.after()).cloned();
    let mut names: BTreeSet<ServiceName> = live.collect();
    names.extend(records.iter().filter_map(|record| record.name.parse().ok()));
    let roles = Roles::look(&api);
    let summaries = names.iter().take(window.most()).filter_map(|name| {
        let record = records.iter().find(|record| record.name == name.as_str());
        summary(&api, &roles, name, record)
    });
    Ok(window.page(summaries, |service| service.name.clone()))
}

/// A service in full: what to put into a driver, and how it is.
#[utoipa::path(get, path = "/services/{name}", tag = "services",
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "The service", body = ServiceView), Problems))]
pub(super) async fn show(
    permit: Permit<Read>,
    State(api): State<Api>,
    Named(name): Named<String>,
) -> Result<Response, Problem> {
    let known = Known::find(&api, &permit.caller, &name).await?;
    let version = known.record.as_ref().map_or(0, |found| found.version);
    Ok(([etag(version)], Json(known.view(&api))).into_response())
}

/// Deletes a service: its sessions end, and it is taken apart. Nodes of the
/// inventory keep their data and are `dirty` then.
#[utoipa::path(delete, path = "/services/{name}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
           ("If-Match" = Option<String>, Header, description = "The ETag that it was read with")),
    responses((status = 202, description = "It is being taken apart", body = ServiceView), Problems))]
pub(super) async fn remove(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    condition: IfMatch,
) -> Result<Response, Problem> {
    let found = Known::find(&api, &permit.caller, &name).await?.into_record()?;
    let expect = condition.check(found.version)?;
    let mut record = found.record;
    if record.termination_protection {
        return Err(Problem::conflict(
            "The service is protected: set termination_protection to false first.",
        ));
    }
    if record.stage != Stage::Deleting {
        record.stage = Stage::Deleting;
        record.reason = None;
        let audit = Audit {
            actor: permit.caller.name.clone(),
            action: "service.delete".to_owned(),
            detail: serde_json::Value::Null,
        };
        let saved = api.with_catalog(move |catalog| {
            let change = catalog.change().put(&record, expect);
            let change = change.audit(&format!("services/{}", record.name), &audit);
            Ok(change.event(&record.name, "deleting", "Told to delete it.").commit()?)
        });
        saved.await?;
    }
    api.publish_now(&name).await?;
    let view = Known::find(&api, &permit.caller, &name).await.map(|known| known.view(&api));
    api.provisioner()?.work_on(&name);
    Ok((StatusCode::ACCEPTED, Json(view?)).into_response())
}

/// Lets nothing new begin: transactions and logins wait until the service is
/// resumed, for at most `failover_wait`. What has begun goes on.
#[utoipa::path(post, path = "/services/{name}/pause", tag = "services",
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "It is paused", body = ServiceView), Problems))]
pub(super) async fn pause(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
) -> Result<Json<ServiceView>, Problem> {
    set_paused(&api, &permit.caller, &name, true).await
}

/// Lets a paused service go on.
#[utoipa::path(post, path = "/services/{name}/resume", tag = "services",
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "It goes on", body = ServiceView), Problems))]
pub(super) async fn resume(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
) -> Result<Json<ServiceView>, Problem> {
    set_paused(&api, &permit.caller, &name, false).await
}

async fn set_paused(
    api: &Api,
    caller: &Caller,
    name: &str,
    paused: bool,
) -> Result<Json<ServiceView>, Problem> {
    Known::find(api, caller, name).await?;
    let service = name.parse().map_err(|_| Problem::not_found("service", name))?;
    api.pauses.set(&service, paused, &caller.name).await?;
    Ok(Json(Known::find(api, caller, name).await?.view(api)))
}

/// What happened to a service, newest first; also to one that is gone.
#[utoipa::path(get, path = "/services/{name}/events", tag = "services",
    params(("name" = String, Path, description = "The service's name"), PageQuery),
    responses((status = 200, description = "A page of events", body = Page<EventView>), Problems))]
pub(super) async fn events(
    permit: Permit<Read>,
    State(api): State<Api>,
    Named(name): Named<String>,
    window: Window,
) -> Result<Json<Page<EventView>>, Problem> {
    let lines = api.lines(&window, Log::Events, Some(name.clone())).await?;
    if lines.is_empty() {
        Known::find(&api, &permit.caller, &name).await?;
    }
    Ok(window.page(lines.into_iter().map(event), |event| event.id))
}

fn event(line: Line) -> EventView {
    let Line { id, at, text, subject: _ } = line;
    let read = serde_json::from_str(&text);
    let event = read.unwrap_or_else(|_| Event { kind: String::new(), message: text });
    EventView { id, at, kind: event.kind, message: event.message }
}

impl Api {
    /// Brings a service to the data path as the catalogue has it now; how many
    /// sessions were told to leave.
    pub(super) async fn publish_now(&self, name: &str) -> Result<usize, Problem> {
        let name = name.parse().map_err(|_| Problem::not_found("service", name))?;
        (self.publish)(name).await.map_err(|why| Problem::ours(&why))
    }
}

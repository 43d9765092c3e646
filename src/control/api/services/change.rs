//! `PATCH /v1/services/{name}`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::create::{check_allowlist, check_pooling};
use crate::control::api::Api;
use crate::control::api::authority::{Permit, Write};
use crate::control::api::connections;
use crate::control::api::model::{ChangeView, ServiceChange};
use crate::control::api::overview::Known;
use crate::control::api::problem::{Problem, Problems};
use crate::control::api::request::{Asked, Body, Findings, IfMatch, Named, etag};
use crate::control::catalog::record::{ServiceRecord, Stage};
use crate::control::catalog::{Audit, declared};
use crate::control::pooling::PoolSettings;
use crate::control::provision::placement::needed_connections;
use crate::directory::Seat;
use crate::domain::Plan;

/// How to change.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeQuery {
    /// Only says which sessions the change would end.
    #[serde(default)]
    dry_run: bool,
}

/// Changes a service. The change acts on live traffic when this is answered.
#[utoipa::path(patch, path = "/services/{name}", tag = "services", request_body = ServiceChange,
    params(("name" = String, Path, description = "The service's name"), ChangeQuery,
           ("If-Match" = Option<String>, Header, description = "The ETag that it was read with")),
    responses((status = 200, description = "What came of it", body = ChangeView), Problems))]
pub(in crate::control::api) async fn change(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
    Asked(query): Asked<ChangeQuery>,
    condition: IfMatch,
    Body(body): Body<ServiceChange>,
) -> Result<Response, Problem> {
    check(&body)?;
    let found = Known::find(&api, &permit.caller, &name).await?.into_record()?;
    let expect = condition.check(found.version)?;
    let (before, after) = (found.record.clone(), changed(found.record, &body));
    if before.stage == Stage::Deleting {
        return Err(Problem::conflict("The service is being deleted."));
    }
    check_plan(&api, &before, &after).await?;
    let unwanted = unwanted(&api, &after)?;
    let sessions_ended = unwanted.iter().map(|seat| connections::view(&api, seat)).collect();
    if !query.dry_run {
        let audit = Audit {
            actor: permit.caller.name.clone(),
            action: "service.change".to_owned(),
            detail: serde_json::to_value(&body).unwrap_or_default(),
        };
        let saved = api.with_catalog(move |catalog| {
            let change = catalog.change().put(&after, expect);
            let change = change.audit(&format!("services/{}", after.name), &audit);
            Ok(change.event(&after.name, "changed", what_changed(&before, &after)).commit()?)
        });
        saved.await?;
        api.publish_now(&name).await?;
        api.provisioner()?.work_on(&name);
    }
    let known = Known::find(&api, &permit.caller, &name).await?;
    let version = known.record.as_ref().map_or(0, |found| found.version);
    let service = known.view(&api);
    let view = ChangeView { dry_run: query.dry_run, sessions_ended, service };
    Ok(([etag(version)], Json(view)).into_response())
}

fn check(body: &ServiceChange) -> Result<(), Problem> {
    let mut findings = Findings::default();
    if let Some(text) = &body.display_name {
        findings.check_text("/display_name", text);
    }
    check_allowlist(&mut findings, body.allowlist.as_deref().unwrap_or_default());
    if let Some(pooling) = &body.pooling {
        check_pooling(&mut findings, &pooling.apply(&PoolSettings::default()));
    }
    findings.finish()
}

fn changed(mut record: ServiceRecord, body: &ServiceChange) -> ServiceRecord {
    let body = body.clone();
    record.display_name = body.display_name.unwrap_or(record.display_name);
    record.plan = body.plan.unwrap_or(record.plan);
    record.allowlist = body.allowlist.unwrap_or(record.allowlist);
    record.pooling = body.pooling.unwrap_or_default().apply(&record.pooling);
    record.powered = body.powered.unwrap_or(record.powered);
    record.termination_protection =
        body.termination_protection.unwrap_or(record.termination_protection);
    record
}

fn what_changed(before: &ServiceRecord, after: &ServiceRecord) -> String {
    let fields = [
        ("display name", before.display_name != after.display_name),
        ("plan", before.plan != after.plan),
        ("allowlist", before.allowlist != after.allowlist),
        ("pooling", before.pooling != after.pooling),
        ("power", before.powered != after.powered),
        ("termination protection", before.termination_protection != after.termination_protection),
    ];
    let changed = fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
    let changed: Vec<_> = changed.collect();
    if changed.is_empty() { "Nothing.".to_owned() } else { format!("{}.", changed.join(", ")) }
}

/// A plan that the nodes cannot keep is refused, and not half kept.
async fn check_plan(
    api: &Api,
    before: &ServiceRecord,
    after: &ServiceRecord,
) -> Result<(), Problem> {
    if before.plan == after.plan {
        return Ok(());
    }
    let plans = (api.plans)();
    let Some(plan) = plans.find(&after.plan) else {
        return Err(Problem::field("/plan", format!("there is no plan {:?}", after.plan)));
    };
    let nodes = after.nodes.len();
    if nodes != plan.nodes as usize {
        return Err(Problem::conflict(format!(
            "Plan \"{}\" has {} nodes, and the service is placed on {nodes}: create a service on \
             the new plan and move the data there.",
            plan.name, plan.nodes
        )));
    }
    check_connections(api, after, plan).await
}

/// A larger plan is published when every node has what it needs.
async fn check_connections(api: &Api, record: &ServiceRecord, plan: &Plan) -> Result<(), Problem> {
    let mut short = Vec::new();
    for node in &record.nodes {
        let found = api.look_at_placed(record, node).await;
        let found = found.map_err(|why| {
            Problem::unavailable(format!("{} cannot be looked at: {why}", node.address))
        })?;
        let needed = needed_connections(plan, found.reserved);
        if found.max_connections < needed {
            short.push(format!(
                "{}: max_connections is {}, plan \"{}\" needs {needed}",
                node.address, found.max_connections, plan.name
            ));
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    short.push("Set it and restart the nodes first".to_owned());
    Err(Problem::conflict(format!("{}.", short.join("; "))))
}

/// The sessions that the service would no longer have.
fn unwanted(api: &Api, record: &ServiceRecord) -> Result<Vec<Arc<Seat>>, Problem> {
    let allowed = declared::allowlist(&record.allowlist)
        .map_err(|error| Problem::field("/allowlist", error))?;
    let name = record.name.parse().map_err(|_| Problem::not_found("service", &record.name))?;
    let mut seats = api.roster.seats_of(&name);
    seats.retain(|seat| !record.powered || !allowed.permits(&seat.occupant.address));
    seats.sort_by_key(|seat| seat.id);
    Ok(seats)
}

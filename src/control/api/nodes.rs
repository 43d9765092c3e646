//! `/v1/nodes`: the operator's inventory.

pub(super) mod register;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::Api;
use super::authority::{Admin, Caller, Permit, Read};
use super::model::{NodeState, NodeView};
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::{IfMatch, Named, etag};
use crate::control::catalog::record::{Found, NodeRecord, PlacedNode, ServiceRecord, Usage};
use crate::control::catalog::store::Expect;
use crate::control::catalog::{Audit, Versioned, now};
use crate::control::provision::look;

/// The nodes of the inventory.
#[utoipa::path(get, path = "/nodes", tag = "nodes", params(PageQuery),
    responses((status = 200, description = "A page of nodes", body = Page<NodeView>), Problems))]
pub(super) async fn list(
    _: Permit<Read>,
    State(api): State<Api>,
    window: Window,
) -> Result<Json<Page<NodeView>>, Problem> {
    let nodes: Vec<NodeRecord> = api.records(&window).await?;
    Ok(window.page(nodes.into_iter().map(view), |node| node.id.clone()))
}

fn view(record: NodeRecord) -> NodeView {
    let (state, service) = match record.usage {
        _ if record.unreachable.is_some() => (NodeState::Unreachable, used_by(&record.usage)),
        Usage::Free => (NodeState::Free, None),
        Usage::Used(service) => (NodeState::Used, Some(service)),
        Usage::Dirty => (NodeState::Dirty, None),
    };
    NodeView {
        id: record.id,
        address: record.address,
        cloud: record.cloud,
        region: record.region,
        zone: record.zone,
        capacity: record.capacity,
        state,
        service,
        reason: record.unreachable,
        found: record.found,
        looked_at: record.looked_at,
    }
}

fn used_by(usage: &Usage) -> Option<String> {
    match usage {
        Usage::Used(service) => Some(service.clone()),
        Usage::Free | Usage::Dirty => None,
    }
}

/// A record with what a look at the node showed.
fn seen(mut record: NodeRecord, look: Result<Found, String>) -> NodeRecord {
    record.looked_at = Some(now());
    match look {
        Ok(found) => {
            record.unreachable = None;
            if record.usage == Usage::Free && !found.databases.is_empty() {
                record.usage = Usage::Dirty;
            }
            record.found = Some(found);
        }
        Err(why) => record.unreachable = Some(why),
    }
    record
}

/// A node.
#[utoipa::path(get, path = "/nodes/{id}", tag = "nodes",
    params(("id" = String, Path, description = "The node's id")),
    responses((status = 200, description = "The node", body = NodeView), Problems))]
pub(super) async fn show(
    _: Permit<Read>,
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let found = api.node(&id).await?;
    Ok(([etag(found.version)], Json(view(found.record))).into_response())
}

/// Looks at a node now.
#[utoipa::path(post, path = "/nodes/{id}/look", tag = "nodes",
    params(("id" = String, Path, description = "The node's id")),
    responses((status = 200, description = "What it is", body = NodeView), Problems))]
pub(super) async fn look(
    _: Permit<Admin>,
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let found = api.node(&id).await?;
    let found = api.look_again(found).await?;
    Ok(([etag(found.version)], Json(view(found.record))).into_response())
}

/// Declares a dirty node free, once nothing is left there.
#[utoipa::path(post, path = "/nodes/{id}/free", tag = "nodes",
    params(("id" = String, Path, description = "The node's id")),
    responses((status = 200, description = "It is free", body = NodeView), Problems))]
pub(super) async fn free(
    permit: Permit<Admin>,
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let found = api.node(&id).await?;
    if let Usage::Used(service) = &found.record.usage {
        return Err(Problem::conflict(format!("Service \"{service}\" uses the node.")));
    }
    let provisioner = api.provisioner()?;
    let look = provisioner.look(&found.record).await;
    let look = look.map_err(|why| Problem::conflict(format!("{id} cannot be looked at: {why}")))?;
    if !look.databases.is_empty() {
        return Err(Problem::conflict(format!(
            "The node still holds databases ({}): drop them first.",
            look.databases.join(", ")
        )));
    }
    let record = seen(NodeRecord { usage: Usage::Free, ..found.record }, Ok(look));
    let version = note(&api, &permit.caller, "node.free", record.clone(), found.version).await?;
    Ok(([etag(version)], Json(view(record))).into_response())
}

async fn note(
    api: &Api,
    caller: &Caller,
    action: &str,
    record: NodeRecord,
    version: u64,
) -> Result<u64, Problem> {
    let detail = serde_json::Value::Null;
    let audit = Audit { actor: caller.name.clone(), action: action.to_owned(), detail };
    let noted = api.with_catalog(move |catalog| {
        let change = catalog.change().put(&record, Expect::Version(version));
        Ok(change.audit(&format!("nodes/{}", record.id), &audit).commit()?)
    });
    noted.await
}

/// Takes a node that no service uses off the inventory. Nothing happens to it.
#[utoipa::path(delete, path = "/nodes/{id}", tag = "nodes",
    params(("id" = String, Path, description = "The node's id"),
           ("If-Match" = Option<String>, Header, description = "The ETag that it was read with")),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(
    permit: Permit<Admin>,
    State(api): State<Api>,
    Named(id): Named<String>,
    condition: IfMatch,
) -> Result<Response, Problem> {
    let found = api.node(&id).await?;
    let expect = condition.check(found.version)?;
    if let Usage::Used(service) = &found.record.usage {
        return Err(Problem::conflict(format!("Service \"{service}\" uses the node.")));
    }
    let detail = serde_json::Value::Null;
    let audit = Audit { actor: permit.caller.name, action: "node.delete".to_owned(), detail };
    let removed = api.with_catalog(move |catalog| {
        let record = found.record;
        let change = catalog.change().remove(&record, expect).unseal(&record.secret());
        Ok(change.audit(&format!("nodes/{}", record.id), &audit).commit()?)
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Api {
    async fn node(&self, id: &str) -> Result<Versioned<NodeRecord>, Problem> {
        let key = id.to_owned();
        let found = self.with_catalog(move |catalog| Ok(catalog.get::<NodeRecord>(&key)?)).await?;
        found.ok_or_else(|| Problem::not_found("node", id))
    }

    /// A node as it is now, written down.
    pub(super) async fn look_again(
        &self,
        found: Versioned<NodeRecord>,
    ) -> Result<Versioned<NodeRecord>, Problem> {
        let look = self.provisioner()?.look(&found.record).await;
        let record = seen(found.record, look);
        let written = record.clone();
        let version = self.with_catalog(move |catalog| {
            let change = catalog.change().put(&written, Expect::Version(found.version));
            Ok(change.commit()?)
        });
        Ok(Versioned { version: version.await?, record })
    }

    /// A service's node as it is now.
    pub(super) async fn look_at_placed(
        &self,
        service: &ServiceRecord,
        node: &PlacedNode,
    ) -> Result<Found, String> {
        let provisioner = self.provisioner().map_err(|problem| problem.detail)?;
        let address = node.address.parse().map_err(|error| format!("{error}"))?;
        let login = provisioner.login(service, &address).await?;
        look::look(provisioner.dialer(), &login).await
    }
}

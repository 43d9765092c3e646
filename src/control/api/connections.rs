//! `/v1/services/{name}/connections`: the live sessions of a service.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Permit, Read, Write};
use super::model::{ConnectionView, EndedView};
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::Named;
use crate::control::catalog::{Audit, Catalog};
use crate::directory::Seat;
use crate::directory::roster::Order;
use crate::domain::ServiceName;

/// The live sessions of a service.
#[utoipa::path(get, path = "/services/{name}/connections", tag = "connections",
    params(("name" = String, Path, description = "The service's name"), PageQuery),
    responses((status = 200, description = "A page of sessions", body = Page<ConnectionView>), Problems))]
pub(super) async fn list(
    _: Permit<Read>,
    State(api): State<Api>,
    Named(name): Named<String>,
    window: Window,
) -> Result<Json<Page<ConnectionView>>, Problem> {
    let (name, after) = (api.known(&name)?, window.number()?);
    let mut seats = api.roster.seats_of(&name);
    seats.retain(|seat| seat.id > after);
    seats.sort_by_key(|seat| seat.id);
    Ok(window.page(seats.iter().map(|seat| view(&api, seat)), |session| session.id))
}

/// Ends all sessions of a service.
#[utoipa::path(delete, path = "/services/{name}/connections", tag = "connections",
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "They were told to leave", body = EndedView), Problems))]
pub(super) async fn end_all(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named(name): Named<String>,
) -> Result<Json<EndedView>, Problem> {
    let name = api.known(&name)?;
    end_seats(&api, permit, &name, &api.roster.seats_of(&name)).await
}

/// Ends one session of a service.
#[utoipa::path(delete, path = "/services/{name}/connections/{id}", tag = "connections",
    params(("name" = String, Path, description = "The service's name"),
           ("id" = String, Path, description = "The session's number")),
    responses((status = 200, description = "It was told to leave", body = EndedView), Problems))]
pub(super) async fn end(
    permit: Permit<Write>,
    State(api): State<Api>,
    Named((name, id)): Named<(String, String)>,
) -> Result<Json<EndedView>, Problem> {
    let name = api.known(&name)?;
    let mut seats = api.roster.seats_of(&name);
    seats.retain(|seat| seat.id.to_string() == id);
    if seats.is_empty() {
        return Err(Problem::not_found("session", &id));
    }
    end_seats(&api, permit, &name, &seats).await
}

async fn end_seats(
    api: &Api,
    permit: Permit<Write>,
    name: &ServiceName,
    seats: &[Arc<Seat>],
) -> Result<Json<EndedView>, Problem> {
    for seat in seats {
        seat.tell(Order::Leave);
    }
    let ended = seats.len();
    let audit = Audit {
        actor: permit.caller.name,
        action: "connections.end".to_owned(),
        detail: serde_json::json!({ "ended": ended }),
    };
    if api.catalog.is_some() {
        let subject = format!("services/{name}");
        let note =
            move |catalog: &Catalog| Ok(catalog.change().audit(&subject, &audit).commit()?);
        api.with_catalog(note).await?;
    }
    Ok(Json(EndedView { ended }))
}

/// A session as its service's operator sees it.
pub(super) fn view(api: &Api, seat: &Seat) -> ConnectionView {
    let occupant = &seat.occupant;
    ConnectionView {
        id: seat.id,
        endpoint: occupant.endpoint.mode.label().to_owned(),
        role: occupant.role.clone(),
        database: occupant.database.clone(),
        application: occupant.application.clone(),
        address: occupant.address.to_string(),
        activity: seat.activity().label().to_owned(),
        activity_seconds: seat.activity_seconds(),
        age_seconds: api.clock.seconds().saturating_sub(seat.since),
    }
}

impl Api {
    /// The name of a service that the data path knows.
    pub(super) fn known(&self, name: &str) -> Result<ServiceName, Problem> {
        let parsed: Option<ServiceName> = name.parse().ok();
        let known = parsed.filter(|name| self.directory.service(name).is_some());
        known.ok_or_else(|| Problem::not_found("service", name))
    }
}

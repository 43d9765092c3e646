//! `/v1/refusals`: whom Postern turned away of late, and why.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Permit, Read};
use super::model::RefusalView;
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::Named;
use crate::directory::Refused;

/// The last refusals, newest first.
#[utoipa::path(get, path = "/refusals", tag = "connections", params(PageQuery),
    responses((status = 200, description = "A page of refusals", body = Page<RefusalView>), Problems))]
pub(super) async fn list(
    _: Permit<Read>,
    State(api): State<Api>,
    window: Window,
) -> Json<Page<RefusalView>> {
    let all = api.refusals.all();
    let seen = match window.after() {
        "" => 0,
        id => all.iter().position(|refused| refused.id == id).map_or(all.len(), |at| at + 1),
    };
    window.page(all.iter().skip(seen).map(|refused| view(refused)), |refused| refused.id.clone())
}

/// A refusal, by the id that its client was told.
#[utoipa::path(get, path = "/refusals/{id}", tag = "connections",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The refusal", body = RefusalView), Problems))]
pub(super) async fn show(
    _: Permit<Read>,
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Json<RefusalView>, Problem> {
    let found = api.refusals.find(&id).ok_or_else(|| Problem::not_found("refusal", &id))?;
    Ok(Json(view(&found)))
}

fn view(refused: &Refused) -> RefusalView {
    let told = refused.told.clone();
    RefusalView {
        id: refused.id.clone(),
        at: humantime::format_rfc3339_millis(refused.at).to_string(),
        reason: told.label.to_owned(),
        sqlstate: told.sqlstate.as_str().to_owned(),
        message: told.message,
        detail: told.detail,
        hint: told.hint,
        address: refused.address.to_string(),
        service: refused.service.as_ref().map(ToString::to_string),
        role: refused.role.clone(),
    }
}

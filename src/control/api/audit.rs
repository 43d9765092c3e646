//! `/v1/audit`: who changed what.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Admin, Permit};
use super::model::AuditView;
use super::problem::{Problem, Problems};
use super::request::{Asked, Page, PageQuery};
use crate::control::catalog::Audit;
use crate::control::catalog::store::{Line, Lines, Log};

/// The audit log, newest first. It cannot be changed.
#[utoipa::path(get, path = "/audit", tag = "audit", params(PageQuery),
    responses((status = 200, description = "A page of lines", body = Page<AuditView>), Problems))]
pub(super) async fn list(
    _: Permit<Admin>,
    State(api): State<Api>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<Page<AuditView>>, Problem> {
    let limit = query.limit()?;
    let lines = api.with_catalog(move |catalog| {
        let before = query.before()?;
        let lines = Lines { log: Log::Audit, subject: None, before, limit: limit + 1 };
        Ok(catalog.lines(lines)?)
    });
    let items = lines.await?.into_iter().map(view).collect();
    Ok(Json(Page::of(items, limit, |line: &AuditView| line.id.to_string())))
}

fn view(line: Line) -> AuditView {
    let Line { id, subject, at, text } = line;
    // What cannot be read is shown as it is.
    let audit = serde_json::from_str(&text).unwrap_or_else(|_| Audit {
        actor: String::new(),
        action: String::new(),
        detail: serde_json::Value::String(text),
    });
    AuditView { id, at, subject, actor: audit.actor, action: audit.action, detail: audit.detail }
}

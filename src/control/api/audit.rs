//! `/v1/audit`: who changed what.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::authority::{Admin, Permit};
use super::model::AuditView;
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use crate::control::catalog::Audit;
use crate::control::catalog::store::{Line, Log};

/// The audit log, newest first. It cannot be changed.
#[utoipa::path(get, path = "/audit", tag = "audit", params(PageQuery),
    responses((status = 200, description = "A page of lines", body = Page<AuditView>), Problems))]
pub(super) async fn list(
    _: Permit<Admin>,
    State(api): State<Api>,
    window: Window,
) -> Result<Json<Page<AuditView>>, Problem> {
    let lines = api.lines(&window, Log::Audit, None).await?;
    Ok(window.page(lines.into_iter().map(view), |line| line.id))
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

//! `/v1/tokens`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::authority::{Admin, Permit, make_token};
use super::model::{NewToken, TokenCreate, TokenView};
use super::page::{Page, PageQuery, Window};
use super::problem::{Problem, Problems};
use super::request::{Body, Findings, Named};
use super::{Api, segment};
use crate::control::catalog::Audit;
use crate::control::catalog::record::TokenRecord;
use crate::control::catalog::store::Expect;

/// The tokens, without their secrets.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(PageQuery),
    responses((status = 200, description = "A page of tokens", body = Page<TokenView>), Problems))]
pub(super) async fn list(
    _: Permit<Admin>,
    State(api): State<Api>,
    window: Window,
) -> Result<Json<Page<TokenView>>, Problem> {
    let tokens: Vec<TokenRecord> = api.records(&window).await?;
    Ok(window.page(tokens.into_iter().map(view), |token| token.id.clone()))
}

fn view(record: TokenRecord) -> TokenView {
    let TokenRecord { id, description, scope, created_at, hash: _ } = record;
    TokenView { id, description, scope, created_at }
}

/// Makes a token. It is shown once and never again.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = TokenCreate,
    responses((status = 201, description = "The token", body = NewToken), Problems))]
pub(super) async fn create(
    permit: Permit<Admin>,
    State(api): State<Api>,
    Body(body): Body<TokenCreate>,
) -> Result<Response, Problem> {
    let mut findings = Findings::default();
    findings.check_text("/description", &body.description);
    findings.finish()?;
    let (token, record) = make_token(body.description, body.scope);
    let made =
        NewToken { token: token.expose().clone(), id: record.id.clone(), scope: record.scope };
    let audit = Audit {
        actor: permit.caller.name,
        action: "token.create".to_owned(),
        detail: serde_json::json!({ "description": record.description, "scope": record.scope }),
    };
    let version = api.with_catalog(move |catalog| {
        let change = catalog.change().put(&record, Expect::Absent);
        Ok(change.audit(&format!("tokens/{}", record.id), &audit).commit()?)
    });
    let version = version.await?;
    Ok(super::created(&format!("/v1/tokens/{}", segment(&made.id)), version, made))
}

/// Takes a token away: from now on it opens nothing.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(
    permit: Permit<Admin>,
    State(api): State<Api>,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let audit = Audit {
        actor: permit.caller.name,
        action: "token.delete".to_owned(),
        detail: serde_json::Value::Null,
    };
    let removed = api.with_catalog(move |catalog| {
        let found = catalog.get::<TokenRecord>(&id)?;
        let found = found.ok_or_else(|| Problem::not_found("token", &id))?;
        let change = catalog.change().remove(&found.record, Expect::Version(found.version));
        Ok(change.audit(&format!("tokens/{id}"), &audit).commit()?)
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

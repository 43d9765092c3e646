//! The API's document: `OpenAPI` 3.1 at `/openapi.json`, and a page to read it
//! on at `/docs`. Both are the same for everybody and tell nothing about this
//! Postern, so that they need no token.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use tokio::sync::OnceCell;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// Reads `/openapi.json`; loads nothing from anywhere else.
const PAGE: &str = include_str!("reference.html");

/// Puts the bearer token into the document.
pub(super) struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Makes the text when somebody first asks for it: hardly anybody does, and the
/// start need not wait for it.
pub(super) fn router(make: fn() -> OpenApi) -> Router {
    let text: Arc<OnceCell<String>> = Arc::default();
    let json = move || async move {
        let text = text.get_or_init(|| async { make().to_json().unwrap_or_default() }).await;
        let text = text.clone();
        ([(header::CONTENT_TYPE, "application/json")], text)
    };
    Router::new().route("/openapi.json", get(json)).route("/docs", get(|| async { Html(PAGE) }))
}

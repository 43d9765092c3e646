//! `[metrics] listen`: `/metrics`, `/livez`, `/readyz`, and nothing that
//! writes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use super::http::{self, Bounds};
use super::page::Exposition;
use super::readiness::Readiness;

/// Scrapers and probes are few; the page is large.
const BOUNDS: Bounds = Bounds { connections: 64, lifetime: Duration::from_secs(30) };

/// Serves metrics and health until it is dropped. It goes on through the
/// drain, which it reports, and belongs on the control runtime.
pub async fn serve(
    listener: TcpListener,
    exposition: Arc<Exposition>,
    readiness: Readiness,
) -> Infallible {
    let router = Router::new()
        .route("/metrics", get(metrics).with_state(exposition))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/livez", get(|| async { "alive\n" }));
    http::serve(listener, move |_| router.clone(), BOUNDS).await
}

async fn metrics(State(exposition): State<Arc<Exposition>>) -> Response {
    let page = spawn_blocking(move || exposition.text()).await;
    match page {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "the metrics page could not be built");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.check() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

//! `[metrics] listen`: `/metrics`, `/livez`, `/readyz`, and nothing that
//! writes.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

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
        .route("/metrics", get(metrics).with_state(Builder::new(exposition)))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/livez", get(|| async { "alive\n" }));
    http::serve(listener, move |_| router.clone(), BOUNDS).await
}

async fn metrics(State(builder): State<Builder>) -> Response {
    match builder.page().await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Some(Err(error)) => failed(&error),
        None => failed(&"whoever was building it has stopped"),
    }
}

/// Builds pages, one after the other, on a thread of its own that ends with
/// this: where there are thousands of services a page is made of many small
/// allocations, and the allocator keeps their memory for each thread that has
/// built one.
#[derive(Clone)]
struct Builder(mpsc::Sender<oneshot::Sender<Page>>);

type Page = Result<String, prometheus::Error>;

impl Builder {
    fn new(exposition: Arc<Exposition>) -> Self {
        let (orders, mut ordered) = mpsc::channel::<oneshot::Sender<Page>>(BOUNDS.connections);
        let build = move || {
            while let Some(order) = ordered.blocking_recv() {
                // A page that cannot be built is an error for who asked for it,
                // and nobody else.
                let page = catch_unwind(AssertUnwindSafe(|| exposition.text()));
                let _ = page.map(|page| order.send(page));
            }
        };
        let thread = std::thread::Builder::new().name("metrics".to_owned());
        if let Err(error) = thread.spawn(build) {
            tracing::error!(%error, "no thread for the metrics page");
        }
        Self(orders)
    }

    /// A page, if somebody builds it.
    async fn page(&self) -> Option<Page> {
        let (order, page) = oneshot::channel();
        self.0.send(order).await.ok()?;
        page.await.ok()
    }
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the metrics page could not be built");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.check() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

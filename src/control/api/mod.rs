//! The admin API, `/v1`: what a platform asks and orders while Postern runs.
//!
//! ```text
//! TCP, TLS ─▶ token ──┐
//!                     ├▶ caller ─▶ handler: permit, body ─▶ Catalog ─▶ publish ─▶ answer
//! admin socket ─ uid ─┘                                        └─▶ Provisioner
//! ```
//!
//! What must stay true: nobody without a token learns anything, not even
//! which paths there are; a change is on disk and acts on live traffic before
//! it is answered; every error is a problem of RFC 9457; nothing here runs on
//! the data path's runtime, and nothing that blocks on a thread that polls.
//! The document at `/openapi.json` is made from the handlers.

mod audit;
pub mod authority;
pub mod client;
mod clouds;
mod connections;
mod databases;
pub mod entrance;
pub mod model;
mod nodes;
mod once;
mod overview;
mod page;
mod plans;
pub mod problem;
mod reference;
mod refusals;
mod request;
mod roles;
pub mod server;
mod services;
mod tokens;
pub mod turns;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tokio::task::spawn_blocking;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::catalog::Catalog;
use super::drill::Drills;
use super::management::Management;
use super::pausing::Pauses;
use super::provision::{CurrentPlans, Provisioner, Publish};
use crate::directory::{CoarseClock, Directory, Refusals, Roster};
use crate::pool::Slots;
use entrance::Entrance;
pub use page::Page;
use problem::{FieldError, Problem};
use reference::BearerToken;
use turns::Turns;

/// The largest body that is read, in bytes: an allowlist of a thousand
/// entries has some fifty thousand.
const MAX_BODY: usize = 256 * 1024;

/// What the API shows and what it works with.
pub struct Platform {
    /// Where everything is kept; none: there are the file's services alone.
    pub catalog: Option<Catalog>,
    /// Makes services.
    pub provisioner: Option<Provisioner>,
    /// Brings a service to the data path.
    pub publish: Publish,
    /// The plans, now.
    pub plans: CurrentPlans,
    /// Who is paused.
    pub pauses: Pauses,
    /// The services as the data path sees them.
    pub directory: Arc<Directory>,
    /// The sessions.
    pub roster: Roster,
    /// Who was turned away of late.
    pub refusals: Refusals,
    /// The slots.
    pub slots: Slots,
    /// Seconds since the start.
    pub clock: CoarseClock,
    /// Looks after the services: told of each password that is changed.
    pub management: Arc<Management>,
    /// Whose password is being changed.
    pub turns: Turns,
    /// How clients come in.
    pub entrance: Entrance,
    /// Switches services over, and rehearses it.
    pub drills: Arc<Drills>,
}

/// The state of the handlers.
#[derive(Clone)]
pub struct Api(Arc<Platform>);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl std::ops::Deref for Api {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.0
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postern's admin API",
        description = "Services, their nodes and roles, and who may change them. Changes act on \
                       live traffic before they are answered."
    ),
    components(schemas(FieldError)),
    modifiers(&BearerToken),
    security(("token" = [])),
)]
struct Document;

impl Api {
    /// The API over this platform.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self(Arc::new(platform))
    }

    /// For callers who show a token.
    pub fn by_token(&self) -> Router {
        let (guarded, open) = self.routers();
        let guarded = guarded.layer(from_fn_with_state(self.clone(), authority::by_token));
        open.fallback_service(guarded)
    }

    /// For whoever may open the admin socket.
    pub fn by_socket(&self) -> Router {
        let (guarded, open) = self.routers();
        open.fallback_service(guarded.layer(from_fn(authority::by_socket)))
    }

    /// What needs a caller, and what does not.
    fn routers(&self) -> (Router, Router) {
        let guarded = Router::from(routes())
            .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "There is nothing here.") })
            .method_not_allowed_fallback(|| async {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "It does not take this method.")
            })
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        (guarded, reference::router(|| routes().into_openapi()))
    }

    /// Asks the catalogue, on a thread that may block.
    async fn with_catalog<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Catalog) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(catalog) = self.catalog.clone() else {
            return Err(Problem::conflict(
                "This Postern has no catalogue: name a file in [catalog] path and restart it.",
            ));
        };
        let asked = spawn_blocking(move || ask(&catalog)).await;
        asked.map_err(|error| Problem::ours(&error))?
    }

    /// Who makes services.
    fn provisioner(&self) -> Result<&Provisioner, Problem> {
        self.provisioner.as_ref().ok_or_else(|| Problem::conflict("This Postern has no catalogue."))
    }
}

fn routes() -> OpenApiRouter<Api> {
    let v1 = OpenApiRouter::new()
        .routes(routes!(plans::list))
        .routes(routes!(clouds::list))
        .routes(routes!(nodes::list, nodes::register::create))
        .routes(routes!(nodes::show, nodes::remove))
        .routes(routes!(nodes::look))
        .routes(routes!(nodes::free))
        .routes(routes!(services::list, services::create::create))
        .routes(routes!(services::show, services::change::change, services::remove))
        .routes(routes!(services::pause))
        .routes(routes!(services::resume))
        .routes(routes!(services::planned::switchover))
        .routes(routes!(services::planned::drill))
        .routes(routes!(services::events))
        .routes(routes!(connections::list, connections::end_all))
        .routes(routes!(connections::end))
        .routes(routes!(refusals::list))
        .routes(routes!(refusals::show))
        .routes(routes!(roles::list, roles::create))
        .routes(routes!(roles::remove))
        .routes(routes!(roles::rotate::rotate))
        .routes(routes!(databases::list, databases::create))
        .routes(routes!(databases::remove))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::remove))
        .routes(routes!(audit::list));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/v1", v1)
}

/// A task of its own: whoever ordered it may go away, and it must not stop
/// half-way with him.
async fn to_its_end<T: Send + 'static>(
    order: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(order).await.unwrap_or_else(|error| Err(Problem::ours(&error)))
}

/// 201, where it is now, and what it says.
fn created<T: serde::Serialize>(path: &str, version: u64, view: T) -> Response {
    let location = axum::http::HeaderValue::from_str(path);
    let location = location.unwrap_or_else(|_| axum::http::HeaderValue::from_static("/v1"));
    let headers = [(axum::http::header::LOCATION, location), request::etag(version)];
    (StatusCode::CREATED, headers, axum::Json(view)).into_response()
}

/// A path's segment, with everything escaped that is not plain.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

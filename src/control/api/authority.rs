//! Who calls, and what he may do.
//!
//! Over the admin socket the peer's user has been looked at, and may do
//! everything. Over TCP a bearer token says who calls: `pst_<id>_<secret>`,
//! of which the catalogue keeps a hash. A handler demands a [`Permit`] of the
//! scope it needs, and gets none without a caller.

use std::fmt::Write as _;
use std::marker::PhantomData;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::Api;
use super::problem::Problem;
use crate::control::catalog::record::{Scope, TokenRecord};
use crate::control::catalog::{BY_SOCKET, Catalog, CatalogError, now};
use crate::domain::Secret;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// As the audit log names him.
    pub name: String,
    /// What he may do.
    pub scope: Scope,
}

impl Caller {
    /// Whoever may open the admin socket.
    #[must_use]
    pub fn socket() -> Self {
        Self { name: BY_SOCKET.to_owned(), scope: Scope::Admin }
    }
}

/// A scope that a handler needs.
pub trait Needed {
    /// Which.
    const SCOPE: Scope;
}

/// To look.
#[derive(Debug)]
pub struct Read;
/// To change services.
#[derive(Debug)]
pub struct Write;
/// To change what all services depend on.
#[derive(Debug)]
pub struct Admin;

impl Needed for Read {
    const SCOPE: Scope = Scope::Read;
}
impl Needed for Write {
    const SCOPE: Scope = Scope::Write;
}
impl Needed for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// The caller may do what needs this scope.
#[derive(Debug)]
pub struct Permit<S> {
    /// Who.
    pub caller: Caller,
    scope: PhantomData<S>,
}

impl<S: Needed> FromRequestParts<Api> for Permit<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(nobody)?;
        if caller.scope < S::SCOPE {
            let detail = format!(
                "This needs a token of scope {}; yours has {}.",
                word(S::SCOPE),
                word(caller.scope)
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Self { caller, scope: PhantomData })
    }
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    }
}

/// Lets through who shows a token, and tells everybody else the same.
pub(super) async fn by_token(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(token) = bearer(request.headers()) else {
        return nobody().into_response();
    };
    let found = api.with_catalog(move |catalog| Ok(whose(catalog, &token)?)).await;
    match found {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => nobody().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Whoever comes by the socket may do everything.
pub(super) async fn by_socket(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::socket());
    next.run(request).await
}

fn nobody() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "Show a valid token: Authorization: Bearer pst_….")
}

fn bearer(headers: &HeaderMap) -> Option<Secret<String>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.to_owned()))
}

fn whose(catalog: &Catalog, token: &Secret<String>) -> Result<Option<Caller>, CatalogError> {
    let Some(id) = id(token.expose()) else {
        return Ok(None);
    };
    let found = catalog.get::<TokenRecord>(id)?.map(|found| found.record);
    let matches = |record: &TokenRecord| {
        verify_slices_are_equal(record.hash.as_bytes(), hash(token.expose()).as_bytes()).is_ok()
    };
    let found = found.filter(matches);
    Ok(found.map(|record| Caller { name: record.id, scope: record.scope }))
}

/// The public half.
fn id(token: &str) -> Option<&str> {
    let (id, _) = token.strip_prefix("pst_")?.split_once('_')?;
    Some(id)
}

fn hash(token: &str) -> String {
    hex(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

/// A new token, and what is kept of it.
pub(super) fn make_token(description: String, scope: Scope) -> (Secret<String>, TokenRecord) {
    let id = hex(&random::<4>());
    let secret = BASE64_URL_SAFE_NO_PAD.encode(random::<32>());
    let token = format!("pst_{id}_{secret}");
    let hash = hash(&token);
    (Secret::new(token), TokenRecord { id, description, scope, hash, created_at: now() })
}

/// A password of 24 characters that need quoting nowhere.
pub(super) fn random_password() -> Secret<String> {
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(random::<18>()))
}

/// Bytes as people compare them.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_by_its_public_half_and_kept_by_its_hash() {
        let (token, record) = make_token("for tests".to_owned(), Scope::Read);
        assert_eq!(id(token.expose()), Some(record.id.as_str()));
        assert_eq!(hash(token.expose()), record.hash);
        let kept = serde_json::to_string(&record).unwrap();
        assert!(!kept.contains(&token.expose()[13..]), "{kept}");
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
        for text in ["", "pst_", "pst_abc", "abc_d_e"] {
            assert_eq!(id(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_bearer_token_is_read_from_its_header_alone() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(|token| token.expose().clone())
        };
        assert_eq!(with("Bearer pst_a_b").as_deref(), Some("pst_a_b"));
        assert_eq!(with("bearer  pst_a_b").as_deref(), Some("pst_a_b"));
        assert_eq!(with("Basic pst_a_b"), None);
        assert_eq!(with("pst_a_b"), None);
    }
}

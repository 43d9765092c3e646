//! The parts of a request that many operations share, each refused with a
//! problem.

use std::fmt::Display;

use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Api;
use super::problem::{FieldError, Problem};
use crate::control::catalog::store::{Expect, Revision};

/// The longest idempotency key, in characters.
const LONGEST_KEY: usize = 200;

/// A JSON body: an object, where serde would take a list of its values too.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let Json(fields) = Json::from_request(request, api).await?;
        Ok(Self(read(fields)?))
    }
}

fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    T::deserialize(Value::Object(fields)).map_err(|error| {
        let detail = format!("Failed to deserialize the JSON body: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

/// A JSON body that may be left out, or `null`.
#[derive(Debug)]
pub(super) struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let is_typed = request.headers().contains_key(header::CONTENT_TYPE);
        if !is_typed && request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let Json(fields) = Json::<Option<Map<_, _>>>::from_request(request, api).await?;
        fields.map_or_else(|| Ok(T::default()), read).map(Self)
    }
}

/// The names in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(Path::<T>::from_request_parts(parts, api).await?.0))
    }
}

/// The query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(Query::<T>::from_request_parts(parts, api).await?.0))
    }
}

/// `If-Match`.
#[derive(Debug, Clone, Copy)]
pub(super) struct IfMatch(Option<Revision>);

impl IfMatch {
    /// What the entry must be, where it is now of this version.
    pub(super) fn check(self, now: Revision) -> Result<Expect, Problem> {
        match self.0 {
            Some(expected) if expected != now => Err(Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "It was changed since it was read: read it again.",
            )),
            _ => Ok(Expect::Version(now)),
        }
    }
}

impl FromRequestParts<Api> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        if value.as_bytes() == b"*" {
            return Ok(Self(None));
        }
        // An ETag that is none of ours matches nothing.
        let version = value
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
        Ok(Self(Some(version.unwrap_or(Revision::MAX))))
    }
}

/// The `ETag` of a version.
pub(super) fn etag(version: Revision) -> (header::HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&format!("\"{version}\""));
    (header::ETAG, value.expect("digits and quotes are visible ASCII"))
}

/// `Idempotency-Key`, where the caller gave one.
#[derive(Debug, Clone)]
pub(super) struct IdempotencyKey(pub Option<String>);

impl FromRequestParts<Api> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        idempotency_key(&parts.headers).map(Self)
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let wrong = || {
        let detail = format!("Idempotency-Key has 1 to {LONGEST_KEY} visible characters.");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// Collects what is wrong with a body's fields.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<FieldError>);

impl Findings {
    /// The field at this pointer is wrong.
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.to_string() });
    }

    /// A text for people has 1 to 100 characters, none of which a terminal
    /// would obey.
    pub(super) fn check_text(&mut self, pointer: &str, text: &str) {
        let fits = (1..=100).contains(&text.chars().count());
        if !fits || text.contains(char::is_control) {
            self.add(pointer, "expected 1 to 100 characters without control characters");
        }
    }

    /// A name of PostgreSQL: what fits into `name`, and is nobody's own.
    pub(super) fn check_identifier(&mut self, pointer: &str, text: &str) {
        let fits = (1..=63).contains(&text.len());
        let reserved = text.starts_with("pg_") || text == "postern";
        if !fits || reserved || text.contains(char::is_control) {
            self.add(
                pointer,
                "expected 1 to 63 bytes without control characters, not beginning with \"pg_\" \
                 and not \"postern\"",
            );
        }
    }

    /// Nothing was wrong.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::fields(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_postgresql_are_bounded() {
        let found = |text: &str| {
            let mut findings = Findings::default();
            findings.check_identifier("/name", text);
            findings.finish().is_err()
        };
        for text in ["app", "App Role", "ä", "a\"b"] {
            assert!(!found(text), "{text:?}");
        }
        for text in ["", "pg_x", "postern", "a\nb", "a\0b", &"x".repeat(64)] {
            assert!(found(text), "{text:?}");
        }
    }
}

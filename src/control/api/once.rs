//! Creates that can be repeated: a request with an `Idempotency-Key` that was
//! carried out before is answered with what it created, and creates nothing.

use aws_lc_rs::digest;
use axum::http::StatusCode;
use serde::Serialize;

use super::authority::{Caller, hex};
use super::problem::Problem;
use super::request::IdempotencyKey;
use crate::control::catalog::record::IdempotencyRecord;
use crate::control::catalog::store::Expect;
use crate::control::catalog::{Catalog, Change, now};

/// One create, which may be a repetition.
#[derive(Debug, Clone)]
pub(super) struct Once(Option<IdempotencyRecord>);

impl Once {
    /// This body, sent by this caller to this collection.
    pub(super) fn new(
        key: IdempotencyKey,
        caller: &Caller,
        collection: &str,
        body: &impl Serialize,
    ) -> Self {
        Self(key.0.map(|key| {
            let body = serde_json::to_vec(body).unwrap_or_default();
            let digest = digest::digest(&digest::SHA256, &body);
            IdempotencyRecord {
                key: format!("{}/{collection}/{key}", caller.name),
                fingerprint: hex(digest.as_ref()),
                created: String::new(),
                at: now(),
            }
        }))
    }

    /// What was created before under this key.
    ///
    /// # Errors
    /// If the key was used for another body.
    pub(super) fn earlier(&self, catalog: &Catalog) -> Result<Option<String>, Problem> {
        let Some(record) = &self.0 else {
            return Ok(None);
        };
        match catalog.get::<IdempotencyRecord>(&record.key)? {
            None => Ok(None),
            Some(found) if found.record.fingerprint == record.fingerprint => {
                Ok(Some(found.record.created))
            }
            Some(_) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key was used for another request.",
            )),
        }
    }

    /// Notes what is created, in the commit that creates it.
    pub(super) fn note<'c>(&self, change: Change<'c>, created: &str) -> Change<'c> {
        match &self.0 {
            None => change,
            Some(record) => {
                let record = IdempotencyRecord { created: created.to_owned(), ..record.clone() };
                change.put(&record, Expect::Absent)
            }
        }
    }

    /// Nothing was created after all: a repetition is carried out.
    pub(super) fn forget<'c>(&self, change: Change<'c>) -> Change<'c> {
        match &self.0 {
            None => change,
            Some(record) => change.remove(record, Expect::Any),
        }
    }
}

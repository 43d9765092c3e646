//! Lists, page by page.
//!
//! A page begins behind the item that the page before gave as `next`. One item
//! more than fits is looked for, to know whether there is a next page.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::problem::Problem;
use super::request::Asked;
use crate::control::catalog::Record;
use crate::control::catalog::store::{Line, Lines, Log, Range};

/// Which page of a list, as it is asked for.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Items on the page.
    #[serde(default = "usual_limit")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: usize,
    /// What the page before gave as `next`.
    #[serde(default)]
    after: String,
}

fn usual_limit() -> usize {
    100
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// `after` for the next page; none: this is the last.
    pub next: Option<String>,
}

/// Which page of a list, within limits.
#[derive(Debug, Clone)]
pub(super) struct Window {
    after: String,
    limit: usize,
}

impl FromRequestParts<Api> for Window {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Asked(query) = Asked::<PageQuery>::from_request_parts(parts, api).await?;
        if !(1..=1_000).contains(&query.limit) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "limit is from 1 to 1000."));
        }
        Ok(Self { after: query.after, limit: query.limit })
    }
}

impl Window {
    /// Items to look for.
    pub(super) fn most(&self) -> usize {
        self.limit + 1
    }

    /// The last item of the page before, or nothing.
    pub(super) fn after(&self) -> &str {
        &self.after
    }

    /// The same of a list of numbers, or 0.
    pub(super) fn number(&self) -> Result<u64, Problem> {
        match self.after() {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                Problem::new(StatusCode::BAD_REQUEST, "after is what the page before gave as next.")
            }),
        }
    }

    /// The page, of items in their order that stand behind [`Self::after`].
    pub(super) fn page<T, C: ToString>(
        &self,
        items: impl IntoIterator<Item = T>,
        cursor: impl Fn(&T) -> C,
    ) -> Json<Page<T>> {
        let mut items: Vec<T> = items.into_iter().take(self.most()).collect();
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| more).map(|last| cursor(last).to_string());
        Json(Page { items, next })
    }
}

impl Api {
    /// The records of a page.
    pub(super) async fn records<R: Record + Send + 'static>(
        &self,
        window: &Window,
    ) -> Result<Vec<R>, Problem> {
        let (after, limit) = (window.after.clone(), window.most());
        let records = self.with_catalog(move |catalog| {
            Ok(catalog.list::<R>(Range { prefix: "", after: &after, limit })?)
        });
        Ok(records.await?.into_iter().map(|found| found.record).collect())
    }

    /// The lines of a page of a log, about this or about everything, newest
    /// first.
    pub(super) async fn lines(
        &self,
        window: &Window,
        log: Log,
        subject: Option<String>,
    ) -> Result<Vec<Line>, Problem> {
        let (number, limit) = (window.number()?, window.most());
        let before = (number > 0).then_some(number);
        let lines = self.with_catalog(move |catalog| {
            let subject = subject.as_deref();
            Ok(catalog.lines(Lines { log, subject, before, limit })?)
        });
        lines.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_next_one_while_there_is_more() {
        let page = |limit| {
            let window = Window { after: String::new(), limit };
            let Json(page) = window.page(["a".to_owned(), "b".to_owned()], Clone::clone);
            page
        };
        assert_eq!(page(1).next.as_deref(), Some("a"));
        assert_eq!((page(2).items.len(), page(2).next), (2, None));
    }
}

//! The leader key in etcd 3, as Patroni keeps it, read and watched over etcd's
//! JSON gateway.
//!
//! ```text
//! range: leader and members ─▶ watch from the next revision ─▶ claims
//!    ▲                             │ silence: every second another range,
//!    └──── the next endpoint ◀─────┘ which a member without a quorum fails
//! ```

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{interval, sleep};

use super::client::{Client, Lines, PAUSE, Question, StoreError};
use super::{Claim, Claims, Member, tell};
use crate::control::config::{Etcd, Url};

/// How often an endpoint that is watched is asked whether it still belongs to
/// the cluster: one cut off from the others would be silent for ever.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Watches one endpoint after the other.
pub(super) async fn follow(client: &Client, etcd: &Etcd, claims: &Claims) {
    let mut failures = 0_usize;
    for endpoint in etcd.endpoints.iter().cycle() {
        let mut view = View::new(etcd);
        let error = match watch(client, etcd, endpoint, &mut view, claims).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if view.is_known {
            failures = 0;
            tracing::warn!(%endpoint, %error, "the watch of the leader key broke");
        }
        failures += 1;
        if failures == etcd.endpoints.len() {
            tracing::warn!(%endpoint, %error, "no etcd can be asked who leads");
        }
        if failures >= etcd.endpoints.len() {
            tell(claims, Claim::Silence);
            sleep(PAUSE).await;
        }
    }
}

async fn watch(
    client: &Client,
    etcd: &Etcd,
    endpoint: &Url,
    view: &mut View,
    claims: &Claims,
) -> Result<std::convert::Infallible, StoreError> {
    let token = log_in(client, etcd, endpoint).await?;
    let token = token.as_deref();
    let mut watched: Option<Lines> = None;
    let mut alive = interval(ALIVE_EVERY);
    loop {
        tokio::select! {
            line = next(&mut watched) => view.take_line(&line?)?,
            _ = alive.tick() => {
                let body = json!({ "key": view.first_key(), "range_end": view.last_key() });
                let question = Question { path: "/v3/kv/range", body: Some(body), token };
                view.take_range(&client.ask(endpoint, question).await?)?;
                if watched.is_none() {
                    watched = Some(client.lines(endpoint, view.watch(token)).await?);
                }
            }
        }
        tell(claims, view.claim());
    }
}

async fn next(watched: &mut Option<Lines>) -> Result<bytes::Bytes, StoreError> {
    match watched {
        None => std::future::pending().await,
        Some(lines) => {
            let over = || StoreError::Answer("the watch is over".to_owned());
            lines.next().await?.ok_or_else(over)
        }
    }
}

async fn log_in(
    client: &Client,
    etcd: &Etcd,
    endpoint: &Url,
) -> Result<Option<String>, StoreError> {
    let Some(login) = &etcd.login else { return Ok(None) };
    let body = json!({ "name": login.user, "password": login.password.expose() });
    let question = Question { path: "/v3/auth/authenticate", body: Some(body), token: None };
    let answer: Token = parse(&client.ask(endpoint, question).await?)?;
    Ok(Some(answer.token).filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic())))
}

/// What is known of the cluster's keys.
#[derive(Debug)]
struct View {
    /// `/namespace/scope/`.
    prefix: String,
    leader: Option<String>,
    members: HashMap<String, Option<(String, u16)>>,
    /// Of the last range.
    revision: i64,
    is_known: bool,
}

impl View {
    fn new(etcd: &Etcd) -> Self {
        Self {
            prefix: format!("{}/{}/", etcd.namespace, etcd.scope),
            leader: None,
            members: HashMap::new(),
            revision: 0,
            is_known: false,
        }
    }

    fn first_key(&self) -> String {
        BASE64_STANDARD.encode(&self.prefix)
    }

    /// The first key behind all that begin with the prefix: `0` follows `/`.
    fn last_key(&self) -> String {
        let end = self.prefix.trim_end_matches('/');
        BASE64_STANDARD.encode(format!("{end}0"))
    }

    fn watch<'a>(&self, token: Option<&'a str>) -> Question<'a> {
        let body = json!({ "create_request": {
            "key": self.first_key(),
            "range_end": self.last_key(),
            "start_revision": (self.revision + 1).to_string(),
        }});
        Question { path: "/v3/watch", body: Some(body), token }
    }

    /// Everything anew.
    fn take_range(&mut self, answer: &[u8]) -> Result<(), StoreError> {
        let range: Range = parse(answer)?;
        self.revision = range.header.revision.parse().unwrap_or_default();
        self.is_known = true;
        self.leader = None;
        self.members.clear();
        range.kvs.iter().try_for_each(|pair| self.put(pair))
    }

    /// What the watch tells.
    fn take_line(&mut self, line: &[u8]) -> Result<(), StoreError> {
        let watched: Watched = parse(line)?;
        let Some(result) = watched.result.filter(|result| !result.canceled) else {
            return Err(StoreError::Answer("the watch was cancelled".to_owned()));
        };
        // What a range has shown already may be told late.
        let is_new = |event: &&Event| {
            event.kv.mod_revision.parse().is_ok_and(|revision: i64| revision > self.revision)
        };
        let events: Vec<_> = result.events.iter().filter(is_new).collect();
        events.into_iter().try_for_each(|event| match event.kind.as_str() {
            "DELETE" => self.delete(&event.kv),
            _ => self.put(&event.kv),
        })
    }

    fn put(&mut self, pair: &Pair) -> Result<(), StoreError> {
        let (key, value) = (decoded(&pair.key)?, decoded(&pair.value)?);
        match key.strip_prefix(&self.prefix) {
            Some("leader") => self.leader = Some(value),
            Some(key) => {
                if let Some(name) = key.strip_prefix("members/") {
                    self.members.insert(name.to_owned(), address(&value));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn delete(&mut self, pair: &Pair) -> Result<(), StoreError> {
        let key = decoded(&pair.key)?;
        match key.strip_prefix(&self.prefix) {
            Some("leader") => self.leader = None,
            Some(key) => {
                let name = key.strip_prefix("members/");
                name.map(|name| self.members.remove(name));
            }
            None => {}
        }
        Ok(())
    }

    fn claim(&self) -> Claim {
        match &self.leader {
            None => Claim::Nobody,
            Some(name) => {
                let address = self.members.get(name).cloned().flatten();
                Claim::Leader(Member { name: name.clone(), address })
            }
        }
    }
}

/// Where a member's PostgreSQL is: its `conn_url` is
/// `postgres://host:port/postgres`.
fn address(member: &str) -> Option<(String, u16)> {
    let member: MemberValue = serde_json::from_str(member).ok()?;
    let uri: hyper::Uri = member.conn_url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), uri.port_u16().unwrap_or(5432)))
}

fn decoded(text: &str) -> Result<String, StoreError> {
    let wrong = |error: String| StoreError::Answer(error);
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(answer).map_err(|error| StoreError::Answer(error.to_string()))
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

#[derive(Debug, Deserialize)]
struct MemberValue {
    conn_url: String,
}

/// etcd's gateway writes 64-bit numbers as text, and leaves out what is zero.
#[derive(Debug, Default, Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Debug, Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    mod_revision: String,
}

#[derive(Debug, Deserialize)]
struct Watched {
    result: Option<Batch>,
}

#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    kv: Pair,
}

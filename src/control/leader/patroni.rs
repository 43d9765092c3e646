//! Patroni's REST API: `GET /cluster` of any member says who leads, as that
//! member reads it from its store.
//!
//! All members are asked at once, so that those that are down or hang cost
//! little time. A member that was cut off or frozen for a while may tell of the
//! past: of several answers that with the newest timeline counts, then what
//! most of them say (trap E-4).

use std::pin::pin;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::client::{Client, Question, StoreError};
use super::{ANSWER_WITHIN, Claim, Claims, Member, Pace, tell};
use crate::control::config::{Login, Store, Url};

/// How long the others get once a member has answered.
const OTHERS_WITHIN: Duration = Duration::from_millis(200);

/// Asks again and again.
pub(super) async fn follow<F: Fn() -> Duration>(
    client: &Client,
    members: &[Url],
    pace: Pace<F>,
    claims: &Claims,
) {
    let mut failed = false;
    loop {
        let claim = match ask(client, members).await {
            Ok(claim) => claim,
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "no member of Patroni can be asked who leads");
                }
                Claim::Silence
            }
        };
        failed = claim == Claim::Silence;
        tell(claims, claim);
        tokio::select! {
            () = pace.woken.notified() => sleep(super::client::PAUSE / 2).await,
            () = sleep((pace.pause)()) => {}
        }
    }
}

/// What the members say who answer in time.
async fn ask(client: &Client, members: &[Url]) -> Result<Claim, StoreError> {
    let ask = async |url| {
        let question = Question { path: "/cluster", body: None, token: None };
        read(&client.ask(url, question).await?)
    };
    let mut asked: FuturesUnordered<_> = members.iter().map(ask).collect();
    let (mut answers, mut last) = (Vec::new(), StoreError::Timeout);
    let mut patience = pin!(sleep(ANSWER_WITHIN));
    loop {
        let answer = tokio::select! {
            answer = asked.next() => answer,
            () = &mut patience => None,
        };
        match answer {
            None => return agreed(&answers).ok_or(last),
            Some(Err(error)) => last = error,
            Some(Ok(answer)) => {
                if answers.is_empty() {
                    patience.as_mut().reset(Instant::now() + OTHERS_WITHIN);
                }
                answers.push(answer);
            }
        }
    }
}

/// The answer with the newest timeline; of several, the one most often given.
pub(super) fn agreed(answers: &[Answer]) -> Option<Claim> {
    let votes = |claim: &Claim| answers.iter().filter(|answer| answer.claim == *claim).count();
    let best = answers.iter().max_by_key(|answer| (answer.timeline, votes(&answer.claim)));
    best.map(|answer| answer.claim.clone())
}

/// What one member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) claim: Claim,
    /// The leader's, as far as it has told.
    pub(super) timeline: u32,
}

/// Asks Patroni to make another member the leader: this one, by its name or by
/// host and port, or whichever is fit. Returns when it is done, or after this
/// time.
///
/// # Errors
/// Why it will not be.
pub(in crate::control) async fn switch_over(
    store: &Store,
    to: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    let failed = |error: StoreError| format!("Patroni: {error}");
    let client = Client::new(store.ca.as_deref()).map_err(failed)?;
    let mut last = "Patroni: none of its members is configured".to_owned();
    for url in &store.patroni {
        let question = Question { path: "/cluster", body: None, token: None };
        let members = match client.ask(url, question).await {
            Ok(answer) => members(&answer).map_err(failed)?,
            Err(error) => {
                last = failed(error);
                continue;
            }
        };
        let body = order(&members, to)?;
        let login = store.login.as_ref().map(basic);
        let question = Question { path: "/switchover", body: Some(body), token: login.as_deref() };
        return match client.ask_for(limit, url, question).await {
            Ok(_) | Err(StoreError::Timeout) => Ok(()),
            Err(error) => Err(failed(error)),
        };
    }
    Err(last)
}

/// HTTP's Basic authentication, which Patroni asks of those who give orders.
fn basic(login: &Login) -> String {
    let both = format!("{}:{}", login.user, login.password.expose());
    format!("Basic {}", BASE64_STANDARD.encode(both))
}

/// The body of a switchover.
fn order(members: &[Row], to: Option<&str>) -> Result<serde_json::Value, String> {
    let leader = members.iter().find(|row| row.leads()).ok_or("Patroni: nobody leads")?;
    let Some(to) = to else {
        return Ok(serde_json::json!({ "leader": leader.name }));
    };
    let is_meant = |row: &&Row| {
        let address = row.host.as_ref().zip(row.port);
        row.name == to || address.is_some_and(|(host, port)| format!("{host}:{port}") == to)
    };
    let candidate = members.iter().find(is_meant);
    let candidate = candidate.ok_or_else(|| format!("Patroni: no member is called {to}"))?;
    Ok(serde_json::json!({ "leader": leader.name, "candidate": candidate.name }))
}

#[derive(Debug, Deserialize)]
struct Cluster {
    members: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    role: String,
    host: Option<String>,
    port: Option<u16>,
    /// A number, but for members that have not told it.
    timeline: Option<serde_json::Value>,
}

impl Row {
    fn leads(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "master" | "primary")
    }
}

fn members(answer: &[u8]) -> Result<Vec<Row>, StoreError> {
    let cluster: Result<Cluster, _> = serde_json::from_slice(answer);
    cluster.map(|c| c.members).map_err(|error| StoreError::Answer(error.to_string()))
}

pub(super) fn read(answer: &[u8]) -> Result<Answer, StoreError> {
    let Some(row) = members(answer)?.into_iter().find(Row::leads) else {
        return Ok(Answer { claim: Claim::Nobody, timeline: 0 });
    };
    let timeline = row.timeline.and_then(|timeline| timeline.as_u64());
    let timeline = timeline.and_then(|timeline| u32::try_from(timeline).ok());
    let claim = Claim::Leader(Member { name: row.name, address: row.host.zip(row.port) });
    Ok(Answer { claim, timeline: timeline.unwrap_or_default() })
}

#[cfg(test)]
mod order_tests {
    use super::*;

    #[test]
    fn a_switchover_names_who_leads_and_who_is_to_follow() {
        let answer = br#"{"members": [
            {"name": "a", "role": "leader", "host": "10.0.0.1", "port": 5432},
            {"name": "b", "role": "replica", "host": "10.0.0.2", "port": 5432}]}"#;
        let members = members(answer).unwrap();
        let both = serde_json::json!({ "leader": "a", "candidate": "b" });
        assert_eq!(order(&members, None).unwrap(), serde_json::json!({ "leader": "a" }));
        assert_eq!(order(&members, Some("b")).unwrap(), both);
        assert_eq!(order(&members, Some("10.0.0.2:5432")).unwrap(), both);
        assert!(order(&members, Some("c")).is_err());
        assert!(order(&members[1..], None).is_err());
    }
}

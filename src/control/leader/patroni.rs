//! Patroni's REST API: `GET /cluster` of any member says who leads, as that
//! member reads it from its store.
//!
//! All members are asked at once, so that those that are down or hang cost
//! little time. A member that was cut off or frozen for a while may tell of the
//! past: of several answers that with the newest timeline counts, then what
//! most of them say (trap E-4).

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::client::{Client, Question, StoreError};
use super::{ANSWER_WITHIN, Claim, Claims, Member, Pace, tell};
use crate::control::config::Url;

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

pub(super) fn read(answer: &[u8]) -> Result<Answer, StoreError> {
    let cluster: Cluster =
        serde_json::from_slice(answer).map_err(|error| StoreError::Answer(error.to_string()))?;
    let leads = |row: &Row| matches!(row.role.as_str(), "leader" | "master" | "primary");
    let leader = cluster.members.into_iter().find(leads);
    let Some(row) = leader else {
        return Ok(Answer { claim: Claim::Nobody, timeline: 0 });
    };
    let timeline = row.timeline.and_then(|timeline| timeline.as_u64());
    let timeline = timeline.and_then(|timeline| u32::try_from(timeline).ok());
    let claim = Claim::Leader(Member { name: row.name, address: row.host.zip(row.port) });
    Ok(Answer { claim, timeline: timeline.unwrap_or_default() })
}

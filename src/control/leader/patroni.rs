//! Patroni's REST API: `GET /cluster` of any member says who leads, as that
//! member reads it from its store.
//!
//! All members are asked at once and the first good answer counts, so that
//! those that are down or hang cost no time.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{Client, Question, StoreError};
use super::{Claim, Claims, Member, Pace, tell};
use crate::control::config::Url;

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

/// The first good answer of any member.
pub(super) async fn ask(client: &Client, members: &[Url]) -> Result<Claim, StoreError> {
    let ask = async |url| {
        let question = Question { path: "/cluster", body: None, token: None };
        read(&client.ask(url, question).await?)
    };
    let mut answers: FuturesUnordered<_> = members.iter().map(ask).collect();
    let mut last = StoreError::Timeout;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(claim) => return Ok(claim),
            Err(error) => last = error,
        }
    }
    Err(last)
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
}

pub(super) fn read(answer: &[u8]) -> Result<Claim, StoreError> {
    let cluster: Cluster =
        serde_json::from_slice(answer).map_err(|error| StoreError::Answer(error.to_string()))?;
    let leads = |row: &Row| matches!(row.role.as_str(), "leader" | "master" | "primary");
    let leader = cluster.members.into_iter().find(leads);
    Ok(leader.map_or(Claim::Nobody, |row| {
        Claim::Leader(Member { name: row.name, address: row.host.zip(row.port) })
    }))
}

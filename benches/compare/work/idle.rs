//! What an idle client costs in memory: the growth of the process's own share
//! (PSS) over thousands of clients that log in, do one SELECT and stay.

use std::thread::sleep;
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;

use super::login::{Client, Logins};
use crate::Fallible;
use crate::contender::Contender;
use crate::process::memory_of;
use crate::sample::{Metric, Sample};
use crate::servers::Stage;

/// Logins at a time.
const AT_A_TIME: u32 = 50;
/// What is freed late gets time.
const SETTLE: Duration = Duration::from_secs(2);

pub fn run(stage: &Stage, contender: &Contender, clients: u32) -> Fallible<Sample> {
    let pid = contender.pid().ok_or("nothing to look at")?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let logins = Logins::new(stage, contender)?;
    // What the first client needs, all need.
    let first = runtime.block_on(logins.client())?;
    sleep(SETTLE);
    let before = memory_of(pid)?;
    let opened = runtime.block_on(open(&logins, clients))?;
    sleep(SETTLE);
    let after = memory_of(pid)?;
    drop((first, opened));
    Ok(Sample::default().with(Metric::Memory, (after - before) / f64::from(clients) / 1e3))
}

async fn open(logins: &Logins, clients: u32) -> Fallible<Vec<Client>> {
    let mut opened = Vec::new();
    let mut left = clients;
    while left > 0 {
        let now = left.min(AT_A_TIME);
        left -= now;
        let mut group = JoinSet::new();
        for _ in 0..now {
            let logins = logins.clone();
            group.spawn(async move { logins.client().await.map_err(|error| error.to_string()) });
        }
        while let Some(client) = group.join_next().await {
            opened.push(client??);
        }
    }
    Ok(opened)
}

//! What clients go through when a primary changes: writers that note every
//! answer, and the account of what became of what they were told.
//!
//! ```text
//! Load ─ start() ─▶ Running ─ stop() ─▶ Account ─ compared with the rows ─▶ Report
//!                      └ tally(): how it goes
//! ```
//!
//! Each writer inserts rows that nobody else has, one after the other, and
//! keeps its connection after an error, as applications do. The acceptance
//! tests, the drill and the demo share this, so that what an operator sees
//! rehearsed is what is tested.

mod report;
mod tally;
mod writer;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

pub use report::Report;
pub use tally::Tally;
pub use writer::{Attempt, Outcome, Style};

/// Why a writer has no connection: mostly, what the server said.
pub type Unconnected = Box<dyn std::error::Error + Send + Sync>;

/// Makes a connection of a writer's own.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Client, Unconnected>> + Send + Sync>;

/// The way in of a writer that comes as any client does, without TLS.
#[must_use]
pub fn without_tls(config: Config) -> Connect {
    Arc::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            Ok(client)
        })
    })
}

/// The table that writers write to; made by [`Load::prepare`].
pub const TABLE: &str = "postern_rehearsal";

/// A row: which writer's, and its number.
pub type Row = (i32, i64);

/// Writers to be started.
#[derive(Clone)]
pub struct Load {
    /// How a writer connects.
    pub connect: Connect,
    /// How many writers.
    pub writers: u16,
    /// Between two rows of a writer.
    pub pause: Duration,
}

/// Writers at work; dropped, they end where they are.
pub struct Running {
    over: watch::Sender<bool>,
    writers: JoinSet<Vec<Attempt>>,
    tally: Arc<Tally>,
}

/// What every writer was told, in order.
#[derive(Debug, Clone)]
pub struct Account {
    /// By writer, in any order of writers.
    pub attempts: Vec<Vec<Attempt>>,
}

impl Load {
    /// Makes the table, empty.
    ///
    /// # Errors
    /// As the server.
    pub async fn prepare(client: &Client) -> Result<(), tokio_postgres::Error> {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {TABLE} \
             (writer integer, number bigint, PRIMARY KEY (writer, number)); TRUNCATE {TABLE}"
        );
        client.batch_execute(&sql).await
    }

    /// Takes the table away.
    ///
    /// # Errors
    /// As the server.
    pub async fn clear(client: &Client) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await
    }

    /// Starts the writers on the current runtime.
    ///
    /// # Errors
    /// If one of them cannot connect to begin with.
    pub async fn start(&self) -> Result<Running, Unconnected> {
        let connecting = (0..self.writers).map(|_| (self.connect)());
        let clients: Result<Vec<_>, _> = join_all(connecting).await.into_iter().collect();
        let ((over, ending), tally) = (watch::channel(false), Arc::<Tally>::default());
        let writers = clients?.into_iter().zip(0..).map(|(client, number)| {
            let writer = writer::Writer::new(self, number, client, Arc::clone(&tally));
            writer.write(ending.clone())
        });
        Ok(Running { writers: writers.collect(), over, tally })
    }
}

impl Running {
    /// What the writers have been told so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets every writer finish what it is doing.
    pub async fn stop(mut self) -> Account {
        self.over.send_replace(true);
        let mut attempts = Vec::with_capacity(self.writers.len());
        while let Some(written) = self.writers.join_next().await {
            attempts.push(written.unwrap_or_default());
        }
        Account { attempts }
    }
}

impl Account {
    /// All attempts of all writers.
    pub fn all(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().flatten()
    }

    /// When a row was first acknowledged whose writing began after this.
    #[must_use]
    pub fn first_success_after(&self, instant: Instant) -> Option<Instant> {
        let after = self.all().filter(|attempt| attempt.began > instant);
        after.filter(|attempt| attempt.outcome == Outcome::Acknowledged).map(|a| a.ended).min()
    }

    /// Compares what was told with the rows that are there.
    #[must_use]
    pub fn report(&self, rows: &HashSet<Row>) -> Report {
        Report::new(self, rows)
    }
}

/// The rows that are there.
///
/// # Errors
/// As the server.
pub async fn rows(client: &Client) -> Result<HashSet<Row>, tokio_postgres::Error> {
    let rows = client.query(&format!("SELECT writer, number FROM {TABLE}"), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

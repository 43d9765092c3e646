//! One writer: a row after the other, and what it was told of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use super::{Connect, Load, Row, TABLE, Tally};

/// Between two attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(50);

/// How a writer speaks to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// One simple query a row.
    Simple,
    /// One prepared statement a row.
    Extended,
    /// Simple queries, in a block.
    SimpleBlock,
    /// A prepared statement, in a block.
    ExtendedBlock,
}

impl Style {
    const ALL: [Self; 4] = [Self::Simple, Self::Extended, Self::SimpleBlock, Self::ExtendedBlock];
}

/// What a writer was told of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Acknowledged,
    /// It is not committed: the SQLSTATE.
    Failed(String),
    /// It may be committed: the SQLSTATE.
    Unknown(String),
    /// The writer lost its connection.
    Disconnected,
}

/// A row and what became of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The row.
    pub row: Row,
    /// When its first statement was sent.
    pub began: Instant,
    /// When the writer was told.
    pub ended: Instant,
    /// What it was told.
    pub outcome: Outcome,
}

/// A writer with its connection.
pub(super) struct Writer {
    connect: Connect,
    pause: Duration,
    number: i32,
    style: Style,
    client: Option<Client>,
    tally: Arc<Tally>,
}

impl Writer {
    pub(super) fn new(load: &Load, number: i32, client: Client, tally: Arc<Tally>) -> Self {
        let style = Style::ALL[number.unsigned_abs() as usize % Style::ALL.len()];
        let connect = Connect::clone(&load.connect);
        Self { connect, pause: load.pause, number, style, client: Some(client), tally }
    }

    /// Writes until it is over.
    pub(super) async fn write(mut self, over: watch::Receiver<bool>) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for number in 0.. {
            if *over.borrow() {
                break;
            }
            let row = (self.number, number);
            let began = Instant::now();
            if let Some(outcome) = self.write_row(row).await {
                self.tally.count(&outcome);
                attempts.push(Attempt { row, began, ended: Instant::now(), outcome });
            }
            sleep(self.pause).await;
        }
        attempts
    }

    /// Writes a row; nothing if there was no connection to write it through.
    async fn write_row(&mut self, row: Row) -> Option<Outcome> {
        let Some(client) = self.client.take() else {
            match (self.connect)().await {
                Ok(client) => self.client = Some(client),
                Err(_) => sleep(RECONNECT).await,
            }
            return None;
        };
        let outcome = match insert(&client, self.style, row).await {
            Ok(()) => Outcome::Acknowledged,
            Err(error) => self.judge(&client, &error).await,
        };
        self.client = Some(client).filter(|client| !client.is_closed());
        Some(outcome)
    }

    async fn judge(&self, client: &Client, error: &Error) -> Outcome {
        let Some(state) = error.code().map(|state| state.code().to_owned()) else {
            return Outcome::Disconnected;
        };
        if matches!(self.style, Style::SimpleBlock | Style::ExtendedBlock) {
            // As every driver and framework does.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        match (client.is_closed(), &state[..]) {
            (_, "08007") => Outcome::Unknown(state),
            (true, _) => Outcome::Disconnected,
            (false, _) => Outcome::Failed(state),
        }
    }
}

async fn insert(client: &Client, style: Style, (writer, number): Row) -> Result<(), Error> {
    let simple = format!("INSERT INTO {TABLE} VALUES ({writer}, {number})");
    let prepared = format!("INSERT INTO {TABLE} VALUES ($1, $2)");
    match style {
        Style::Simple => client.batch_execute(&simple).await,
        Style::Extended => client.execute(&prepared, &[&writer, &number]).await.map(|_| ()),
        Style::SimpleBlock => {
            client.batch_execute("BEGIN").await?;
            client.batch_execute(&simple).await?;
            client.batch_execute("COMMIT").await
        }
        Style::ExtendedBlock => {
            client.batch_execute("BEGIN").await?;
            client.execute(&prepared, &[&writer, &number]).await?;
            client.batch_execute("COMMIT").await
        }
    }
}

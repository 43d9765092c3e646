//! One login of the management role on one node.
//!
//! Nothing of any client reaches it: the startup packet is made of the
//! configuration and constants alone, the search path is fixed, and what a
//! query is about goes in as its parameters (trap A-5). Every wait has a
//! deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use super::error::NodeError;
use super::lookup::LookupForm;
use super::stream::{AlreadyEncrypted, NodeStream};
use crate::control::config;
use crate::directory::Node;
use crate::upstream::Dialer;

/// The most a query may take; the server gives it up a little earlier, so
/// that the connection stays of use.
pub(super) const QUERY_WITHIN: Duration = Duration::from_millis(2_500);

/// A fixed search path, and the server's own limit on a statement. Options of
/// the startup packet win over `ALTER ROLE … SET` and `ALTER DATABASE … SET`.
const OPTIONS: &str = "-csearch_path=pg_catalog -cstatement_timeout=2000";

/// How the management role shows in `pg_stat_activity`.
const APPLICATION_NAME: &str = "postern";

/// What stays the same while a server runs, and decides what it is asked.
const TRAITS: &str = "\
    SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
           pg_catalog.current_setting('max_connections')::pg_catalog.int4,
           pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4
               + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4,
           coalesce(pg_catalog.current_setting('scram_iterations', true), '4096')::pg_catalog.int4,
           (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)";

/// What a server said of itself when the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// `server_version_num`: 160004 is 16.4.
    pub(super) version: u32,
    /// `max_connections`.
    pub(super) max_connections: u32,
    /// Connections that are kept for superusers and other privileged roles.
    pub(super) reserved: u32,
    /// The iterations of a password that is set now.
    pub(super) scram_iterations: u32,
    /// The system identifier: which data it holds.
    pub(super) system: u64,
}

/// A parameter of a query with its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A management role that is logged in. Dropped, it says goodbye, unless the
/// server does not answer any more: then the connection is dropped with it.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    driver: AbortHandle,
    /// We let it go ourselves: its end is no news.
    let_go: Arc<AtomicBool>,
    /// Something was not answered in time: whatever comes next may be the
    /// answer to an older question, so nothing more is asked.
    stuck: AtomicBool,
    /// What the server said of itself.
    pub(super) traits: Traits,
    /// How verifiers are looked up here, if the role may at all.
    pub(super) lookup_form: Option<LookupForm>,
}

impl Session {
    /// Dials, logs in and learns what the server is. Somebody is woken when
    /// the server ends the session.
    pub(super) async fn open(
        dialer: &Dialer,
        node: &Node,
        role: &config::Management,
        within: Duration,
        ended: Arc<Notify>,
    ) -> Result<Self, NodeError> {
        let deadline = Instant::now() + within;
        let connection = dialer.dial(node, deadline).await;
        let connection = connection.map_err(|error| NodeError::Dial(Arc::new(error)))?;
        let connected = timeout_at(deadline, log_in(connection.into(), role)).await;
        let (client, connection) = connected.map_err(|_| NodeError::Timeout(within))??;
        let let_go = Arc::new(AtomicBool::new(false));
        let driver = tokio::spawn(drive(connection, Arc::clone(&let_go), ended)).abort_handle();
        let mut session = Self {
            client,
            driver,
            let_go,
            stuck: AtomicBool::new(false),
            traits: Traits::UNKNOWN,
            lookup_form: None,
        };
        session.traits = Traits::read(&session.one_row(TRAITS, &[]).await?)?;
        session.lookup_form = LookupForm::detect(&session).await?;
        Ok(session)
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed() || self.stuck.load(Ordering::Relaxed)
    }

    /// The rows of a query, within [`QUERY_WITHIN`].
    pub(super) async fn rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, NodeError> {
        let answer = timeout(QUERY_WITHIN, self.client.query_typed(sql, parameters)).await;
        let Ok(rows) = answer else {
            self.stuck.store(true, Ordering::Relaxed);
            return Err(NodeError::Timeout(QUERY_WITHIN));
        };
        rows.map_err(|error| NodeError::of_query(&error))
    }

    /// The only row of a query.
    pub(super) async fn one_row(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, NodeError> {
        let mut rows = self.rows(sql, parameters).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(NodeError::Broken("not one row, as expected".to_owned())),
        }
    }
}

type Driver = tokio_postgres::Connection<NodeStream, NodeStream>;

/// Ends when the client is dropped or the server is gone; whoever asks
/// something at that time hears of it, and whoever does not is woken.
async fn drive(connection: Driver, let_go: Arc<AtomicBool>, ended: Arc<Notify>) {
    // What it ended with is what the next look finds.
    let _ = connection.await;
    if !let_go.load(Ordering::Relaxed) {
        ended.notify_one();
    }
}

async fn log_in(
    stream: NodeStream,
    role: &config::Management,
) -> Result<(Client, Driver), NodeError> {
    let mut config = Config::new();
    config
        .user(&role.user)
        .password(role.password.expose())
        .dbname(&role.database)
        .options(OPTIONS)
        .application_name(APPLICATION_NAME)
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    let connected = config.connect_raw(stream, AlreadyEncrypted).await;
    connected.map_err(|error| NodeError::of_login(&error))
}

impl Drop for Session {
    fn drop(&mut self) {
        self.let_go.store(true, Ordering::Relaxed);
        if self.stuck.load(Ordering::Relaxed) {
            self.driver.abort();
        }
    }
}

impl Traits {
    const UNKNOWN: Self =
        Self { version: 0, max_connections: 0, reserved: 0, scram_iterations: 0, system: 0 };

    fn read(row: &Row) -> Result<Self, NodeError> {
        Ok(Self {
            version: count(row, 0)?,
            max_connections: count(row, 1)?,
            reserved: count(row, 2)?,
            scram_iterations: count(row, 3)?.max(1),
            system: value::<i64>(row, 4)?.cast_unsigned(),
        })
    }
}

/// A column that is not negative.
pub(super) fn count(row: &Row, column: usize) -> Result<u32, NodeError> {
    let value: i32 = value(row, column)?;
    u32::try_from(value).map_err(|_| NodeError::Broken(format!("{value} where a count belongs")))
}

/// A column of the type that the query says.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, NodeError> {
    row.try_get(column).map_err(|error| NodeError::of_query(&error))
}

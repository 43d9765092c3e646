//! A superuser's session on a node, for making what a service needs there.
//!
//! No password is sent in clear: roles are given verifiers, made here. Every
//! wait has a deadline; names go into statements quoted.

use std::time::Duration;

use postgres_protocol::password::scram_sha_256;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use crate::control::management::NodeError;
use crate::control::management::stream::{AlreadyEncrypted, NodeStream};
use crate::directory::{Node, Pooling};
use crate::domain::{NodeAddress, NodeTls, Secret};
use crate::upstream::Dialer;

/// For the connection and the login.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For a statement: making a database copies one.
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);
/// The server's own limit is a little shorter, so that its answer is heard.
const OPTIONS: &str = "-csearch_path=pg_catalog -cstatement_timeout=55000 -clock_timeout=20000";

/// How a node is reached as superuser.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where it is.
    pub address: NodeAddress,
    /// How the connection is encrypted.
    pub tls: NodeTls,
    /// The authorities that its certificate is verified with, PEM.
    pub authorities: Option<std::sync::Arc<str>>,
    /// The superuser.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
}

/// A superuser's session in one database. Dropped, it ends.
#[derive(Debug)]
pub struct Superuser {
    client: Client,
}

impl Superuser {
    /// Logs in.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn connect(
        dialer: &Dialer,
        login: &Login,
        database: &str,
    ) -> Result<Self, NodeError> {
        let deadline = Instant::now() + CONNECT_WITHIN;
        let stream = dialer.dial(&login.node(), deadline).await;
        let stream = stream.map_err(|error| NodeError::Dial(std::sync::Arc::new(error)))?;
        let mut config = Config::new();
        config
            .user(&login.user)
            .password(login.password.expose())
            .dbname(database)
            .options(OPTIONS)
            .application_name("postern")
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        let connecting = config.connect_raw(NodeStream::from(stream), AlreadyEncrypted);
        let connected = timeout_at(deadline, connecting).await;
        let connected = connected.map_err(|_| NodeError::Timeout(CONNECT_WITHIN))?;
        let (client, connection) = connected.map_err(|error| NodeError::of_login(&error))?;
        tokio::spawn(connection);
        Ok(Self { client })
    }

    /// Runs statements, none of which has parameters.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn run(&self, sql: &str) -> Result<(), NodeError> {
        let done = timeout(STATEMENT_WITHIN, self.client.batch_execute(sql)).await;
        let done = done.map_err(|_| NodeError::Timeout(STATEMENT_WITHIN))?;
        done.map_err(|error| NodeError::of_query(&error))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn rows(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, NodeError> {
        let rows = timeout(STATEMENT_WITHIN, self.client.query(sql, parameters)).await;
        let rows = rows.map_err(|_| NodeError::Timeout(STATEMENT_WITHIN))?;
        rows.map_err(|error| NodeError::of_query(&error))
    }

    /// Whether this node is a primary.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn takes_writes(&self) -> Result<bool, NodeError> {
        let rows = self.rows("SELECT WHERE NOT pg_catalog.pg_is_in_recovery()", &[]).await?;
        Ok(!rows.is_empty())
    }

    /// Whether a query finds anything.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn finds(&self, sql: &str, name: &str) -> Result<bool, NodeError> {
        Ok(!self.rows(sql, &[&name]).await?.is_empty())
    }
}

impl Login {
    fn node(&self) -> Node {
        Node {
            service: "provisioning".parse().expect("it is a service's name"),
            address: self.address.clone(),
            tls: self.tls,
            authorities: self.authorities.clone(),
            capacity: 0,
            pooling: Pooling::default(),
        }
    }
}

/// `"name"`
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A verifier of a password, with a salt of its own.
#[must_use]
pub fn scram_verifier(password: &Secret<String>) -> Secret<String> {
    Secret::new(scram_sha_256(password.expose().as_bytes()))
}

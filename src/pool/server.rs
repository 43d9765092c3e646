//! A server connection with its slot: given to the closer by `Drop`, whenever
//! and for whatever reason its owner lets go of it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::closer::{Closer, Leftover};
use super::slots::Slot;
use crate::auth::client::Keys;
use crate::auth::scram::RAW_NONCE;
use crate::directory::{Node, Tenure};
use crate::net::Connection;
use crate::upstream::cancel::Backend;
use crate::upstream::dial::DialError;
use crate::upstream::{Dialed, Dialer, LoggedIn, LoginFailure, login};

/// One server connection, owned by one client.
pub struct ServerConnection {
    held: Option<(Connection, Slot)>,
    lead: Lead,
    backend: Option<Arc<Backend>>,
    process_id: u32,
    /// When the login was over.
    since: std::time::Instant,
    busy: bool,
    closer: Closer,
}

/// Where a connection leads, and how long it may be used.
#[derive(Debug, Clone)]
pub struct Lead {
    /// The node.
    pub node: Arc<Node>,
    /// The node's time in its role.
    pub tenure: Arc<Tenure>,
}

/// What a login needs to know.
pub struct Credentials<'a> {
    /// The startup packet's parameters.
    pub parameters: &'a [(Bytes, Bytes)],
    /// The role's keys.
    pub keys: &'a Keys,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node could not be connected to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The login failed.
    #[error(transparent)]
    Login(#[from] LoginFailure),
    /// The login took too long.
    #[error("no end of the login within the connect timeout")]
    Timeout,
}

impl ServerConnection {
    /// Dials and logs in. The slot is taken before the first packet is sent;
    /// on failure, and when this future is dropped, the closer sees to it that
    /// it is not free before the server has let go.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        lead: Lead,
        slot: Slot,
        credentials: Credentials<'_>,
        dialer: &Dialer,
        closer: &Closer,
        deadline: Instant,
        random: &[u8; RAW_NONCE],
    ) -> Result<(Self, LoggedIn), OpenError> {
        let Dialed { connection, binding } = dialer.dial(&lead.node, deadline).await?;
        let held = Some((connection, slot));
        let closer = closer.clone();
        let since = std::time::Instant::now();
        let mut server =
            Self { held, lead, backend: None, process_id: 0, since, busy: false, closer };
        let Credentials { parameters, keys } = credentials;
        let login = login::log_in(server.connection(), binding, parameters, keys, random);
        let logged_in =
            tokio::time::timeout_at(deadline, login).await.map_err(|_| OpenError::Timeout)??;
        let LoggedIn { process_id, cancel_key, .. } = &logged_in;
        let Lead { node, tenure } = &server.lead;
        server.backend = Backend::new(node, tenure, *process_id, cancel_key);
        server.process_id = *process_id;
        server.since = std::time::Instant::now();
        Ok((server, logged_in))
    }

    /// The connection itself.
    ///
    /// # Panics
    /// Never: it is there until the value is consumed.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.held.as_mut().expect("held until dropped").0
    }

    /// What a cancel request needs, if the server told it.
    #[must_use]
    pub fn backend(&self) -> Option<&Arc<Backend>> {
        self.backend.as_ref()
    }

    /// The backend's process id, or 0 if it told none.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Where the connection leads.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.lead.node
    }

    /// Where the connection leads, and how long it may be used.
    #[must_use]
    pub fn lead(&self) -> &Lead {
        &self.lead
    }

    /// Whether the node has lost the role in which it was connected to: then
    /// not one byte more is sent to it.
    #[must_use]
    #[inline]
    pub fn is_superseded(&self) -> bool {
        self.lead.tenure.is_over()
    }

    /// Whether it is the first on its node whose server was not asked to prove
    /// itself.
    #[must_use]
    pub fn is_first_unproven(&self) -> bool {
        self.held.as_ref().is_some_and(|(_, slot)| slot.node().is_first_unproven())
    }

    /// Says whether a query may be under way when the connection is dropped.
    pub fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// Its slot.
    ///
    /// # Panics
    /// Never: it is there until the value is consumed.
    pub fn slot(&mut self) -> &mut Slot {
        &mut self.held.as_mut().expect("held until dropped").1
    }

    /// The server has closed: its slot is free.
    pub fn closed(mut self) {
        self.held = None;
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        if let Some((connection, slot)) = self.held.take() {
            self.closer.close(Leftover {
                connection,
                slot,
                lead: self.lead.clone(),
                process_id: self.process_id,
                since: self.since,
                cancel: self.backend.take().filter(|_| self.busy),
            });
        }
    }
}

//! What both directions read and write while a client has a server connection.

use super::client_state::ClientState;
use super::errand::Underway;
use super::expected::Expected;
use crate::pool::PooledServer;
use crate::session::stakes::Stakes;
use crate::state::reports::Reports;
use crate::state::statements::ServerStatements;
use crate::wire::conversation::Conversation;

/// What is pending on the server connection.
#[derive(Debug, Default)]
pub struct Pending {
    /// Both directions, as the server sees them.
    pub conversation: Conversation,
    /// What the server owes.
    pub expected: Expected,
    /// What may have been committed.
    pub stakes: Stakes,
    /// What Postern has asked for itself: until it is answered nothing of the
    /// client is sent.
    pub errand: Option<Box<Underway>>,
}

/// Everything that a translation reads and writes.
pub struct Exchange<'a> {
    /// The client.
    pub client: &'a mut ClientState,
    /// The statements on the server.
    pub statements: &'a mut ServerStatements,
    /// The reported settings on the server.
    pub reports: &'a mut Reports,
    /// Both directions, as the server sees them.
    pub conversation: &'a mut Conversation,
    /// What the server owes.
    pub expected: &'a mut Expected,
    /// What may have been committed.
    pub stakes: &'a mut Stakes,
    /// What was asked that the client hears nothing of.
    pub errand: Option<&'a mut Underway>,
}

impl Pending {
    /// What is pending between this client and its server connection, and they
    /// themselves.
    #[inline]
    pub fn between<'a>(
        &'a mut self,
        client: &'a mut ClientState,
        server: &'a mut PooledServer,
    ) -> Exchange<'a> {
        Exchange {
            client,
            statements: &mut server.statements,
            reports: &mut server.reports,
            conversation: &mut self.conversation,
            expected: &mut self.expected,
            stakes: &mut self.stakes,
            errand: self.errand.as_deref_mut(),
        }
    }
}

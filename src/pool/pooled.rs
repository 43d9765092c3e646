//! A pooled server connection: what it is for, and what is on it.
//!
//! Everything here is what Postern has sent and heard on the connection, so
//! that the next client finds exactly the state it believes in.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;
use bytes::Bytes;

use super::ledger::PoolId;
use super::server::ServerConnection;
use super::slots::Slot;
use crate::auth::credential::Credential;
use crate::directory::{Pooling, Tenure};
use crate::net::Worker;
use crate::state::reports::Reports;
use crate::state::routines::known::KnownRoutines;
use crate::state::statements::ServerStatements;
use crate::state::{Carried, Company};
use crate::upstream::reset::Likeness;

/// What connections of one pool have in common (decision 24): database, role
/// with its credential, and every startup setting but those that are replayed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    parameters: Arc<Parameters>,
    credential: Credential,
    /// Connections of the session endpoint, one session after the other.
    sessions: bool,
    guarded: bool,
}

/// Startup parameters, in the client's order.
type Parameters = [(Bytes, Bytes)];

impl PoolKey {
    /// The key of a client with these startup parameters, without those that
    /// are replayed instead, and this credential.
    #[must_use]
    pub fn new(parameters: &Parameters, credential: Credential) -> Self {
        let kept = parameters.iter().filter(|(name, _)| name != "application_name");
        let mut kept: Vec<_> = kept.cloned().collect();
        kept.sort();
        Self { parameters: kept.into(), credential, sessions: false, guarded: false }
    }

    /// The key of a session with these startup parameters, all of which are its
    /// defaults, and this credential.
    #[must_use]
    pub fn of_sessions(parameters: &Parameters, credential: Credential) -> Self {
        Self { parameters: parameters.into(), credential, sessions: true, guarded: false }
    }

    /// The key of the same client's connections to a primary in the place of a
    /// standby, which are kept from writing by accident: a pool of their own.
    #[must_use]
    pub fn guarded(&self, guarded: bool) -> Self {
        Self { guarded, ..self.clone() }
    }

    /// Whether its connections are for sessions.
    #[must_use]
    pub fn is_of_sessions(&self) -> bool {
        self.sessions
    }

    /// Whether its connections can be opened with its parameters alone, before
    /// anybody asks for them.
    pub(super) fn may_have_spares(&self) -> bool {
        !self.sessions && !self.guarded
    }

    /// What a connection of this pool is opened with.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What its role logged in with.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Its database, which is named like the role where it is not named.
    pub(super) fn database(&self) -> Bytes {
        let named = |wanted: &str| self.parameters.iter().find(|(name, _)| name == wanted);
        let database = named("database").or_else(|| named("user"));
        database.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Its role; names that are no UTF-8 cannot log in.
    #[must_use]
    pub fn role(&self) -> &str {
        let user = self.parameters.iter().find(|(name, _)| name == "user");
        user.and_then(|(_, role)| std::str::from_utf8(role).ok()).unwrap_or_default()
    }
}

/// What the servers of a pool say at login.
#[derive(Debug)]
pub struct Greeting {
    /// Parameters and notices, as they came.
    pub messages: Bytes,
    /// The replayed settings among them.
    pub reports: Reports,
    /// What is said holds as long as the node keeps its role.
    pub tenure: Arc<Tenure>,
}

/// A connection as its login left it.
#[derive(Debug)]
pub struct Origin {
    /// What the server said.
    pub greeting: Bytes,
    /// What it shows of itself.
    pub likeness: Likeness,
}

/// A connection of a pool.
pub struct PooledServer {
    server: ServerConnection,
    pool: PoolId,
    /// Which worker watches its socket.
    worker: Worker,
    /// The values of the reported settings on the server.
    pub reports: Reports,
    /// The reported settings as the connection began with them.
    pub first_reports: Reports,
    /// The other settings that were set on the server.
    pub carried: Carried,
    /// The clients that it was lent to, by their seats.
    pub clients: Company,
    /// How often it was lent.
    pub lent: u64,
    /// It is to be audited before it goes to the next client.
    pub audit_due: bool,
    /// The prepared statements on the server.
    pub statements: ServerStatements,
    /// What is known of the routines of its database.
    pub routines: Arc<KnownRoutines>,
    opened: Instant,
    /// How much of its longest life it has, so that not all end at once.
    jitter: f64,
    /// The node's settings, as of the last look at them.
    pooling: Arc<Pooling>,
    /// When it is too old to be used again, by these.
    expires: Option<Instant>,
    /// When it was last used.
    pub idle_since: Instant,
    /// What it was like after its login, if it is for sessions.
    origin: Option<Box<Origin>>,
    /// Set while a client keeps it.
    pinned: bool,
    /// Counts it among the connections of its pool.
    counted: Arc<()>,
}

impl std::fmt::Debug for PooledServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PooledServer").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl PooledServer {
    /// A connection that has just been opened for a client of this pool.
    /// `jitter`, a little below 1, keeps connections of one age from expiring
    /// at once (trap C-12).
    #[must_use]
    pub fn new(
        mut server: ServerConnection,
        pool: PoolId,
        reports: Reports,
        jitter: f64,
    ) -> Box<Self> {
        server.slot().busy();
        Self::of(server, pool, reports, jitter)
    }

    /// A connection that has just been opened for a session.
    #[must_use]
    pub fn of_session(
        server: ServerConnection,
        pool: PoolId,
        origin: Origin,
        jitter: f64,
    ) -> Box<Self> {
        let reports = Reports::from_messages(&origin.greeting);
        let mut server = Self::of(server, pool, reports, jitter);
        server.origin = Some(Box::new(origin));
        server
    }

    fn of(mut server: ServerConnection, pool: PoolId, reports: Reports, jitter: f64) -> Box<Self> {
        let schema = server.slot().node().schema().clone();
        let counted = server.slot().node().counted(pool);
        let routines = server.slot().node().routines(pool);
        let pooling = server.slot().node().pooling();
        let opened = Instant::now();
        Box::new(Self {
            pool,
            worker: Worker::here(),
            first_reports: reports.clone(),
            reports,
            carried: Carried::default(),
            clients: Company::default(),
            lent: 0,
            audit_due: false,
            statements: ServerStatements::new(pooling.max_prepared_statements, schema),
            routines,
            opened,
            jitter,
            expires: expiry(opened, jitter, &pooling),
            pooling: Guard::into_inner(pooling),
            idle_since: opened,
            origin: None,
            pinned: false,
            counted,
            server,
        })
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// What it was like after its login, and the connection to compare.
    pub fn origin(&mut self) -> Option<(&Origin, &mut ServerConnection)> {
        self.origin.as_deref().map(|origin| (origin, &mut self.server))
    }

    /// Which worker watches it: where its clients are served soonest.
    #[must_use]
    pub fn worker(&self) -> Worker {
        self.worker
    }

    /// Brings it to the worker that this is called on. Where the system does not
    /// let it, it is watched from afar.
    pub fn come_here(&mut self) {
        let here = Worker::here();
        if self.worker != here && self.server.connection().attach_here().is_ok() {
            self.worker = here;
        }
    }

    /// It is lent to a client: one in so many times it will be audited.
    pub fn lend(&mut self) {
        self.follow();
        self.lent += 1;
        let every = self.pooling.audit_every;
        self.audit_due = every.is_some_and(|every| self.lent.is_multiple_of(u64::from(every)));
    }

    /// The node's settings, as of the moment when it was lent.
    #[must_use]
    pub fn pooling(&self) -> &Pooling {
        &self.pooling
    }

    /// Looks at the node's settings.
    pub(super) fn follow(&mut self) {
        let pooling = self.server.slot().node().pooling();
        if !Arc::ptr_eq(&pooling, &self.pooling) {
            self.expires = expiry(self.opened, self.jitter, &pooling);
            self.pooling = Guard::into_inner(pooling);
            self.statements.keep_at_most(self.pooling.max_prepared_statements);
        }
    }

    /// The connection and its backend.
    pub fn server(&mut self) -> &mut ServerConnection {
        &mut self.server
    }

    /// Its slot.
    pub fn slot(&mut self) -> &mut Slot {
        self.server.slot()
    }

    /// Whether a client keeps it.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// The client keeps it from now on, or no longer.
    pub fn set_pinned(&mut self, pinned: bool) {
        if self.pinned != pinned {
            self.pinned = pinned;
            if pinned { self.slot().pinned() } else { self.slot().busy() }
        }
    }

    /// The server has closed: its slot is free.
    pub fn closed(self) {
        self.server.closed();
    }

    /// Whether its node has lost the role in which it was connected to.
    #[must_use]
    #[inline]
    pub fn is_superseded(&self) -> bool {
        self.server.is_superseded()
    }

    /// Whether its pool has more connections than it should keep at least.
    #[must_use]
    pub fn is_dispensable(&self) -> bool {
        let connections = Arc::strong_count(&self.counted) - 1;
        connections > self.pooling.min_pool_size as usize
    }

    /// Whether it is too old to be used again.
    #[must_use]
    pub fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// It is on its way out: its pool counts it no longer.
    pub(super) fn uncount(&mut self) {
        self.counted = Arc::default();
    }

    /// Gives it back to its pool, clean.
    pub fn give_back(mut self: Box<Self>) {
        self.set_pinned(false);
        let node = Arc::clone(self.slot().node());
        let now = Instant::now();
        if self.is_superseded() || self.has_expired(now) {
            drop(self);
        } else {
            node.give_back(self, now);
        }
    }
}

/// When a connection is too old to be used again.
fn expiry(opened: Instant, jitter: f64, pooling: &Pooling) -> Option<Instant> {
    pooling.server_lifetime.and_then(|longest| opened.checked_add(longest.mul_f64(jitter)))
}

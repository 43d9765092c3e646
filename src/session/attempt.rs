//! A client's attempts to get a server connection, for a session or for a
//! transaction.
//!
//! Without a primary, and while a node takes no logins, they go on for at most
//! `failover_wait`; whatever a node does meanwhile is evidence, not a verdict.
//! What the server itself refuses is the client's answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::door::{HeldClient, random};
use super::standing::{self, Choice, Standing, choose};
use super::{Departure, FrontDoor};
use crate::auth::client::Keys;
use crate::directory::{Node, Seat, Service};
use crate::domain::refusal::{PlanUse, ServerLoginFailure, Unavailable};
use crate::domain::{
    Access, ClientAddress, Endpoint, NodeAddress, NodeTls, PoolMode, Refusal, SqlState,
};
use crate::pool::ledger::{Counts, PoolId};
use crate::pool::server::{Credentials, OpenError, ServerConnection};
use crate::pool::slots::Grant;
use crate::pool::{Lead, Refused, Slot};
use crate::upstream::dial::DialError;
use crate::upstream::{LoggedIn, LoginFailure};

/// Between two attempts on a node that does not take logins.
const RETRY: Duration = Duration::from_millis(100);

/// Who attempts, and as whom.
pub struct Attempt<'a> {
    /// The front door.
    pub door: &'a FrontDoor,
    /// The service and the way into it.
    pub endpoint: &'a Endpoint,
    /// What a connection is opened with.
    pub parameters: &'a [(Bytes, Bytes)],
    /// Those of the password that the client has proved.
    pub keys: &'a Arc<Keys>,
    /// When the client began to wait: the oldest is served first.
    pub since: std::time::Instant,
}

/// A client that is held, and until when.
struct Hold {
    _client: HeldClient,
    give_up: Instant,
}

/// Whether another attempt may help.
pub enum Failure {
    /// It may.
    Passing(Departure),
    /// It would end the same.
    Final(Departure),
}

/// Where a step leads: a node of a service, as one snapshot has them.
#[derive(Clone)]
pub struct Target {
    /// The service.
    pub service: Arc<Service>,
    /// The node, and its time in its role.
    pub lead: Lead,
    /// Whether the connection must be kept from writing by accident.
    pub guarded: bool,
}

impl Attempt<'_> {
    /// Tries a step on the right node until it works, is final, or has been
    /// held for `failover_wait`. A step whose node loses its role is dropped
    /// where it stands. An order to leave ends it all.
    ///
    /// # Errors
    /// Why it was given up.
    pub async fn until_given_up<'s, T>(
        &'s self,
        seat: &Seat,
        step: impl Fn(Target) -> BoxFuture<'s, Result<T, Failure>>,
    ) -> Result<T, Departure> {
        let mut changes = self.door.directory.subscribe();
        let mut hold: Option<Hold> = None;
        loop {
            if let Some(refusal) = seat.order().refusal() {
                return Err(refusal.into());
            }
            let service = self.service(seat.occupant.address)?;
            let (done, retry) = match self.choose(&service) {
                Ok(Choice { lead, guarded }) => {
                    let target = Target { service, lead: lead.clone(), guarded };
                    let done = tokio::select! {
                        biased;
                        done = step(target) => done,
                        () = self.moved(&mut changes, &lead) => continue,
                    };
                    (done, Some(RETRY))
                }
                Err(failure) => (Err(failure), None),
            };
            let failure = match done {
                Ok(done) => return Ok(done),
                Err(Failure::Final(departure)) => return Err(departure),
                Err(Failure::Passing(departure)) => departure,
            };
            let Some(give_up) = self.hold(&mut hold) else { return Err(failure) };
            let retry_at = retry.map_or(give_up, |pause| give_up.min(Instant::now() + pause));
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(retry_at) => {}
                () = seat.ordered() => {}
            }
        }
    }

    /// Holds the client, or goes on holding it; until when. Nothing if it was
    /// held for long enough, or if too many are.
    fn hold(&self, hold: &mut Option<Hold>) -> Option<Instant> {
        if hold.is_none() {
            let policy = self.door.policy.load();
            let client = self.door.held.admit(self.endpoint, policy.failover_max_held)?;
            *hold = Some(Hold { _client: client, give_up: Instant::now() + policy.failover_wait });
        }
        let give_up = hold.as_ref()?.give_up;
        (Instant::now() < give_up).then_some(give_up)
    }

    /// Waits until this node is not the one for this client any more.
    async fn moved(&self, changes: &mut watch::Receiver<u64>, lead: &Lead) {
        while changes.changed().await.is_ok() {
            let service = self.door.directory.service(&self.endpoint.service);
            let still = service.is_some_and(|service| self.is_fit(&service, lead));
            if !still {
                return;
            }
        }
    }

    fn is_fit(&self, service: &Service, lead: &Lead) -> bool {
        !lead.tenure.is_over() && self.choose(service).is_ok()
    }

    /// The service as it is now: allowlist and plan may have changed.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`].
    pub fn service(&self, address: ClientAddress) -> Result<Arc<Service>, Departure> {
        let service = self.door.directory.service(&self.endpoint.service);
        match service {
            Some(service) if service.allowlist.permits(&address) => Ok(service),
            _ => Err(Refusal::NotPermitted { address }.into()),
        }
    }

    fn choose(&self, service: &Service) -> Result<Choice, Failure> {
        choose(self.door, service, self.endpoint.access).map_err(|reason| {
            let hopeless = match reason {
                Unavailable::NoStandby => service.nodes.len() < 2,
                Unavailable::PoweredOff => true,
                _ => false,
            };
            let refusal = Refusal::NoPrimary { service: service.name.clone(), reason };
            if hopeless { Failure::Final(refusal.into()) } else { Failure::Passing(refusal.into()) }
        })
    }

    /// A slot for a session.
    ///
    /// # Errors
    /// [`Refusal::PlanFull`].
    pub async fn session_slot(&self, service: &Service, node: &Node) -> Result<Slot, Failure> {
        let policy = self.door.policy();
        let slot = self.door.slots.session(node, self.since, policy.session_wait).await;
        slot.map_err(|Refused { counts }| {
            Failure::Final(plan_full(self.door, self.endpoint, service, counts).into())
        })
    }

    /// A slot for a session, or a connection of this pool.
    ///
    /// # Errors
    /// [`Refusal::PlanFull`].
    pub async fn session_grant(
        &self,
        service: &Service,
        node: &Node,
        pool: PoolId,
    ) -> Result<Grant, Failure> {
        let wait = self.door.policy().session_wait;
        let granted = self.door.slots.session_of(node, Some(pool), self.since, wait).await;
        granted.map_err(|Refused { counts }| {
            Failure::Final(plan_full(self.door, self.endpoint, service, counts).into())
        })
    }

    /// Opens a connection with this slot and logs in.
    ///
    /// # Errors
    /// Passing for trouble with the node, final for the server's own refusals.
    pub async fn open(
        &self,
        lead: &Lead,
        guarded: bool,
        slot: Slot,
    ) -> Result<(ServerConnection, LoggedIn), Failure> {
        let node = &lead.node;
        let turn = slot.node().trial().await;
        let started = Instant::now();
        let deadline = started + self.door.policy.load().server_connect_timeout;
        let parameters = standing::guarded(self.parameters, guarded);
        let keys = self.keys_now();
        let credentials = Credentials { parameters: &parameters, keys: &keys };
        let nonce = random();
        let opened = ServerConnection::open(
            lead.clone(),
            slot,
            credentials,
            &self.door.dialer,
            &self.door.closer,
            deadline,
            &nonce,
        );
        match opened.await {
            Ok(done) => {
                turn.succeeded();
                self.check(lead, guarded, &done.1)?;
                warn_of_trust(node, &done);
                let seconds = started.elapsed().as_secs_f64();
                self.door.metrics.server_connected(self.endpoint.mode, seconds);
                Ok(done)
            }
            Err(OpenError::Login(LoginFailure::Refused { sqlstate, messages }))
                if self.is_outdated(&sqlstate, &keys) =>
            {
                turn.succeeded();
                Err(Failure::Passing(Departure::Answered(messages)))
            }
            Err(error) => {
                let failure = self.judge(node, &error);
                match &failure {
                    Failure::Passing(_) => turn.failed(),
                    // It answered.
                    Failure::Final(_) => turn.succeeded(),
                }
                Err(failure)
            }
        }
    }

    /// What the server itself says of its role (decision 31): the probes may be
    /// behind it.
    fn check(&self, lead: &Lead, guarded: bool, logged_in: &LoggedIn) -> Result<(), Failure> {
        let said = Standing::of(&logged_in.greeting);
        let should_replay = self.endpoint.access == Access::ReadOnly && !guarded;
        if said.in_hot_standby.is_none_or(|replays| replays == should_replay) {
            return Ok(());
        }
        let node = &lead.node;
        tracing::info!(service = %node.service, node = %node.address, "the node has another role");
        self.door.evidence.suspect(node);
        Err(Failure::Passing(self.unreachable()))
    }

    /// What logs the role in at this moment.
    fn keys_now(&self) -> Arc<Keys> {
        self.door.verifiers.keys(&self.endpoint.service, &self.role(), self.keys)
    }

    fn role(&self) -> Cow<'_, str> {
        let role = self.parameters.iter().find(|(name, _)| name == "user");
        role.map(|(_, role)| String::from_utf8_lossy(role)).unwrap_or_default()
    }

    /// Whether the server refused these keys because the role's password was
    /// replaced, with a grace time, since they were chosen.
    fn is_outdated(&self, sqlstate: &str, keys: &Arc<Keys>) -> bool {
        let verifiers = &self.door.verifiers;
        sqlstate == SqlState::INVALID_PASSWORD.as_str()
            && (!Arc::ptr_eq(keys, &self.keys_now())
                || verifiers.is_rotating(&self.endpoint.service, &self.role()))
    }

    /// Trouble that may pass is reported and waited out; the server's own
    /// refusals are the client's answer.
    fn judge(&self, node: &Node, error: &OpenError) -> Failure {
        let evidence = || {
            tracing::info!(service = %node.service, node = %node.address, %error, "server login failed");
            self.door.evidence.suspect(node);
        };
        match error {
            OpenError::Dial(DialError::NoTls | DialError::Tls(_) | DialError::Authority(_)) => {
                tracing::warn!(service = %node.service, node = %node.address, %error, "the node cannot be trusted");
                Failure::Final(Refusal::ServerLogin(ServerLoginFailure::Untrusted).into())
            }
            OpenError::Dial(_) | OpenError::Timeout => {
                evidence();
                Failure::Passing(self.unreachable())
            }
            OpenError::Login(LoginFailure::Refused { sqlstate, messages }) => {
                let answered = Departure::Answered(messages.clone());
                if matches!(sqlstate.as_str(), "57P01" | "57P02" | "57P03") {
                    evidence();
                    return Failure::Passing(answered);
                }
                let of_the_role = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION];
                if of_the_role.iter().any(|state| state.as_str() == sqlstate) {
                    // The verifier may have changed since it was looked up.
                    self.door.verifiers.doubt(&node.service, &self.role());
                }
                Failure::Final(answered)
            }
            OpenError::Login(LoginFailure::Io(_)) => {
                evidence();
                Failure::Passing(Refusal::ServerLogin(ServerLoginFailure::Broken).into())
            }
            OpenError::Login(failure) => {
                tracing::warn!(service = %node.service, node = %node.address, %error, "server login failed");
                Failure::Final(Refusal::ServerLogin(failure.kind()).into())
            }
        }
    }

    fn unreachable(&self) -> Departure {
        let service = self.endpoint.service.clone();
        Refusal::NoPrimary { service, reason: Unavailable::Unreachable }.into()
    }
}

/// A server that asks for no password (`trust`, `peer`) is let have its way, as
/// libpq's `require_auth` does by default: the operator may have meant it. Unless
/// its certificate was verified or its socket is on this host, anybody who can
/// answer at its address could do the same, so the log says so once.
fn warn_of_trust(node: &Node, (server, logged_in): &(ServerConnection, LoggedIn)) {
    let is_known = matches!(node.tls, NodeTls::VerifyCa | NodeTls::VerifyFull)
        || matches!(node.address, NodeAddress::Unix { .. });
    if !logged_in.proven && !is_known && server.is_first_unproven() {
        tracing::warn!(
            service = %node.service, node = %node.address,
            "the node lets roles in without a password and its certificate is not verified: \
             use scram-sha-256 in its pg_hba.conf, or node_tls = \"verify-full\""
        );
    }
}

/// The plan's connections are all in use, and by whom (decision 43).
#[must_use]
pub fn plan_full(
    door: &FrontDoor,
    endpoint: &Endpoint,
    service: &Service,
    counts: Counts,
) -> Refusal {
    let pooled_port = door.policy.load().pooled_port;
    let mut plan_use = PlanUse {
        plan: service.plan.name.to_string(),
        used: counts.used(),
        limit: counts.capacity,
        pooled_port: pooled_port.filter(|_| endpoint.mode == PoolMode::Session),
        ..PlanUse::default()
    };
    door.roster.explain(&service.name, &mut plan_use);
    Refusal::PlanFull(Box::new(plan_use))
}

//! From the proof to the first `ReadyForQuery`: seat, slot, server login.
//!
//! The client hears `AuthenticationOk` and what the server says in one write
//! (decision 13). Without a primary the login is held, for at most
//! `failover_wait`; whatever a node does meanwhile is evidence, not a verdict.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::authenticate::{Known, unless_gone};
use super::cancel::{CancelTarget, cancel_key};
use super::door::random;
use super::farewell::{Acquaintance, turn_away};
use super::introduce::Client;
use super::{Departure, FrontDoor};
use crate::auth::client::Keys;
use crate::directory::cancel_keys::Registration;
use crate::directory::roster::{Activity, Occupant, Seated};
use crate::directory::{Node, Service};
use crate::domain::refusal::{PlanUse, Unavailable};
use crate::domain::{Access, Endpoint, PoolMode, Refusal, ServiceName};
use crate::net::Connection;
use crate::pool::server::{Credentials, OpenError, ServerConnection};
use crate::pool::{Refused, Slot};
use crate::upstream::{LoggedIn, LoginFailure};
use crate::wire::answer;

/// Between two attempts on a node that does not take logins.
const RETRY: Duration = Duration::from_millis(100);

/// A session: a client and its server connection.
pub struct Established {
    /// The client's side.
    pub client: Connection,
    /// The server's side, with its slot.
    pub server: ServerConnection,
    /// The session's seat.
    pub seat: Seated,
    /// Its cancel key.
    pub cancel: Option<Registration<CancelTarget>>,
}

impl Known {
    /// Takes a seat and a slot, logs in on the node and tells the client.
    pub async fn log_in(self, door: &FrontDoor) -> Option<Established> {
        let Self { client, allowed: _, endpoint, role, parameters, keys, sasl_final } = self;
        let Client { mut connection, address, version, stranger, clock, .. } = client;
        drop(stranger);
        let occupant = occupant(&endpoint, &role, &parameters, address);
        let attempt = Attempt { door, endpoint: &endpoint, parameters: &parameters, keys: &keys };
        let logged_in = attempt.run(&mut connection, occupant).await;
        door.metrics.login_answered(endpoint.mode, clock.came_at.elapsed().as_secs_f64());
        match logged_in {
            Ok((seat, server, logged_in)) => {
                let mut out = sasl_final;
                let long_key = version.has_long_cancel_keys();
                let cancel = greet(door, &mut out, &seat, &server, &logged_in, long_key);
                connection.send(&out).await.ok()?;
                door.metrics.session_began(&endpoint.service, endpoint.mode);
                Some(Established { client: connection, server, seat, cancel })
            }
            Err(departure) => {
                let authenticated = Some((&endpoint.service, role.as_str()));
                let departure = after_authentication(departure, sasl_final);
                let who = Acquaintance { address, authenticated };
                turn_away(door, connection, departure, who).await;
                None
            }
        }
    }
}

/// What the server says after it let the role in, it says to a client that is
/// let in.
fn after_authentication(departure: Departure, sasl_final: BytesMut) -> Departure {
    match departure {
        Departure::Answered(messages) => {
            let mut out = sasl_final;
            answer::authentication_ok(&mut out);
            out.extend_from_slice(&messages);
            Departure::Answered(out.freeze())
        }
        other => other,
    }
}

fn occupant(
    endpoint: &Endpoint,
    role: &str,
    parameters: &[(Bytes, Bytes)],
    address: crate::domain::ClientAddress,
) -> Occupant {
    let text = |name: &str| {
        let value = parameters.iter().rev().find(|(n, _)| n == name.as_bytes());
        value.map(|(_, value)| String::from_utf8_lossy(value).chars().take(64).collect::<String>())
    };
    Occupant {
        endpoint: endpoint.clone(),
        role: role.to_owned(),
        database: text("database").filter(|name| !name.is_empty()).unwrap_or_else(|| role.into()),
        application: text("application_name").unwrap_or_default(),
        address,
    }
}

/// Appends everything from `AuthenticationOk` to `ReadyForQuery`.
fn greet(
    door: &FrontDoor,
    out: &mut BytesMut,
    seat: &Seated,
    server: &ServerConnection,
    logged_in: &LoggedIn,
    long_key: bool,
) -> Option<Registration<CancelTarget>> {
    answer::authentication_ok(out);
    out.extend_from_slice(&logged_in.greeting);
    let registration = (server.process_id() != 0).then(|| {
        let key = cancel_key(long_key);
        answer::backend_key(out, server.process_id(), &key);
        let target = CancelTarget {
            service: seat.occupant.endpoint.service.clone(),
            node: Arc::clone(server.node()),
            backend: server.backend().cloned(),
        };
        door.cancel_keys.register(server.process_id(), &key, Arc::new(target))
    });
    answer::ready(out);
    seat.set_activity(Activity::Idle);
    registration
}

/// Why a service has nobody to serve a client at the moment.
pub fn unavailable(door: &FrontDoor, service: &ServiceName) -> Refusal {
    let primary = door.directory.service(service).map(|service| service.topology.primary.clone());
    let reason = match primary {
        Some(Err(reason)) => reason,
        Some(Ok(_)) | None => Unavailable::Unreachable,
    };
    Refusal::NoPrimary { service: service.clone(), reason }
}

/// One client's attempts to get a server connection.
struct Attempt<'a> {
    door: &'a FrontDoor,
    endpoint: &'a Endpoint,
    parameters: &'a [(Bytes, Bytes)],
    keys: &'a Keys,
}

type Session = (Seated, ServerConnection, LoggedIn);

impl Attempt<'_> {
    async fn run(
        &self,
        connection: &mut Connection,
        occupant: Occupant,
    ) -> Result<Session, Departure> {
        let max_clients = self.door.policy.load().max_clients;
        let seat = self.door.roster.take(occupant, max_clients);
        let seat = seat.map_err(|_| Refusal::TooManyClients)?;
        let address = seat.occupant.address;
        let (server, logged_in) = unless_gone(connection, self.until_given_up(&seat)).await??;
        // The list may have changed while the login went on: whoever is
        // seated is told by the reload, whoever comes later looks himself.
        let _service = self.service(address)?;
        Ok((seat, server, logged_in))
    }

    /// Tries until it works, is final, or has taken `failover_wait`. An order
    /// to leave ends it.
    async fn until_given_up(
        &self,
        seat: &Seated,
    ) -> Result<(ServerConnection, LoggedIn), Departure> {
        let give_up = Instant::now() + self.door.policy.load().failover_wait;
        let mut changes = self.door.directory.subscribe();
        let mut held = None;
        loop {
            if let Some(refusal) = seat.order().refusal() {
                return Err(refusal.into());
            }
            let failure = match self.once(seat.occupant.address).await {
                Ok(done) => return Ok(done),
                Err(Failure::Final(departure)) => return Err(departure),
                Err(Failure::Passing(departure)) => departure,
            };
            let most = self.door.policy.load().failover_max_held;
            held = held.or_else(|| self.door.held.admit(&self.endpoint.service, most));
            if held.is_none() || Instant::now() >= give_up {
                return Err(failure);
            }
            let retry_at = (Instant::now() + RETRY).min(give_up);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(retry_at) => {}
            }
        }
    }

    async fn once(
        &self,
        address: crate::domain::ClientAddress,
    ) -> Result<(ServerConnection, LoggedIn), Failure> {
        let service = self.service(address).map_err(Failure::Final)?;
        let node = self.choose(&service)?;
        let slot = self.slot(&service, &node).await.map_err(Failure::Final)?;
        let started = Instant::now();
        let deadline = started + self.door.policy.load().server_connect_timeout;
        let credentials = Credentials { parameters: self.parameters, keys: self.keys };
        let nonce = random();
        let opened = ServerConnection::open(
            Arc::clone(&node),
            slot,
            credentials,
            &self.door.dialer,
            &self.door.closer,
            deadline,
            &nonce,
        );
        match opened.await {
            Ok(done) => {
                let seconds = started.elapsed().as_secs_f64();
                self.door.metrics.server_connected(self.endpoint.mode, seconds);
                Ok(done)
            }
            Err(error) => Err(self.judge(&node, &error)),
        }
    }

    /// The service as it is now: allowlist and plan may have changed.
    fn service(&self, address: crate::domain::ClientAddress) -> Result<Arc<Service>, Departure> {
        let service = self.door.directory.service(&self.endpoint.service);
        match service {
            Some(service) if service.allowlist.permits(&address) => Ok(service),
            _ => Err(Refusal::NotPermitted { address }.into()),
        }
    }

    fn choose(&self, service: &Service) -> Result<Arc<Node>, Failure> {
        let refuse = |reason: &Unavailable| {
            let (service, reason) = (service.name.clone(), reason.clone());
            Failure::Passing(Refusal::NoPrimary { service, reason }.into())
        };
        match self.endpoint.access {
            Access::ReadWrite => service.topology.primary.clone().map_err(|reason| refuse(&reason)),
            Access::ReadOnly => {
                Err(Failure::Final(refuse(&Unavailable::NoStandby).into_departure()))
            }
        }
    }

    async fn slot(&self, service: &Service, node: &Node) -> Result<Slot, Departure> {
        let policy = self.door.policy();
        let slot = self.door.slots.session(node, policy.session_wait).await;
        slot.map_err(|Refused { counts }| {
            let mut plan_use = PlanUse {
                plan: service.plan.name.to_string(),
                used: counts.held + counts.closing,
                limit: counts.capacity,
                pooled_port: policy.pooled_port.filter(|_| self.endpoint.mode == PoolMode::Session),
                ..PlanUse::default()
            };
            self.door.roster.explain(&service.name, &mut plan_use);
            Refusal::PlanFull(Box::new(plan_use)).into()
        })
    }

    /// Trouble that may pass is reported and waited out; the server's own
    /// refusals are the client's answer.
    fn judge(&self, node: &Node, error: &OpenError) -> Failure {
        let evidence = || {
            tracing::info!(service = %node.service, node = %node.address, %error, "server login failed");
            self.door.evidence.suspect(node);
        };
        match error {
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
                if matches!(sqlstate.as_str(), "28P01" | "28000") {
                    // The verifier may have changed since it was looked up.
                    let role = self.parameters.iter().find(|(name, _)| name == "user");
                    let role = role.map(|(_, role)| String::from_utf8_lossy(role));
                    self.door.verifiers.doubt(&node.service, &role.unwrap_or_default());
                }
                Failure::Final(answered)
            }
            OpenError::Login(LoginFailure::Io(_)) => {
                evidence();
                Failure::Passing(
                    Refusal::ServerLogin(crate::domain::refusal::ServerLoginFailure::Broken).into(),
                )
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

/// Whether another attempt may help.
enum Failure {
    Passing(Departure),
    Final(Departure),
}

impl Failure {
    fn into_departure(self) -> Departure {
        match self {
            Self::Passing(departure) | Self::Final(departure) => departure,
        }
    }
}

//! From the proof to the first `ReadyForQuery`: seat, slot, server login.
//!
//! The client hears `AuthenticationOk` and what the server says in one write
//! (decision 13). Without a primary the login is held, for at most
//! `failover_wait`; whatever a node does meanwhile is evidence, not a verdict.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::attempt::Attempt;
use super::authenticate::{Known, unless_gone};
use super::cancel::{CancelTarget, cancel_key};
use super::farewell::{Acquaintance, turn_away};
use super::introduce::Client;
use super::reuse::{Lent, obtain};
use super::{Departure, FrontDoor};
use crate::auth::client::Keys;
use crate::directory::cancel_keys::Registration;
use crate::directory::roster::{Activity, Occupant, Seated};
use crate::domain::refusal::Unavailable;
use crate::domain::{Endpoint, PoolMode, Refusal, ServiceName};
use crate::net::Connection;
use crate::pool::ServerConnection;
use crate::wire::answer;

/// A session: a client and its server connection.
pub struct Established {
    /// The client's side.
    pub client: Connection,
    /// The server's side, with its slot.
    pub server: Lent,
    /// The session's seat.
    pub seat: Seated,
    /// Its cancel key.
    pub cancel: Option<Registration<CancelTarget>>,
}

impl Known {
    /// Takes a seat and a slot, logs in on the node and tells the client.
    pub async fn log_in(self: Box<Self>, door: &FrontDoor) -> Option<Box<Established>> {
        let Self { client, allowed: _, endpoint, role, parameters, keys, sasl_final } = *self;
        let keys = Arc::new(keys);
        let Client { mut connection, address, version, stranger, clock, .. } = client;
        drop(stranger);
        let occupant = occupant(&endpoint, &role, &parameters, address);
        let since = std::time::Instant::now();
        let attempt =
            Attempt { door, endpoint: &endpoint, parameters: &parameters, keys: &keys, since };
        let logged_in = log_in(&attempt, &keys, &mut connection, occupant).await;
        door.metrics.login_answered(endpoint.mode, clock.came_at.elapsed().as_secs_f64());
        match logged_in {
            Ok((seat, mut server, greeting)) => {
                let mut out = sasl_final;
                let long_key = version.has_long_cancel_keys();
                let cancel = greet(door, &mut out, &seat, server.server(), &greeting, long_key);
                connection.send(&out).await.ok()?;
                door.metrics.session_began(&endpoint.service, endpoint.mode);
                Some(Box::new(Established { client: connection, server, seat, cancel }))
            }
            Err(departure) => {
                let departure = after_authentication(departure, sasl_final);
                let who = Acquaintance::known(address, &endpoint.service, &role);
                turn_away(door, connection, departure, who).await;
                None
            }
        }
    }
}

/// What the server says after it let the role in, it says to a client that is
/// let in.
pub fn after_authentication(departure: Departure, sasl_final: BytesMut) -> Departure {
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

/// Who sits down, as far as the startup packet says.
pub fn occupant(
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
    greeting: &[u8],
    long_key: bool,
) -> Option<Registration<CancelTarget>> {
    answer::authentication_ok(out);
    out.extend_from_slice(greeting);
    let registration = (server.process_id() != 0).then(|| {
        let key = cancel_key(long_key);
        answer::backend_key(out, server.process_id(), &key);
        let target = CancelTarget::new(seat.occupant.endpoint.service.clone());
        target.aim_at(server.backend());
        door.cancel_keys.register(server.process_id(), &key, Arc::new(target))
    });
    answer::ready(out);
    seat.set_activity(Activity::Idle);
    registration
}

/// Why a service has nobody to serve a client at the moment.
pub fn unavailable(door: &FrontDoor, service: &ServiceName) -> Refusal {
    let found = door.directory.service(service);
    let reason = match found.as_ref().map(|service| service.primary()) {
        Some(Err(reason)) => reason.clone(),
        Some(Ok(_)) | None => Unavailable::Unreachable,
    };
    Refusal::NoPrimary { service: service.clone(), reason }
}

type Session = (Seated, Lent, BytesMut);

/// Takes a seat, then a slot, and logs in with it; stops if the client goes.
async fn log_in(
    attempt: &Attempt<'_>,
    keys: &Arc<Keys>,
    connection: &mut Connection,
    occupant: Occupant,
) -> Result<Session, Departure> {
    let seat = take_seat(attempt.door, occupant)?;
    if attempt.parameters.iter().any(|(name, _)| name == "replication") {
        seat.set_unlimited();
    }
    let obtained = attempt.until_given_up(&seat, |target| Box::pin(obtain(attempt, keys, target)));
    let (server, greeting) = unless_gone(connection, obtained).await??;
    // The list may have changed while the login went on: whoever is seated is
    // told by the reload, whoever comes later looks himself.
    attempt.service(seat.occupant.address)?;
    Ok((seat, server, greeting))
}

/// A seat, if `max_clients` and, on the transaction endpoint, the service's
/// `max_pooled_clients` allow one more.
///
/// # Errors
/// [`Refusal::TooManyClients`], [`Refusal::TooManyPooledClients`].
pub fn take_seat(door: &FrontDoor, occupant: Occupant) -> Result<Seated, Departure> {
    let max_clients = door.policy.load().max_clients;
    let seat = door.roster.take(occupant, max_clients).map_err(|_| Refusal::TooManyClients)?;
    let endpoint = &seat.occupant.endpoint;
    let service = door.directory.service(&endpoint.service);
    let limits = service.and_then(|service| Some(service.nodes.first()?.pooling.clients));
    let most = limits.and_then(|limits| limits.max_pooled_clients);
    if let Some(most) = most.filter(|_| endpoint.mode == PoolMode::Transaction)
        && door.roster.pooled(&endpoint.service) > most
    {
        return Err(Refusal::TooManyPooledClients { most }.into());
    }
    Ok(seat)
}

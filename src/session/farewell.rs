//! How a client is turned away: it is told why, counted under one label, and
//! its socket is gone soon, whatever it does (trap A-31).

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::time::timeout;

use super::{Departure, FrontDoor};
use crate::directory::{Refused, Seat};
use crate::domain::refusal::Overdue;
use crate::domain::{ClientAddress, Refusal, ServiceName};
use crate::net::Connection;
use crate::wire::answer::{self, Severity};

/// How long a client may take to read why it is turned away.
const TELL: Duration = Duration::from_secs(2);
/// How long a client may take to read the end of its session.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long Postern reads what such a client still sends: closing a socket
/// with unread input would destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(1);

/// What is known about someone who is turned away.
#[derive(Debug, Clone, Copy)]
pub struct Acquaintance<'a> {
    /// Where from.
    pub address: ClientAddress,
    /// The service asked for, once it is known to be there: for the operator
    /// alone.
    pub asked: Option<&'a ServiceName>,
    /// The service and role, once it is proved that they are its own.
    pub authenticated: Option<(&'a ServiceName, &'a str)>,
}

impl<'a> Acquaintance<'a> {
    /// Who has proved nothing.
    #[must_use]
    pub fn stranger(address: ClientAddress, asked: Option<&'a ServiceName>) -> Self {
        Self { address, asked, authenticated: None }
    }

    /// Who has proved to be this role.
    #[must_use]
    pub fn known(address: ClientAddress, service: &'a ServiceName, role: &'a str) -> Self {
        Self { address, asked: Some(service), authenticated: Some((service, role)) }
    }
}

/// Turns a client away.
pub async fn turn_away(
    door: &FrontDoor,
    connection: Connection,
    departure: Departure,
    who: Acquaintance<'_>,
) {
    let mut out = BytesMut::new();
    match departure {
        Departure::Silent(reason) => {
            tracing::debug!(address = %who.address, reason, "connection closed");
            return;
        }
        Departure::Refused(refusal) => refuse(door, &mut out, &refusal, who),
        Departure::Answered(messages) => {
            let service = who.authenticated.map(|(service, _)| service);
            door.metrics.refused(service, "server_refused");
            out.extend_from_slice(&messages);
        }
    }
    Box::pin(tell(connection, &out)).await;
}

async fn tell(mut connection: Connection, out: &[u8]) {
    let tell = async {
        connection.send(out).await?;
        connection.close().await
    };
    if let Ok(Ok(())) = timeout(TELL, tell).await {
        let _ = timeout(LINGER, connection.read_to_end()).await;
    }
}

fn refuse(door: &FrontDoor, out: &mut BytesMut, refusal: &Refusal, who: Acquaintance<'_>) {
    let told = refusal.answer();
    let service = who.authenticated.map(|(service, _)| service);
    door.metrics.refused(service, told.label);
    let id = refusal_id();
    let role = who.authenticated.map(|(_, role)| role);
    tracing::info!(
        refusal = id, reason = told.label, sqlstate = told.sqlstate.as_str(), address = %who.address,
        service = who.asked.map(tracing::field::display), role = role.map(tracing::field::debug),
        detail = told.detail.as_deref(), "client refused",
    );
    answer::error(out, Severity::Fatal, &told, role.is_some().then_some(id.as_str()));
    door.refusals.note(Refused {
        id,
        at: SystemTime::now(),
        address: who.address,
        service: who.asked.cloned(),
        role: role.map(str::to_owned),
        told,
    });
}

/// Appends what a session hears at its end, and counts it.
pub fn end_session(door: &FrontDoor, out: &mut BytesMut, seat: &Seat, refusal: &Refusal) {
    let address = seat.occupant.address;
    let who = Acquaintance::known(address, &seat.occupant.endpoint.service, &seat.occupant.role);
    refuse(door, out, refusal, who);
}

/// Counts a session that ends because its client does not read what it is
/// sent: it would not read why, either.
pub fn count_stalled(door: &FrontDoor, seat: &Seat) {
    let told = Refusal::Overdue(Overdue::Write).answer();
    door.metrics.refused(Some(&seat.occupant.endpoint.service), told.label);
}

/// Appends what a client hears whose statement cannot be run, but whose
/// session goes on.
pub fn statement_refused(door: &FrontDoor, out: &mut BytesMut, seat: &Seat, refusal: &Refusal) {
    let told = refusal.answer();
    door.metrics.refused(Some(&seat.occupant.endpoint.service), told.label);
    answer::error(out, Severity::Error, &told, None);
}

/// Sends a client the last that it hears, if it reads that soon, and closes.
pub async fn close(client: &mut Connection, said: &[u8]) {
    let close = async {
        client.send(said).await?;
        client.close().await
    };
    let _ = timeout(LAST_WORDS, close).await;
}

/// How a session ended, for the log.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Who ended it.
    pub reason: &'static str,
    /// The error of the connection that broke.
    pub error: Option<&'a std::io::Error>,
    /// What the client was told.
    pub told: Option<&'a Refusal>,
}

/// Writes the one line that every session leaves.
pub fn log_end(seat: &Seat, lasted: Duration, ending: &Ending<'_>) {
    let traffic = seat.traffic();
    let occupant = &seat.occupant;
    tracing::info!(
        service = %occupant.endpoint.service,
        endpoint = %occupant.endpoint.mode,
        role = ?occupant.role,
        database = ?occupant.database,
        address = %occupant.address,
        seconds = lasted.as_secs_f64(),
        received = traffic.received,
        sent = traffic.sent,
        reason = ending.reason,
        error = ending.error.map(tracing::field::display),
        told = ending.told.map(|refusal| refusal.answer().sqlstate.as_str()),
        "session ended"
    );
}

/// Eight characters that are easily read to someone.
fn refusal_id() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let random: [u8; 8] = super::door::random();
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

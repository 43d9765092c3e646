//! The client proves its password (decision 19).
//!
//! Whatever is asked of whomever, the messages and their times are the same
//! for a role that exists and for one that does not (trap A-11).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::door::random;
use super::farewell::{Acquaintance, turn_away};
use super::introduce::{Admitted, Client};
use super::{Departure, FrontDoor};
use crate::admission::Allowed;
use crate::auth::Lookup;
use crate::auth::client::Keys;
use crate::auth::scram::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::auth::server::{Binding, Candidate, Exchange, Failure, Proven};
use crate::auth::throttle::Suspect;
use crate::auth::verifier::NoVerifier;
use crate::domain::refusal::{ProtocolViolation, Unavailable};
use crate::domain::{Endpoint, Refusal, ServiceName};
use crate::net::Connection;
use crate::wire::answer;
use crate::wire::login::{self, MAX_SASL_MESSAGE};

/// Between two attempts to look a verifier up while no node answers.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes of a role's name: PostgreSQL's `NAMEDATALEN` less its terminator.
const LONGEST_ROLE: usize = 63;

/// A client whose role is its own.
#[derive(Debug)]
pub struct Known {
    /// The client.
    pub client: Client,
    /// The service, as the allowlist saw it.
    pub allowed: Allowed,
    /// The service and the way into it.
    pub endpoint: Endpoint,
    /// The role.
    pub role: String,
    /// The startup parameters for the server.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// Those of the password that it has proved.
    pub keys: Keys,
    /// `AuthenticationSASLFinal`, to be sent with what comes next.
    pub sasl_final: BytesMut,
}

impl Admitted {
    /// Authenticates the client.
    pub async fn authenticate(mut self, door: &FrontDoor) -> Option<Known> {
        match self.exchange(door).await {
            Ok(Proven { keys, server_final }) => {
                let mut sasl_final = BytesMut::new();
                answer::sasl_final(&mut sasl_final, server_final.as_bytes());
                let Self { client, allowed, endpoint, role, parameters } = self;
                let role = String::from_utf8_lossy(&role).into_owned();
                Some(Known { client, allowed, endpoint, role, parameters, keys, sasl_final })
            }
            Err(departure) => {
                let asked = Some(&self.endpoint.service);
                let who = Acquaintance::stranger(self.client.address, asked);
                turn_away(door, self.client.connection, departure, who).await;
                None
            }
        }
    }

    async fn exchange(&mut self, door: &FrontDoor) -> Result<Proven, Departure> {
        let guess = door.guesses.attempt(self.suspect());
        if !guess.wait.is_zero() {
            self.patiently(tokio::time::sleep(guess.wait)).await?;
        }
        let (candidate, no_verifier) = self.candidate(door).await?;
        match self.sasl(candidate).await {
            Ok(proven) => Ok(proven),
            Err(Sasl::Departure(departure)) => Err(departure),
            Err(Sasl::Failure(failure)) => {
                if failure == Failure::Password {
                    guess.was_wrong();
                    self.report(door, no_verifier);
                }
                Err(failure.refusal(&self.user()).into())
            }
        }
    }

    fn user(&self) -> String {
        String::from_utf8_lossy(&self.role).into_owned()
    }

    fn suspect(&self) -> Suspect {
        // No role has a longer name, so longer ones are one guesser's.
        let role = String::from_utf8_lossy(&self.role[..self.role.len().min(LONGEST_ROLE)]);
        let who = format!("{}/{role}", self.endpoint.service);
        (self.client.address.network(), who.into())
    }

    /// The real reason is for the operator only.
    fn report(&self, door: &FrontDoor, no_verifier: Option<NoVerifier>) {
        let reason = if let Some(reason) = no_verifier {
            reason.hint()
        } else {
            door.verifiers.doubt(&self.endpoint.service, &self.user());
            "the password is wrong"
        };
        tracing::info!(
            service = %self.endpoint.service, role = ?self.user(), address = %self.client.address,
            reason, "password authentication failed"
        );
    }

    /// The role's verifier, or a mock one. While no node can be asked, the
    /// login is held as one without a primary is.
    async fn candidate(
        &mut self,
        door: &FrontDoor,
    ) -> Result<(Candidate, Option<NoVerifier>), Departure> {
        let service = self.endpoint.service.clone();
        let lookup = match std::str::from_utf8(&self.role) {
            Ok(role) => {
                if let Some(lookup) = door.verifiers.known(&service, role) {
                    lookup
                } else {
                    let (role, endpoint) = (role.to_owned(), self.endpoint.clone());
                    let lookup = Box::pin(held_lookup(door, &endpoint, &role));
                    self.patiently(lookup).await??
                }
            }
            Err(_) => Lookup::Refused(NoVerifier::UnknownRole),
        };
        Ok(match lookup {
            Lookup::Verifier(verifier) => (Candidate::Real(verifier), None),
            Lookup::Rotated { current, previous } => {
                (Candidate::Rotated { current, previous }, None)
            }
            Lookup::Refused(reason) => {
                let iterations = door.verifiers.iterations(&service);
                let mock = door.mocks.verifier(&service, &self.role, iterations);
                (Candidate::Mock(mock), Some(reason))
            }
        })
    }

    /// Waits for something of ours without holding it against the client's
    /// time, and stops if the client goes.
    async fn patiently<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Departure> {
        let started = Instant::now();
        let done = unless_gone(&mut self.client.connection, work).await?;
        self.client.clock.deadline += started.elapsed();
        Ok(done)
    }

    async fn sasl(&mut self, candidate: Candidate) -> Result<Proven, Sasl> {
        let deadline = self.client.clock.deadline;
        let said = timeout_at(deadline, self.converse(candidate)).await;
        said.unwrap_or(Err(Sasl::Departure(Refusal::LoginTimeout.into())))
    }

    async fn converse(&mut self, candidate: Candidate) -> Result<Proven, Sasl> {
        let binding = match self.client.tls.binding.clone() {
            Some(hash) => Binding::EndPoint(hash),
            None => Binding::Unavailable,
        };
        let connection = &mut self.client.connection;
        let mut out = BytesMut::new();
        answer::sasl_mechanisms(&mut out, binding.mechanisms());
        connection.send(&out).await.map_err(Departure::from)?;
        let initial = login::parse_sasl_initial(read_sasl(connection).await?);
        let initial = initial.ok_or(violation(ProtocolViolation::SaslMechanism))?;
        let plus = match &initial.mechanism[..] {
            name if name == SCRAM_SHA_256.as_bytes() => false,
            name if name == SCRAM_SHA_256_PLUS.as_bytes() && binding != Binding::Unavailable => {
                true
            }
            _ => return Err(violation(ProtocolViolation::SaslMechanism)),
        };
        let client_first = match initial.data {
            Some(data) => data,
            None => ask_for_client_first(connection).await?,
        };
        let exchange = Exchange::begin(&client_first, plus, &binding, candidate, &random())?;
        out.clear();
        answer::sasl_continue(&mut out, exchange.server_first().as_bytes());
        connection.send(&out).await.map_err(Departure::from)?;
        let client_final = read_sasl(connection).await?;
        Ok(exchange.finish(&client_final)?)
    }
}

/// A client may choose its mechanism and say client-first only when asked.
async fn ask_for_client_first(connection: &mut Connection) -> Result<Bytes, Sasl> {
    let mut out = BytesMut::new();
    answer::sasl_continue(&mut out, b"");
    connection.send(&out).await.map_err(Departure::from)?;
    read_sasl(connection).await
}

/// How an exchange ends without a proof.
enum Sasl {
    Departure(Departure),
    Failure(Failure),
}

impl From<Departure> for Sasl {
    fn from(departure: Departure) -> Self {
        Self::Departure(departure)
    }
}

impl From<Failure> for Sasl {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn violation(violation: ProtocolViolation) -> Sasl {
    Sasl::Failure(Failure::Violation(violation))
}

/// The body of the next password message, the only one allowed here.
async fn read_sasl(connection: &mut Connection) -> Result<Bytes, Sasl> {
    loop {
        if let Some(kind) = connection.input.first().filter(|kind| **kind != b'p') {
            return Err(violation(ProtocolViolation::ExpectedSasl(*kind)));
        }
        match login::take_message(&mut connection.input, MAX_SASL_MESSAGE) {
            Ok(Some(message)) => return Ok(message.body()),
            Ok(None) => {}
            // PostgreSQL says nothing to a message of impossible length.
            Err(_) => {
                return Err(Departure::Silent("a password message of impossible length").into());
            }
        }
        if connection.fill().await.map_err(Departure::from)? == 0 {
            return Err(Departure::Silent("closed during authentication").into());
        }
    }
}

/// The most a client may send before it is its turn.
pub const MAX_EARLY_INPUT: usize = 64 * 1024;

/// Does some work for a client, unless the client goes first. What it sends
/// meanwhile is kept, within bounds.
pub async fn unless_gone<T>(
    connection: &mut Connection,
    work: impl Future<Output = T>,
) -> Result<T, Departure> {
    let gone = async {
        while connection.input.len() < MAX_EARLY_INPUT {
            match connection.fill().await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = gone => Err(Departure::Silent("the client left while it waited")),
    }
}

/// Looks a verifier up, again and again while no node answers, for as long as
/// a login may wait for a primary.
async fn held_lookup(
    door: &FrontDoor,
    endpoint: &Endpoint,
    role: &str,
) -> Result<Lookup, Departure> {
    let (policy, service) = (door.policy(), &endpoint.service);
    let give_up = Instant::now() + policy.failover_wait;
    let mut held = None;
    loop {
        let error = match door.verifiers.lookup(service, role).await {
            Ok(lookup) => return Ok(lookup),
            Err(error) => error,
        };
        held = held.or_else(|| door.held.admit(endpoint, policy.failover_max_held));
        if held.is_none() || Instant::now() >= give_up || is_powered_off(door, service) {
            tracing::warn!(%service, %error, "no verifier could be looked up");
            return Err(super::login::unavailable(door, service).into());
        }
        tokio::time::sleep_until((Instant::now() + RETRY).min(give_up)).await;
    }
}

/// Waiting for a service that its owner has powered off is of no use.
fn is_powered_off(door: &FrontDoor, service: &ServiceName) -> bool {
    let service = door.directory.service(service);
    service.is_some_and(|service| service.suspended == Some(Unavailable::PoweredOff))
}

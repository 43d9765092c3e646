//! From the first byte to the service: PROXY header, TLS, startup packet,
//! name, allowlist.
//!
//! Everything here is said by somebody who has proved nothing: packets are
//! bounded, each request is granted once, and one deadline spans it all
//! (traps ). The order and the answers are those of
//! PostgreSQL's `ProcessStartupPacket` (`src/backend/tcop/backend_startup.c`).

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::farewell::{Acquaintance, turn_away};
use super::{Arrived, Departure, FrontDoor};
use crate::admission::{Allowed, Stranger};
use crate::domain::refusal::ProtocolViolation;
use crate::domain::{ClientAddress, Endpoint, PoolMode, Refusal, ServiceName};
use crate::net::Connection;
use crate::net::connection::ClientTls;
use crate::routing::naming::{Destination, Hints, destination};
use crate::shutdown::Phase;
use crate::wire::answer;
use crate::wire::options::{self, Options};
use crate::wire::proxy_header::{self, Progress};
use crate::wire::startup::{self, CancelRequest, NEWEST, Packet, ProtocolVersion, Startup};

/// The first byte of a TLS record with a handshake message.
const TLS_HANDSHAKE: u8 = 0x16;
/// Bytes of a role's name: PostgreSQL's `NAMEDATALEN` less its terminator.
const LONGEST_NAME: usize = 63;
/// The databases of the SQL console (decision 5). A user with a dot may mean a
/// service, and must not learn here whether there is one.
const CONSOLE_DATABASES: [&[u8]; 2] = [b"postern", b"pgbouncer"];

/// A client whose address is known.
#[derive(Debug)]
pub struct Present {
    connection: Connection,
    address: ClientAddress,
    listener: PoolMode,
    stranger: Stranger,
    clock: Clock,
}

/// When a client came, and until when it must have proved who it is.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When it was accepted.
    pub came_at: Instant,
    /// When its time is up.
    pub deadline: Instant,
}

/// A client that has said what it wants.
#[derive(Debug)]
pub enum Introduction {
    /// A query of another session cancelled.
    Cancel(Cancelling),
    /// A session.
    Startup(Introduced),
}

/// A client that wants a query cancelled.
#[derive(Debug)]
pub struct Cancelling {
    /// The request.
    pub request: CancelRequest,
    /// Where it came from.
    pub address: ClientAddress,
    /// Kept open until the cancel is done: the client waits for that.
    pub connection: Connection,
    /// Its permit to be a stranger.
    pub stranger: Stranger,
}

/// A client that wants a session.
#[derive(Debug)]
pub struct Introduced {
    client: Client,
    startup: Startup,
    listener: PoolMode,
}

/// The parts of a client that stay the same until it is authenticated.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub connection: Connection,
    /// Its address.
    pub address: ClientAddress,
    /// What TLS agreed on.
    pub tls: ClientTls,
    /// The protocol that is spoken.
    pub version: ProtocolVersion,
    /// Its permit to be a stranger.
    pub stranger: Stranger,
    /// Its time.
    pub clock: Clock,
}

/// A client that the service's allowlist lets in.
#[derive(Debug)]
pub struct Admitted {
    /// The client.
    pub client: Client,
    /// The proof.
    pub allowed: Allowed,
    /// The service and the way into it.
    pub endpoint: Endpoint,
    /// The role, without the service in it.
    pub role: Bytes,
    /// The startup parameters for the server.
    pub parameters: Vec<(Bytes, Bytes)>,
}

/// Reads the PROXY header where one is mandatory, and counts the client for
/// its network.
pub async fn present(door: &FrontDoor, arrived: Arrived) -> Option<Present> {
    let policy = door.policy();
    let Arrived { socket, peer, listener, mut stranger } = arrived;
    let came_at = Instant::now();
    let clock = Clock { came_at, deadline: came_at + policy.client_login_timeout };
    let mut connection = Connection::plain(socket);
    let mut address = peer;
    if policy.expects_proxy_header(&peer) {
        let header = timeout_at(clock.deadline, read_proxy_header(&mut connection)).await;
        match header {
            Ok(Ok(source)) => address = source.map_or(peer, ClientAddress::tcp),
            Ok(Err(reason)) => {
                tracing::warn!(%peer, reason, "no valid PROXY header");
                return None;
            }
            Err(_) => return None,
        }
    }
    if stranger.comes_from(address.network(), policy.caps).is_err() {
        door.metrics.crowded_out.inc();
        return None;
    }
    Some(Present { connection, address, listener, stranger, clock })
}

async fn read_proxy_header(
    connection: &mut Connection,
) -> Result<Option<std::net::SocketAddr>, &'static str> {
    loop {
        match proxy_header::parse(&connection.input).map_err(|_| "it is malformed")? {
            Progress::Complete { length, source } => {
                let _header = connection.input.split_to(length);
                return Ok(source);
            }
            Progress::Incomplete => match connection.fill().await {
                Ok(0) | Err(_) => return Err("the connection ended before it"),
                Ok(_) => {}
            },
        }
    }
}

/// Negotiates encryption and reads the startup packet.
pub async fn introduce(door: &FrontDoor, present: Present) -> Option<Introduction> {
    let Present { connection, address, listener, stranger, clock } = present;
    let negotiation = Negotiation { door, connection: Some(connection), tls: ClientTls::default() };
    let who = Acquaintance::stranger(address, None);
    let mut negotiation = negotiation;
    let said = timeout_at(clock.deadline, negotiation.run()).await;
    let Negotiation { connection, tls, .. } = negotiation;
    // A failed handshake consumes the connection: rustls has said why.
    let connection = connection?;
    match said {
        Ok(Ok(Packet::Cancel(request))) => {
            Some(Introduction::Cancel(Cancelling { request, address, connection, stranger }))
        }
        Ok(Ok(Packet::Startup(startup))) => {
            let version = startup.version.min(NEWEST);
            let client = Client { connection, address, tls, version, stranger, clock };
            Some(Introduction::Startup(Introduced { client, startup, listener }))
        }
        Ok(Err(departure)) => {
            turn_away(door, connection, departure, who).await;
            None
        }
        // Requests for encryption were dealt with. PostgreSQL says nothing
        // either to who does not introduce himself in time.
        Ok(Ok(Packet::Ssl | Packet::GssEnc)) | Err(_) => None,
    }
}

struct Negotiation<'a> {
    door: &'a FrontDoor,
    connection: Option<Connection>,
    tls: ClientTls,
}

impl Negotiation<'_> {
    fn connection(&mut self) -> Result<&mut Connection, Departure> {
        self.connection.as_mut().ok_or(Departure::Silent("the TLS handshake failed"))
    }

    /// Until the first packet that is no request for encryption.
    async fn run(&mut self) -> Result<Packet, Departure> {
        self.direct_tls().await?;
        let (mut ssl_done, mut gss_done) = (false, false);
        loop {
            let packet = self.read_packet().await?;
            match packet {
                Packet::Ssl if !ssl_done => {
                    ssl_done = true;
                    self.answer_ssl_request().await?;
                }
                Packet::GssEnc if !gss_done => {
                    gss_done = true;
                    self.refuse_encryption(ProtocolViolation::DataAfterGssRequest).await?;
                }
                Packet::Ssl => return Err(unsupported(1234, 5679)),
                Packet::GssEnc => return Err(unsupported(1234, 5680)),
                Packet::Startup(startup) => return self.accept_startup(startup),
                Packet::Cancel(_) => return Ok(packet),
            }
        }
    }

    /// `sslnegotiation=direct`: the connection begins with the handshake, and
    /// must have agreed on the protocol by ALPN.
    async fn direct_tls(&mut self) -> Result<(), Departure> {
        let connection = self.connection()?;
        if connection.input.is_empty() && connection.fill().await? == 0 {
            return Err(Departure::Silent("closed without a word"));
        }
        let offers = self.door.policy.load().tls.is_some();
        let connection = self.connection()?;
        if connection.input[0] != TLS_HANDSHAKE || !connection.can_become_tls() || !offers {
            return Ok(());
        }
        self.accept_tls().await?;
        if self.tls.has_alpn { Ok(()) } else { Err(Departure::Silent("direct TLS without ALPN")) }
    }

    async fn read_packet(&mut self) -> Result<Packet, Departure> {
        let connection = self.connection()?;
        loop {
            if let Some(first) = connection.input.first_chunk::<4>() {
                let length = startup::packet_length(*first).map_err(violation)?;
                if connection.input.len() >= length {
                    // A copy of the right size: its parameters are kept as
                    // long as the session.
                    let packet = Bytes::copy_from_slice(&connection.input[4..length]);
                    connection.input.advance(length);
                    return startup::parse(&packet).map_err(violation);
                }
            }
            if connection.fill().await? == 0 {
                return Err(Departure::Silent("closed before the startup packet was complete"));
            }
        }
    }

    async fn answer_ssl_request(&mut self) -> Result<(), Departure> {
        let offers = self.door.policy.load().tls.is_some();
        let connection = self.connection()?;
        if !offers || !connection.can_become_tls() {
            return self.refuse_encryption(ProtocolViolation::DataAfterSslRequest).await;
        }
        // What was sent before the answer was not encrypted and must not be
        // taken for what comes after it (CVE-2021-23222).
        if !connection.input.is_empty() {
            return Err(violation(ProtocolViolation::DataAfterSslRequest));
        }
        connection.send(&[answer::YES_TLS]).await?;
        self.accept_tls().await
    }

    async fn refuse_encryption(&mut self, stuffed: ProtocolViolation) -> Result<(), Departure> {
        let connection = self.connection()?;
        if !connection.input.is_empty() {
            return Err(violation(stuffed));
        }
        Ok(connection.send(&[answer::NO_ENCRYPTION]).await?)
    }

    async fn accept_tls(&mut self) -> Result<(), Departure> {
        let tls = self.door.policy.load().tls.clone();
        let (Some(connection), Some(tls)) = (self.connection.take(), tls) else {
            return Err(Departure::Silent("TLS is not offered any more"));
        };
        match connection.accept_tls(&tls).await {
            Ok((connection, agreed)) => {
                self.connection = Some(connection);
                self.tls = agreed;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "TLS handshake failed");
                Err(Departure::Silent("the TLS handshake failed"))
            }
        }
    }

    /// Queues `NegotiateProtocolVersion` where the client asked for more than
    /// there is; it goes out with the next message, as PostgreSQL's does.
    fn accept_startup(&mut self, startup: Startup) -> Result<Packet, Departure> {
        let ProtocolVersion { major, minor } = startup.version;
        if major != NEWEST.major {
            return Err(unsupported(major, minor));
        }
        let unknown: Vec<Bytes> = startup.protocol_options().cloned().collect();
        if startup.version > NEWEST || !unknown.is_empty() {
            let mut out = BytesMut::new();
            answer::negotiate(&mut out, startup.version.min(NEWEST), &unknown);
            self.connection()?.queue(&out);
        }
        Ok(Packet::Startup(startup))
    }
}

fn unsupported(major: u16, minor: u16) -> Departure {
    Refusal::UnsupportedProtocol { major, minor }.into()
}

fn violation(violation: ProtocolViolation) -> Departure {
    Refusal::ProtocolViolation(violation).into()
}

impl Introduced {
    /// Finds out which service is meant and asks its allowlist.
    pub async fn admit(self, door: &FrontDoor) -> Option<Admitted> {
        let Self { client, startup, listener } = self;
        match decide(door, &client, startup, listener) {
            Ok(Decision { allowed, endpoint, role, parameters }) => {
                Some(Admitted { client, allowed, endpoint, role, parameters })
            }
            Err(Declined { refusal, asked }) => {
                let who = Acquaintance::stranger(client.address, asked.as_ref());
                turn_away(door, client.connection, refusal.into(), who).await;
                None
            }
        }
    }
}

struct Decision {
    allowed: Allowed,
    endpoint: Endpoint,
    role: Bytes,
    parameters: Vec<(Bytes, Bytes)>,
}

/// A client that is not let in, and what it asked for if that is there.
struct Declined {
    refusal: Refusal,
    asked: Option<ServiceName>,
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, asked: None }
    }
}

fn decide(
    door: &FrontDoor,
    client: &Client,
    startup: Startup,
    listener: PoolMode,
) -> Result<Decision, Declined> {
    if door.shutdown.phase() >= Phase::Draining {
        return Err(Refusal::ShuttingDown.into());
    }
    let address = client.address;
    if !client.connection.is_tls() && !door.policy.load().permits_plain(&address) {
        return Err(Refusal::TlsRequired { address }.into());
    }
    let options = startup.parameter("options").map(options::parse).unwrap_or_default();
    let user = startup.parameter("user").filter(|user| !user.is_empty()).cloned();
    let user = user.ok_or(Refusal::NoUser)?;
    let snapshot = door.directory.current();
    let hints = Hints {
        server_name: client.tls.server_name.as_deref(),
        service: options.service.as_deref(),
        access: options.access.as_deref(),
        pool: options.pool.as_deref(),
        user: &user,
        listener,
    };
    let (endpoint, role) = match destination(&snapshot, hints)? {
        Destination::Service { endpoint, role } => (endpoint, cut(role)),
        Destination::Unnamed if asks_for_console(&startup, &user) => {
            return Err(Refusal::NoConsole.into());
        }
        Destination::Unnamed | Destination::Nowhere => {
            return Err(Refusal::NotPermitted { address }.into());
        }
    };
    let denied = |refusal| Declined { refusal, asked: Some(endpoint.service.clone()) };
    let allowed = Allowed::check(&snapshot, Some(&endpoint.service), address).map_err(denied)?;
    let parameters = for_server(startup, &role, options);
    Ok(Decision { allowed, endpoint, role, parameters })
}

/// As PostgreSQL cuts the names of a startup packet: to the bytes that a name
/// can have, whatever characters they are part of.
fn cut(mut role: Bytes) -> Bytes {
    role.truncate(LONGEST_NAME);
    role
}

fn asks_for_console(startup: &Startup, user: &Bytes) -> bool {
    let database = startup.parameter("database").filter(|name| !name.is_empty());
    !user.contains(&b'.') && CONSOLE_DATABASES.contains(&&database.unwrap_or(user)[..])
}

/// The parameters as the client sent them, but for what speaks to Postern:
/// the service in the user, the tokens in `options`, protocol options.
fn for_server(startup: Startup, role: &Bytes, options: Options) -> Vec<(Bytes, Bytes)> {
    let mut rest = options.rest;
    let mut parameters = Vec::with_capacity(startup.parameters.len());
    for (name, value) in startup.parameters.into_iter().rev() {
        match &name[..] {
            b"user" => parameters.push((name, role.clone())),
            // Only the last `options` counts, and only once.
            b"options" => parameters.extend(rest.take().map(|rest| (name, rest))),
            _ if startup::is_protocol_option(&name) => {}
            _ => parameters.push((name, value)),
        }
    }
    parameters.reverse();
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&'static str, &'static str)]) -> Vec<(Bytes, Bytes)> {
        pairs
            .iter()
            .map(|(n, v)| (Bytes::from_static(n.as_bytes()), Bytes::from_static(v.as_bytes())))
            .collect()
    }

    #[test]
    fn the_server_gets_what_the_client_said_to_it() {
        let startup = Startup {
            version: NEWEST,
            parameters: parameters(&[
                ("user", "bob.orders"),
                ("_pq_.grease", "1"),
                ("options", "service=orders -c a=b"),
                ("application_name", ""),
                ("database", "shop"),
            ]),
        };
        let options = options::parse(startup.parameter("options").unwrap());
        let sent = for_server(startup, &Bytes::from_static(b"bob"), options);
        let expected = [
            ("user", "bob"),
            ("options", " -c a=b"),
            ("application_name", ""),
            ("database", "shop"),
        ];
        assert_eq!(sent, parameters(&expected));
    }

    #[test]
    fn options_that_held_only_tokens_are_left_out() {
        let startup = Startup {
            version: NEWEST,
            parameters: parameters(&[("user", "bob"), ("options", "service=orders")]),
        };
        let options = options::parse(startup.parameter("options").unwrap());
        let sent = for_server(startup, &Bytes::from_static(b"bob"), options);
        assert_eq!(sent, parameters(&[("user", "bob")]));
    }
}

//! Logs a role in on a node, and keeps what the server says to the client.
//!
//! The server is listened to until its first `ReadyForQuery` or its error. What
//! it says in between (parameters, notices) goes to the client unchanged; the
//! authentication and the cancel key do not.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::auth::client::{Hello, Keys, ServerFault};
use crate::auth::scram::{RAW_NONCE, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::auth::server::Binding;
use crate::domain::refusal::ServerLoginFailure;
use crate::net::Connection;
use crate::wire::login::{
    self, AuthenticationRequest, ImpossibleLength, MAX_SERVER_MESSAGE, RawMessage,
};
use crate::wire::startup::write_startup;

/// The most that a server may say during its login, in bytes.
const MAX_GREETING: usize = 4 << 20;

/// What the server said at the end of its login.
#[derive(Debug, Default)]
pub struct LoggedIn {
    /// `ParameterStatus`, notices and whatever else, in order, as it came.
    pub greeting: BytesMut,
    /// Whether the server has proved that it knows the role's verifier. One
    /// that lets the role in without asking for a password has not.
    pub proven: bool,
    /// The backend's process id, or 0 if it told none.
    pub process_id: u32,
    /// The backend's cancel key, or nothing if it told none.
    pub cancel_key: Bytes,
}

/// Why a login did not end in a session.
#[derive(Debug, thiserror::Error)]
pub enum LoginFailure {
    /// The server's own error: the whole `ErrorResponse`, after the notices
    /// that came before it.
    #[error("the server refused the login with SQLSTATE {sqlstate}")]
    Refused {
        /// Notices and the `ErrorResponse`, as they came.
        messages: Bytes,
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// The connection ended.
    #[error("the connection to the server was lost during the login: {0}")]
    Io(#[from] io::Error),
    /// What came is not PostgreSQL's protocol.
    #[error("the server sent {0}")]
    Garbled(&'static str),
    /// A message that is too long, or of no length that can be.
    #[error("the server sent {0}")]
    Length(#[from] ImpossibleLength),
    /// An authentication method that SCRAM keys cannot answer.
    #[error(
        "the server asks for authentication method {0}: its pg_hba.conf must say scram-sha-256"
    )]
    Method(u32),
    /// The server's SCRAM messages are wrong.
    #[error(transparent)]
    Scram(#[from] ServerFault),
}

impl LoginFailure {
    /// What the client hears, where the server gave no error of its own.
    #[must_use]
    pub fn kind(&self) -> ServerLoginFailure {
        match self {
            Self::Method(_) => ServerLoginFailure::UnsupportedAuthentication,
            Self::Scram(_) => ServerLoginFailure::Untrusted,
            Self::Refused { .. } | Self::Io(_) | Self::Garbled(_) | Self::Length(_) => {
                ServerLoginFailure::Broken
            }
        }
    }
}

/// Logs in with these startup parameters and keys, bound to the server's
/// certificate where both sides can. On failure the connection
/// is of no use but may still be open.
///
/// # Errors
/// [`LoginFailure`].
pub async fn log_in(
    connection: &mut Connection,
    binding: Option<Box<[u8]>>,
    parameters: &[(Bytes, Bytes)],
    keys: &Keys,
    random: &[u8; RAW_NONCE],
) -> Result<LoggedIn, LoginFailure> {
    let mut startup = BytesMut::new();
    write_startup(&mut startup, parameters);
    connection.send(&startup).await?;
    let proven = authenticate(connection, binding, keys, random).await?;
    Ok(LoggedIn { proven, ..greeting(connection).await? })
}

/// Whether the server has proved that it is the role's.
async fn authenticate(
    connection: &mut Connection,
    binding: Option<Box<[u8]>>,
    keys: &Keys,
    random: &[u8; RAW_NONCE],
) -> Result<bool, LoginFailure> {
    let mechanisms = match request(connection).await? {
        AuthenticationRequest::Ok => return Ok(false),
        AuthenticationRequest::Sasl(mechanisms) => mechanisms,
        AuthenticationRequest::Other(method) => return Err(LoginFailure::Method(method)),
        _ => return Err(LoginFailure::Garbled("SASL data before offering SASL")),
    };
    let binding = usable_binding(&mechanisms, binding)?;
    let hello = Hello::new(binding, random);
    let mut out = BytesMut::new();
    login::write_sasl_initial(&mut out, hello.mechanism(), hello.client_first().as_bytes());
    connection.send(&out).await?;
    let AuthenticationRequest::SaslContinue(server_first) = request(connection).await? else {
        return Err(LoginFailure::Garbled("no SASL challenge"));
    };
    let sent = hello.answer(&server_first, keys)?;
    out.clear();
    login::write_sasl_response(&mut out, sent.client_final.as_bytes());
    connection.send(&out).await?;
    let AuthenticationRequest::SaslFinal(server_final) = request(connection).await? else {
        return Err(LoginFailure::Garbled("no end of the SASL exchange"));
    };
    sent.verify(&server_final)?;
    match request(connection).await? {
        AuthenticationRequest::Ok => Ok(true),
        _ => Err(LoginFailure::Garbled("no AuthenticationOk after SASL")),
    }
}

/// Binds to the server's certificate if the server offers it.
fn usable_binding(
    mechanisms: &[Bytes],
    binding: Option<Box<[u8]>>,
) -> Result<Binding, LoginFailure> {
    let offers = |name: &str| mechanisms.iter().any(|m| m == name.as_bytes());
    match binding {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => Ok(Binding::EndPoint(hash)),
        _ if offers(SCRAM_SHA_256) => Ok(Binding::Unavailable),
        _ => Err(LoginFailure::Method(10)),
    }
}

/// The next Authentication message. Notices may come first, and an error
/// instead.
async fn request(connection: &mut Connection) -> Result<AuthenticationRequest, LoginFailure> {
    loop {
        let message = next_message(connection).await?;
        match message.kind {
            b'R' => {
                let request = login::parse_authentication(message.body());
                return request.ok_or(LoginFailure::Garbled("a malformed authentication request"));
            }
            b'E' => return Err(refused(&message, BytesMut::new())),
            // Nobody is there yet to be told.
            b'N' | b'v' => {}
            _ => {
                return Err(LoginFailure::Garbled("an unexpected message before authentication"));
            }
        }
    }
}

async fn greeting(connection: &mut Connection) -> Result<LoggedIn, LoginFailure> {
    let mut logged_in = LoggedIn::default();
    loop {
        let message = next_message(connection).await?;
        match message.kind {
            b'Z' => {
                if connection.input.is_empty() {
                    // A connection that waits owns no buffer.
                    connection.input = BytesMut::new();
                }
                return Ok(logged_in);
            }
            b'K' => {
                let parsed = login::parse_backend_key(message.body());
                let (process_id, key) =
                    parsed.ok_or(LoginFailure::Garbled("a malformed BackendKeyData"))?;
                logged_in.process_id = process_id;
                // A copy: the key must not keep the whole read.
                logged_in.cancel_key = Bytes::copy_from_slice(&key);
            }
            b'E' => return Err(refused(&message, logged_in.greeting)),
            b'S' | b'N' | b'A' => logged_in.greeting.extend_from_slice(&message.bytes),
            _ => return Err(LoginFailure::Garbled("an unexpected message during login")),
        }
        if logged_in.greeting.len() > MAX_GREETING {
            return Err(LoginFailure::Garbled("more than anyone says during a login"));
        }
    }
}

/// An error without a SQLSTATE is no error of PostgreSQL's: the client gets
/// one that says so (trap A-3).
fn refused(message: &RawMessage, mut said: BytesMut) -> LoginFailure {
    let body = message.body();
    let sqlstate = login::error_field(&body, b'C').map(String::from_utf8_lossy);
    match sqlstate {
        Some(sqlstate) if sqlstate.len() == 5 && body.ends_with(&[0, 0]) => {
            said.extend_from_slice(&message.bytes);
            LoginFailure::Refused { sqlstate: sqlstate.into_owned(), messages: said.freeze() }
        }
        _ => LoginFailure::Garbled("an error without SQLSTATE"),
    }
}

async fn next_message(connection: &mut Connection) -> Result<RawMessage, LoginFailure> {
    loop {
        if let Some(message) = login::take_message(&mut connection.input, MAX_SERVER_MESSAGE)? {
            return Ok(message);
        }
        if connection.fill().await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

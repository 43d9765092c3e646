//! Whole messages of a login, on either side: small, bounded, and looked at
//! one by one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::{HEADER, put_head};

/// PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH` (src/backend/libpq/auth-sasl.h).
pub const MAX_SASL_MESSAGE: usize = 1024;
/// The longest message taken from a server during its login: notices of login
/// triggers and parameter values may be long.
pub const MAX_SERVER_MESSAGE: usize = 1 << 20;

/// A whole message: its type, and its bytes with the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The type byte.
    pub kind: u8,
    /// Header and body, as they came.
    pub bytes: Bytes,
}

impl RawMessage {
    /// The bytes behind the header.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER..)
    }
}

/// The length of a message is impossible or longer than is taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of type {kind:#04x} and impossible length {length}")]
pub struct ImpossibleLength {
    /// The type byte.
    pub kind: u8,
    /// The length as sent.
    pub length: u32,
}

/// Takes the first message off the buffer; `None` if it is not complete yet.
///
/// # Errors
/// [`ImpossibleLength`] from the header alone, before the body is awaited.
pub fn take_message(
    buffer: &mut BytesMut,
    longest: usize,
) -> Result<Option<RawMessage>, ImpossibleLength> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let kind = header[0];
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let total = 1 + length as usize;
    if length < 4 || total - HEADER > longest {
        return Err(ImpossibleLength { kind, length });
    }
    if buffer.len() < total {
        return Ok(None);
    }
    Ok(Some(RawMessage { kind, bytes: buffer.split_to(total).freeze() }))
}

/// A client's `SASLInitialResponse`.
#[derive(Debug, PartialEq, Eq)]
pub struct SaslInitial {
    /// The mechanism chosen.
    pub mechanism: Bytes,
    /// The client-first message; clients may leave it out.
    pub data: Option<Bytes>,
}

/// Reads the body of a `SASLInitialResponse`; `None` if it is malformed.
#[must_use]
pub fn parse_sasl_initial(mut body: Bytes) -> Option<SaslInitial> {
    let end = body.iter().position(|b| *b == 0)?;
    let mechanism = body.split_to(end);
    body.advance(1);
    let length = i32::from_be_bytes(*body.first_chunk::<4>()?);
    body.advance(4);
    let data = match length {
        -1 if body.is_empty() => None,
        length if usize::try_from(length) == Ok(body.len()) => Some(body),
        _ => return None,
    };
    Some(SaslInitial { mechanism, data })
}

/// A server's request for authentication.
#[derive(Debug, PartialEq, Eq)]
pub enum AuthenticationRequest {
    /// Nothing more is needed.
    Ok,
    /// SASL, with these mechanisms.
    Sasl(Vec<Bytes>),
    /// The server-first message.
    SaslContinue(Bytes),
    /// The server-final message.
    SaslFinal(Bytes),
    /// Cleartext, MD5, GSSAPI, …
    Other(u32),
}

/// Reads the body of an Authentication message; `None` if it is malformed.
#[must_use]
pub fn parse_authentication(mut body: Bytes) -> Option<AuthenticationRequest> {
    let code = u32::from_be_bytes(*body.first_chunk::<4>()?);
    body.advance(4);
    Some(match code {
        0 => AuthenticationRequest::Ok,
        10 => AuthenticationRequest::Sasl(parse_names(body)?),
        11 => AuthenticationRequest::SaslContinue(body),
        12 => AuthenticationRequest::SaslFinal(body),
        other => AuthenticationRequest::Other(other),
    })
}

fn parse_names(mut body: Bytes) -> Option<Vec<Bytes>> {
    let mut names = Vec::new();
    loop {
        let end = body.iter().position(|b| *b == 0)?;
        let name = body.split_to(end);
        body.advance(1);
        if name.is_empty() {
            return Some(names);
        }
        names.push(name);
    }
}

/// Reads the body of `BackendKeyData`: the process id and the secret key.
#[must_use]
pub fn parse_backend_key(mut body: Bytes) -> Option<(u32, Bytes)> {
    let process_id = u32::from_be_bytes(*body.first_chunk::<4>()?);
    body.advance(4);
    Some((process_id, body))
}

/// Reads the body of `ParameterStatus`: name and value.
#[must_use]
pub fn parse_parameter(mut body: Bytes) -> Option<(Bytes, Bytes)> {
    let mut take = || {
        let end = body.iter().position(|b| *b == 0)?;
        let text = body.split_to(end);
        body.advance(1);
        Some(text)
    };
    Some((take()?, take()?))
}

/// Whether the body of an `ErrorResponse` says that the server closes behind
/// it.
#[must_use]
pub fn is_fatal(body: &[u8]) -> bool {
    matches!(error_field(body, b'V'), Some(b"FATAL" | b"PANIC"))
}

/// One field of an `ErrorResponse` or `NoticeResponse` body; `None` if the server
/// did not send it.
#[must_use]
pub fn error_field(body: &[u8], field: u8) -> Option<&[u8]> {
    body.split(|b| *b == 0).find_map(|text| text.strip_prefix(&[field]))
}

/// Appends `SASLInitialResponse` for a server.
///
/// # Panics
/// If the data is longer than a message can be, which SCRAM's never is.
pub fn write_sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    write_password_message(out, mechanism.len() + 1 + 4 + data.len(), |out| {
        out.put_slice(mechanism.as_bytes());
        out.put_u8(0);
        out.put_u32(u32::try_from(data.len()).expect("a SCRAM message is short"));
        out.put_slice(data);
    });
}

/// Appends `SASLResponse` for a server.
pub fn write_sasl_response(out: &mut BytesMut, data: &[u8]) {
    write_password_message(out, data.len(), |out| out.put_slice(data));
}

fn write_password_message(out: &mut BytesMut, length: usize, body: impl FnOnce(&mut BytesMut)) {
    put_head(out, b'p', length);
    body(out);
}

/// Terminate, the frontend's goodbye.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a01_lengths_that_cannot_be_are_refused_from_the_header() {
        for length in [0u32, 3, 1030, u32::MAX, 1 << 31] {
            let mut buffer = BytesMut::from(&[b'p'][..]);
            buffer.put_u32(length);
            let refused = take_message(&mut buffer, MAX_SASL_MESSAGE).unwrap_err();
            assert_eq!(refused, ImpossibleLength { kind: b'p', length });
        }
    }

    #[test]
    fn a_sasl_initial_response_reads_back() {
        let mut out = BytesMut::new();
        write_sasl_initial(&mut out, "SCRAM-SHA-256", b"n,,n=,r=x");
        let message = take_message(&mut out, MAX_SASL_MESSAGE).unwrap().unwrap();
        let initial = parse_sasl_initial(message.body()).unwrap();
        assert_eq!(initial.mechanism, "SCRAM-SHA-256");
        assert_eq!(initial.data.unwrap(), "n,,n=,r=x");
    }

    #[test]
    fn a03_an_error_without_fields_has_none() {
        assert_eq!(error_field(b"", b'C'), None);
        assert_eq!(error_field(b"\0", b'C'), None);
        assert_eq!(error_field(b"SFATAL\0Mgone\0\0", b'C'), None);
        assert_eq!(error_field(b"SFATAL\0C57P03\0\0", b'C'), Some(&b"57P03"[..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn a01_any_login_message_is_read_or_refused(bytes in prop::collection::vec(
            prop_oneof![Just(0u8), Just(b'p'), Just(b'R'), any::<u8>()], 0..40)) {
            let body = Bytes::from(bytes.clone());
            let _ = parse_sasl_initial(body.clone());
            let _ = parse_authentication(body.clone());
            let _ = parse_parameter(body.clone());
            let _ = parse_backend_key(body);
            let mut buffer = BytesMut::from(&bytes[..]);
            if let Ok(Some(message)) = take_message(&mut buffer, MAX_SASL_MESSAGE) {
                prop_assert_eq!(message.bytes.len() + buffer.len(), bytes.len());
            }
        }
    }
}

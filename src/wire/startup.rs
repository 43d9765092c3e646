//! The packets before a session: startup, `SSLRequest`, `GSSENCRequest` and
//! `CancelRequest`.
//!
//! They have no type byte: four bytes of length, four of version or code, and
//! a body. A body is read only after its length passed [`packet_length`], so
//! nobody makes Postern allocate more than [`MAX_STARTUP_PACKET`].

use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::domain::refusal::ProtocolViolation;

/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH` (src/include/libpq/pqcomm.h).
pub const MAX_STARTUP_PACKET: usize = 10_000;
/// The longest cancel key of protocol 3.2 (src/include/libpq/pqcomm.h).
pub const MAX_CANCEL_KEY: usize = 256;

const CANCEL_REQUEST: u32 = request_code(5678);
const SSL_REQUEST: u32 = request_code(5679);
const GSSENC_REQUEST: u32 = request_code(5680);

/// A code that stands where a version does: 1234 is no major version.
const fn request_code(minor: u16) -> u32 {
    ProtocolVersion { major: 1234, minor }.code()
}

/// The newest protocol that Postern speaks, as PostgreSQL 18 does.
pub const NEWEST: ProtocolVersion = ProtocolVersion { major: 3, minor: 2 };
/// The protocol that Postern speaks with servers: all of 13 to 18 know it.
pub const WITH_SERVERS: ProtocolVersion = ProtocolVersion { major: 3, minor: 0 };

/// A frontend/backend protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 for every living client.
    pub major: u16,
    /// 0 to 2 in released PostgreSQL versions.
    pub minor: u16,
}

impl ProtocolVersion {
    fn from_code(code: u32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    /// The number that stands in a startup packet.
    #[must_use]
    pub const fn code(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// Whether cancel keys may be longer than four bytes.
    #[must_use]
    pub fn has_long_cancel_keys(self) -> bool {
        self >= NEWEST
    }
}

/// A packet that may open a connection.
#[derive(Debug)]
pub enum Packet {
    /// The client wants TLS.
    Ssl,
    /// The client wants GSSAPI encryption.
    GssEnc,
    /// The client wants a query of another connection cancelled.
    Cancel(CancelRequest),
    /// The client wants a session.
    Startup(Startup),
}

/// A cancel request: which session, and the key that proves the right to it.
#[derive(Debug)]
pub struct CancelRequest {
    /// The process id that the session's client was told.
    pub process_id: u32,
    /// 1 to [`MAX_CANCEL_KEY`] bytes.
    pub key: CancelKey,
}

/// The secret part of a cancel request.
pub struct CancelKey(Zeroizing<Vec<u8>>);

impl CancelKey {
    /// The bytes, to be compared in constant time only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelKey(..)")
    }
}

/// A startup packet: a protocol version and the parameters in the client's
/// order, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version asked for.
    pub version: ProtocolVersion,
    /// Names and values without their terminators.
    pub parameters: Vec<(Bytes, Bytes)>,
}

impl Startup {
    /// The last value given for a name: PostgreSQL lets later ones win.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Bytes> {
        self.parameters.iter().rev().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| value)
    }

    /// The protocol options (`_pq_.…`), none of which Postern knows yet.
    pub fn protocol_options(&self) -> impl Iterator<Item = &Bytes> {
        self.parameters.iter().map(|(name, _)| name).filter(|name| is_protocol_option(name))
    }
}

/// Whether a startup parameter speaks to the protocol, not to the server.
#[must_use]
pub fn is_protocol_option(name: &[u8]) -> bool {
    name.starts_with(b"_pq_.")
}

/// The length of the whole packet, from its first four bytes.
///
/// # Errors
/// [`ProtocolViolation::StartupLength`] if it is shorter than a code or longer
/// than PostgreSQL takes.
pub fn packet_length(first: [u8; 4]) -> Result<usize, ProtocolViolation> {
    match usize::try_from(u32::from_be_bytes(first)) {
        Ok(length @ 8..=MAX_STARTUP_PACKET) => Ok(length),
        _ => Err(ProtocolViolation::StartupLength),
    }
}

/// Reads a packet's body: everything behind the four bytes of length.
///
/// # Errors
/// A [`ProtocolViolation`] in PostgreSQL's own words.
pub fn parse(body: &Bytes) -> Result<Packet, ProtocolViolation> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(ProtocolViolation::StartupLength)?;
    let code = u32::from_be_bytes(*code);
    match code {
        SSL_REQUEST | GSSENC_REQUEST if !rest.is_empty() => Err(ProtocolViolation::StartupLength),
        SSL_REQUEST => Ok(Packet::Ssl),
        GSSENC_REQUEST => Ok(Packet::GssEnc),
        CANCEL_REQUEST => parse_cancel(rest).map(Packet::Cancel),
        code => {
            let version = ProtocolVersion::from_code(code);
            let parameters =
                if version.major == 3 { parse_parameters(&body.slice(4..))? } else { Vec::new() };
            Ok(Packet::Startup(Startup { version, parameters }))
        }
    }
}

fn parse_cancel(body: &[u8]) -> Result<CancelRequest, ProtocolViolation> {
    let (process_id, key) =
        body.split_first_chunk::<4>().ok_or(ProtocolViolation::StartupLength)?;
    if key.is_empty() || key.len() > MAX_CANCEL_KEY {
        return Err(ProtocolViolation::StartupLength);
    }
    Ok(CancelRequest {
        process_id: u32::from_be_bytes(*process_id),
        key: CancelKey(Zeroizing::new(key.to_vec())),
    })
}

/// Names and values, each ending in NUL, and one NUL behind the last.
fn parse_parameters(bytes: &Bytes) -> Result<Vec<(Bytes, Bytes)>, ProtocolViolation> {
    let mut parameters = Vec::new();
    let mut rest = bytes.clone();
    loop {
        let name = take_string(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let value = take_string(&mut rest)?;
        parameters.push((name, value));
    }
    if rest.is_empty() { Ok(parameters) } else { Err(ProtocolViolation::StartupLayout) }
}

fn take_string(rest: &mut Bytes) -> Result<Bytes, ProtocolViolation> {
    let end = rest.iter().position(|b| *b == 0).ok_or(ProtocolViolation::StartupLayout)?;
    let text = rest.split_to(end);
    let _terminator = rest.split_to(1);
    Ok(text)
}

/// Writes a startup packet for a server.
pub fn write_startup(out: &mut BytesMut, parameters: &[(Bytes, Bytes)]) {
    let strings: usize = parameters.iter().map(|(n, v)| n.len() + v.len() + 2).sum();
    out.put_u32(length_of(8 + strings + 1));
    out.put_u32(WITH_SERVERS.code());
    for (name, value) in parameters {
        for text in [name, value] {
            out.put_slice(text);
            out.put_u8(0);
        }
    }
    out.put_u8(0);
}

/// Writes an `SSLRequest` for a server.
pub fn write_ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_REQUEST);
}

/// Writes a `CancelRequest` for a server.
pub fn write_cancel_request(out: &mut BytesMut, process_id: u32, key: &[u8]) {
    out.put_u32(length_of(12 + key.len()));
    out.put_u32(CANCEL_REQUEST);
    out.put_u32(process_id);
    out.put_slice(key);
}

fn length_of(length: usize) -> u32 {
    u32::try_from(length).expect("a startup packet is far shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(code: u32, rest: &[u8]) -> Bytes {
        let mut body = BytesMut::from(&code.to_be_bytes()[..]);
        body.extend_from_slice(rest);
        body.freeze()
    }

    const V3: u32 = 3 << 16;

    #[test]
    fn a01_impossible_lengths_are_refused_before_anything_is_read() {
        for length in [0, 3, 4, 7, 10_001, i32::MAX as u32, u32::MAX, 1 << 31] {
            assert_eq!(packet_length(length.to_be_bytes()), Err(ProtocolViolation::StartupLength));
        }
        assert_eq!(packet_length(8u32.to_be_bytes()), Ok(8));
        assert_eq!(packet_length(10_000u32.to_be_bytes()), Ok(10_000));
    }

    #[test]
    fn a20_the_end_of_the_packet_ends_no_string() {
        for rest in [&b"user"[..], b"user\0", b"user\0bob", b"user\0bob\0", b"user\0bob\0\0x", b""]
        {
            let refused = parse(&body(V3, rest)).unwrap_err();
            assert_eq!(refused, ProtocolViolation::StartupLayout, "{rest:?}");
        }
    }

    #[test]
    fn a20_parameters_keep_their_bytes() {
        let Packet::Startup(startup) =
            parse(&body(V3, "user\0jürgen\0database\0\u{1F418}\0x\0\0\0".as_bytes())).unwrap()
        else {
            panic!("a startup packet");
        };
        assert_eq!(startup.parameter("user").unwrap(), "jürgen".as_bytes());
        assert_eq!(startup.parameter("database").unwrap(), "\u{1F418}".as_bytes());
        assert_eq!(startup.parameter("x").unwrap(), &b""[..]);
    }

    #[test]
    fn the_last_of_two_equal_parameters_counts() {
        let Packet::Startup(startup) = parse(&body(V3, b"user\0a\0user\0b\0\0")).unwrap() else {
            panic!("a startup packet");
        };
        assert_eq!(startup.parameter("user").unwrap(), &b"b"[..]);
    }

    #[test]
    fn a17_cancel_keys_have_one_to_256_bytes() {
        for (length, legal) in [(0, false), (1, true), (4, true), (256, true), (257, false)] {
            let mut rest = vec![0, 0, 0, 7];
            rest.extend(vec![9; length]);
            assert_eq!(parse(&body(CANCEL_REQUEST, &rest)).is_ok(), legal, "{length}");
        }
    }

    #[test]
    fn requests_with_something_behind_them_are_refused() {
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            assert!(parse(&body(code, b"")).is_ok());
            assert_eq!(parse(&body(code, b"x")).unwrap_err(), ProtocolViolation::StartupLength);
        }
    }

    #[test]
    fn a_written_startup_packet_reads_back() {
        let parameters = vec![
            (Bytes::from_static(b"user"), Bytes::from_static(b"bob")),
            (Bytes::from_static(b"options"), Bytes::from_static(b"-c a=b")),
        ];
        let mut out = BytesMut::new();
        write_startup(&mut out, &parameters);
        let length = packet_length(out[..4].try_into().unwrap()).unwrap();
        assert_eq!(length, out.len());
        let Packet::Startup(read) = parse(&out.freeze().slice(4..)).unwrap() else {
            panic!("a startup packet");
        };
        assert_eq!(read, Startup { version: WITH_SERVERS, parameters });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn a01_any_bytes_parse_or_are_refused(
            code in prop_oneof![Just(V3), Just(V3 + 2), Just(CANCEL_REQUEST), Just(SSL_REQUEST), any::<u32>()],
            rest in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..48),
        ) {
            if let Ok(Packet::Startup(startup)) = parse(&body(code, &rest)) {
                let strings: usize = startup.parameters.iter().map(|(n, v)| n.len() + v.len() + 2).sum();
                prop_assert!(startup.version.major != 3 || strings + 1 == rest.len());
            }
        }
    }
}

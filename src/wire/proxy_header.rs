//! The PROXY protocol's header, v1 and v2 (haproxy.org, proxy-protocol.txt).
//!
//! The crate `ppp` reads a whole header; here is only where it ends, so that
//! a header may arrive in any pieces and cannot grow without bound.

use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};

/// The longest v1 header, with its line end.
const MAX_V1: usize = 107;
/// The longest v2 header taken: its fixed part, the longest addresses, and
/// room for the TLVs that balancers add.
const MAX_V2: usize = 4096;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The beginning of a header.
    Incomplete,
    /// A header of this many bytes.
    Complete {
        /// Bytes of the header.
        length: usize,
        /// Whom the balancer speaks for; `None` if for itself (a health
        /// check, v2's LOCAL, v1's UNKNOWN) or for another kind of address.
        source: Option<SocketAddr>,
    },
}

/// The bytes are no PROXY header, or a longer one than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid PROXY protocol header")]
pub struct InvalidHeader;

/// Looks for a header at the start of the bytes.
///
/// # Errors
/// [`InvalidHeader`] as soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Progress, InvalidHeader> {
    let Some(length) = header_length(bytes)? else {
        return Ok(Progress::Incomplete);
    };
    let Some(header) = bytes.get(..length) else {
        return Ok(Progress::Incomplete);
    };
    let source = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => v1_source(&header.addresses),
        HeaderResult::V2(Ok(header)) => v2_source(&header),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Err(InvalidHeader),
    };
    Ok(Progress::Complete { length, source })
}

fn header_length(bytes: &[u8]) -> Result<Option<usize>, InvalidHeader> {
    if starts_alike(bytes, V2_START) {
        let Some(length) = bytes.get(14..V2_FIXED) else {
            return Ok(None);
        };
        let length = V2_FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
        return if length <= MAX_V2 { Ok(Some(length)) } else { Err(InvalidHeader) };
    }
    if !starts_alike(bytes, V1_START) {
        return Err(InvalidHeader);
    }
    let line = &bytes[..bytes.len().min(MAX_V1)];
    match line.windows(2).position(|end| end == b"\r\n") {
        Some(at) => Ok(Some(at + 2)),
        None if line.len() == MAX_V1 => Err(InvalidHeader),
        None => Ok(None),
    }
}

fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

fn v1_source(addresses: &v1::Addresses) -> Option<SocketAddr> {
    match addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
    }
}

fn v2_source(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match (header.command, &header.addresses) {
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_START.to_vec();
        header.extend([0x20 | command, 0x11]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    const ADDRESSES: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x15, 0x38];

    fn complete(bytes: &[u8]) -> (usize, Option<String>) {
        match parse(bytes).unwrap() {
            Progress::Complete { length, source } => (length, source.map(|s| s.to_string())),
            Progress::Incomplete => panic!("incomplete: {bytes:?}"),
        }
    }

    #[test]
    fn e17_both_versions_are_read_and_leave_what_follows() {
        let v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 5432\r\nrest";
        assert_eq!(complete(v1), (v1.len() - 4, Some("203.0.113.9:12345".into())));
        let mut v2 = v2_header(1, &ADDRESSES);
        let length = v2.len();
        v2.extend(b"rest");
        assert_eq!(complete(&v2), (length, Some("203.0.113.9:12345".into())));
    }

    #[test]
    fn e17_every_split_is_incomplete_until_the_last_byte() {
        let v1 = b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 5432\r\n".to_vec();
        for header in [v1, v2_header(1, &ADDRESSES)] {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(Progress::Incomplete), "{end}");
            }
            assert!(complete(&header).1.is_some());
        }
    }

    #[test]
    fn e17_local_and_unknown_speak_for_the_balancer_itself() {
        assert_eq!(complete(&v2_header(0, &ADDRESSES)).1, None);
        assert_eq!(complete(b"PROXY UNKNOWN\r\n").1, None);
    }

    #[test]
    fn e17_over_long_headers_and_sizes_that_lie_are_refused() {
        assert_eq!(parse(&[b"PROXY ".as_slice(), &[b'x'; 101]].concat()), Err(InvalidHeader));
        assert_eq!(parse(&v2_header(1, &[0; 4081])), Err(InvalidHeader));
        assert_eq!(parse(&v2_header(1, &[0; 4])), Err(InvalidHeader));
        let mut tlv = ADDRESSES.to_vec();
        tlv.extend([4, 0, 2, 0, 0]);
        assert!(complete(&v2_header(1, &tlv)).1.is_some());
    }

    #[test]
    fn e17_a_startup_packet_is_no_header() {
        assert_eq!(parse(&[0, 0, 0, 8, 4, 210, 22, 47]), Err(InvalidHeader));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn e17_any_bytes_are_read_or_refused(
            start in prop_oneof![Just(V1_START), Just(V2_START), Just(&b""[..])],
            rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'1')], 0..40),
            end in prop_oneof![Just(&b""[..]), Just(&b"\r\n"[..])],
        ) {
            let bytes = [start, &rest, end].concat();
            if let Ok(Progress::Complete { length, .. }) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}

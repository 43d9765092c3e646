//! The computations that both sides of SCRAM-SHA-256 share (RFC 5802,
//! section 3), and the attributes their messages are made of.

use aws_lc_rs::{digest, hmac};
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Bytes of SHA-256, and so of every key and proof.
pub const KEY: usize = 32;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The one channel binding PostgreSQL knows (RFC 5929).
pub const BINDING_TYPE: &str = "tls-server-end-point";

/// Random bytes of a nonce, before base64: PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
pub const RAW_NONCE: usize = 18;

/// HMAC-SHA-256.
///
/// # Panics
/// Never: the tag has the length of the hash.
#[must_use]
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; KEY] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// SHA-256.
///
/// # Panics
/// Never: the digest has the length of a key.
#[must_use]
pub fn hash(message: &[u8]) -> [u8; KEY] {
    let digest = digest::digest(&digest::SHA256, message);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// `ClientProof` from `ClientKey` and `ClientSignature`, or the reverse.
#[must_use]
pub fn xor(a: &[u8; KEY], b: &[u8; KEY]) -> [u8; KEY] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// A nonce of printable characters from these random bytes.
#[must_use]
pub fn nonce(random: &[u8; RAW_NONCE]) -> String {
    BASE64_STANDARD.encode(random)
}

/// The message that every signature signs.
#[must_use]
pub fn auth_message(client_first_bare: &str, server_first: &str, without_proof: &str) -> String {
    format!("{client_first_bare},{server_first},{without_proof}")
}

/// Takes `<name>=<value>` off the front of a message.
pub fn take_attribute<'a>(message: &mut &'a str, name: char) -> Option<&'a str> {
    let rest = message.strip_prefix(name)?.strip_prefix('=')?;
    let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
    *message = rest;
    Some(value)
}

//! The server's side of SCRAM, towards clients.
//!
//! ```text
//! Exchange::begin(client-first) → server-first
//!     └ exchange.finish(client-final) → Proven { keys, server-final }
//! ```
//!
//! An unknown role goes through the same steps with a mock verifier and fails
//! at the end, after the same computations. Every proof is held against two
//! verifiers, so that the time does not tell who has two. Texts are those of PostgreSQL's
//! `src/backend/libpq/auth-scram.c`.

use std::sync::Arc;

use aws_lc_rs::constant_time;
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::client::Keys;
use super::scram::{self, BINDING_TYPE, KEY, RAW_NONCE};
use super::verifier::Verifier;
use crate::domain::refusal::ProtocolViolation;
use crate::domain::{Refusal, Secret};

/// What the client's transport allows to be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or a certificate without a hash to bind to: PLUS is not offered.
    Unavailable,
    /// The hash of the certificate this connection was shown: PLUS is offered.
    EndPoint(Box<[u8]>),
}

impl Binding {
    /// The mechanisms to offer, the better one first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self {
            Self::Unavailable => &[scram::SCRAM_SHA_256],
            Self::EndPoint(_) => &[scram::SCRAM_SHA_256_PLUS, scram::SCRAM_SHA_256],
        }
    }
}

/// An exchange that has sent server-first and waits for client-final.
#[derive(Debug)]
pub struct Exchange {
    verifier: Candidate,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    /// What client-final must repeat: the GS2 header and the binding, base64.
    channel: String,
}

/// The verifier to hold a proof against.
#[derive(Debug, Clone)]
pub enum Candidate {
    /// The role's own.
    Real(Arc<Verifier>),
    /// The role's own, and that of the password before, with the same salt and
    /// iterations: a proof may match either.
    Rotated {
        /// That of the password that the server knows.
        current: Arc<Verifier>,
        /// That of the password before.
        previous: Arc<Verifier>,
    },
    /// A role that cannot log in: no proof matches.
    Mock(Arc<Verifier>),
}

impl Candidate {
    /// The two to hold a proof against; the same one twice where there is one.
    fn verifiers(&self) -> [&Verifier; 2] {
        match self {
            Self::Real(verifier) | Self::Mock(verifier) => [verifier, verifier],
            Self::Rotated { current, previous } => [current, previous],
        }
    }
}

/// The client knows the password.
#[derive(Debug)]
#[must_use]
pub struct Proven {
    /// Those of the password that was proved.
    pub keys: Keys,
    /// Proves to the client that the verifier was known here.
    pub server_final: String,
}

/// Why an exchange fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A message that SCRAM does not allow.
    Violation(ProtocolViolation),
    /// The client thinks that the server offers no channel binding.
    Downgrade,
    /// The proof is wrong, or the role cannot log in.
    Password,
}

impl Failure {
    /// What the client is told.
    #[must_use]
    pub fn refusal(self, user: &str) -> Refusal {
        match self {
            Self::Violation(violation) => Refusal::ProtocolViolation(violation),
            Self::Downgrade => Refusal::ChannelBindingMismatch,
            Self::Password => Refusal::PasswordFailed { user: user.to_owned() },
        }
    }
}

const MALFORMED: Failure = Failure::Violation(ProtocolViolation::MalformedScram);
const MISMATCH: Failure = Failure::Violation(ProtocolViolation::ScramMismatch);

impl Exchange {
    /// Answers client-first. `plus` says which mechanism the client chose.
    ///
    /// # Errors
    /// [`Failure`], never of kind `Password`.
    pub fn begin(
        client_first: &[u8],
        plus: bool,
        binding: &Binding,
        verifier: Candidate,
        random: &[u8; RAW_NONCE],
    ) -> Result<Self, Failure> {
        let text = std::str::from_utf8(client_first).map_err(|_| MALFORMED)?;
        let (header, bare) = split_gs2_header(text)?;
        let channel = agreed_channel(header, plus, binding)?;
        let client_nonce = client_nonce(bare)?;
        let nonce = format!("{client_nonce}{}", scram::nonce(random));
        let [Verifier { salt, iterations, .. }, _] = verifier.verifiers();
        let server_first = format!("r={nonce},s={},i={iterations}", BASE64_STANDARD.encode(salt));
        Ok(Self { client_first_bare: bare.to_owned(), verifier, server_first, nonce, channel })
    }

    /// The message to send.
    #[must_use]
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks client-final.
    ///
    /// # Errors
    /// [`Failure`]; a wrong proof and a mock verifier take the same time.
    pub fn finish(self, client_final: &[u8]) -> Result<Proven, Failure> {
        let text = std::str::from_utf8(client_final).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut rest = without_proof;
        let channel = scram::take_attribute(&mut rest, 'c').ok_or(MALFORMED)?;
        let nonce = scram::take_attribute(&mut rest, 'r').ok_or(MALFORMED)?;
        let proof: [u8; KEY] = decode(proof).ok_or(MALFORMED)?;
        if channel != self.channel || nonce != self.nonce {
            return Err(MISMATCH);
        }
        self.check_proof(without_proof, &proof)
    }

    fn check_proof(self, without_proof: &str, proof: &[u8; KEY]) -> Result<Proven, Failure> {
        let message =
            scram::auth_message(&self.client_first_bare, &self.server_first, without_proof);
        let check = |verifier| prove(verifier, message.as_bytes(), proof);
        let [current, previous] = self.verifier.verifiers().map(check);
        match self.verifier {
            Candidate::Real(_) | Candidate::Rotated { .. } => {
                current.or(previous).ok_or(Failure::Password)
            }
            Candidate::Mock(_) => Err(Failure::Password),
        }
    }
}

/// What a proof shows, if it was made of this verifier's password.
fn prove(verifier: &Verifier, message: &[u8], proof: &[u8; KEY]) -> Option<Proven> {
    let signature = scram::hmac(verifier.stored_key.expose(), message);
    let client_key = Secret::new(scram::xor(proof, &signature));
    let stored_key = scram::hash(client_key.expose());
    let server_signature = scram::hmac(verifier.server_key.expose(), message);
    let equal = constant_time::verify_slices_are_equal(&stored_key, verifier.stored_key.expose());
    equal.ok().map(|()| Proven {
        keys: Keys { client_key, server_key: verifier.server_key.clone() },
        server_final: format!("v={}", BASE64_STANDARD.encode(server_signature)),
    })
}

fn decode(proof: &str) -> Option<[u8; KEY]> {
    BASE64_STANDARD.decode(proof).ok()?.try_into().ok()
}

/// The GS2 header with its last comma, and the bare message behind it.
fn split_gs2_header(message: &str) -> Result<(&str, &str), Failure> {
    let flag = message.find(',').ok_or(MALFORMED)?;
    let identity = message[flag + 1..].find(',').ok_or(MALFORMED)?;
    // An authorization identity other than the user is not supported.
    if identity != 0 {
        return Err(MALFORMED);
    }
    Ok(message.split_at(flag + 2))
}

/// Holds the client's channel binding flag against what was offered.
fn agreed_channel(header: &str, plus: bool, binding: &Binding) -> Result<String, Failure> {
    let flag = &header[..header.len() - 2];
    let bound = match (flag, plus, binding) {
        ("n", false, _) | ("y", false, Binding::Unavailable) => &[][..],
        ("y", false, Binding::EndPoint(_)) => return Err(Failure::Downgrade),
        (flag, true, Binding::EndPoint(hash)) if flag.strip_prefix("p=") == Some(BINDING_TYPE) => {
            hash
        }
        _ => return Err(MALFORMED),
    };
    Ok(BASE64_STANDARD.encode([header.as_bytes(), bound].concat()))
}

/// The nonce in `n=<user>,r=<nonce>[,extensions]`; the user name there is
/// ignored, as PostgreSQL does, for that of the startup packet.
fn client_nonce(mut bare: &str) -> Result<&str, Failure> {
    scram::take_attribute(&mut bare, 'n').ok_or(MALFORMED)?;
    let nonce = scram::take_attribute(&mut bare, 'r').ok_or(MALFORMED)?;
    let printable = |b: u8| (0x21..=0x7e).contains(&b);
    if nonce.is_empty() || !nonce.bytes().all(printable) {
        return Err(MALFORMED);
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::client;

    const RANDOM: [u8; RAW_NONCE] = [7; RAW_NONCE];

    fn verifier(password: &str) -> (Arc<Verifier>, Secret<[u8; KEY]>) {
        let salt = *b"0123456789abcdef";
        let keys = client::derive_keys(password, &salt, 16.try_into().unwrap());
        (Arc::new(Verifier::of_keys(&keys, &salt, 16)), keys.client_key)
    }

    fn client_final(exchange: &Exchange, key: &[u8; KEY], channel: &str) -> String {
        let without = format!("c={channel},r={}", exchange.nonce);
        let message =
            scram::auth_message(&exchange.client_first_bare, &exchange.server_first, &without);
        let signature = scram::hmac(&scram::hash(key), message.as_bytes());
        format!("{without},p={}", BASE64_STANDARD.encode(scram::xor(key, &signature)))
    }

    fn bound() -> Binding {
        Binding::EndPoint(Box::new([1, 2, 3]))
    }

    #[test]
    fn the_right_proof_brings_back_the_client_key() {
        let (verifier, key) = verifier("pencil");
        let candidate = Candidate::Real(verifier);
        let exchange =
            Exchange::begin(b"n,,n=,r=abc", false, &bound(), candidate, &RANDOM).unwrap();
        let message = client_final(&exchange, key.expose(), "biws");
        let proven = exchange.finish(message.as_bytes()).unwrap();
        assert_eq!(proven.keys.client_key.expose(), key.expose());
    }

    #[test]
    fn either_password_of_a_rotation_is_proved_and_answered_with_its_own_keys() {
        let [(current, new), (previous, old), (_, older)] = ["new", "old", "older"].map(verifier);
        let candidate = Candidate::Rotated { current: current.clone(), previous: previous.clone() };
        let attempt = |key: &Secret<[u8; KEY]>| {
            let (hello, binding) = (b"p=tls-server-end-point,,n=,r=abc", bound());
            let exchange =
                Exchange::begin(hello, true, &binding, candidate.clone(), &RANDOM).unwrap();
            let data = [b"p=tls-server-end-point,,".as_slice(), &[1, 2, 3]].concat();
            let last = client_final(&exchange, key.expose(), &BASE64_STANDARD.encode(data));
            let (without_proof, _) = last.rsplit_once(",p=").unwrap();
            let message = scram::auth_message(
                &exchange.client_first_bare,
                &exchange.server_first,
                without_proof,
            );
            exchange.finish(last.as_bytes()).map(|proven| (proven, message))
        };
        for (key, verifier) in [(new, current.clone()), (old, previous.clone())] {
            let (proven, message) = attempt(&key).unwrap();
            assert_eq!(proven.keys.client_key.expose(), key.expose());
            let signature = scram::hmac(verifier.server_key.expose(), message.as_bytes());
            assert_eq!(proven.server_final, format!("v={}", BASE64_STANDARD.encode(signature)));
        }
        assert_eq!(attempt(&older).unwrap_err(), Failure::Password);
    }

    #[test]
    fn wrong_keys_and_mock_verifiers_fail_alike() {
        let (verifier, key) = verifier("pencil");
        for (candidate, key) in [
            (Candidate::Real(verifier.clone()), [9; KEY]),
            (Candidate::Mock(verifier.clone()), *key.expose()),
        ] {
            let exchange =
                Exchange::begin(b"n,,n=,r=abc", false, &Binding::Unavailable, candidate, &RANDOM)
                    .unwrap();
            let message = client_final(&exchange, &key, "biws");
            assert_eq!(exchange.finish(message.as_bytes()).unwrap_err(), Failure::Password);
        }
    }

    #[test]
    fn a24_channel_binding_flags_and_offers() {
        let plus = "p=tls-server-end-point";
        let cases: [(&str, bool, Binding, Result<(), Failure>); 10] = [
            ("n", false, bound(), Ok(())),
            ("n", false, Binding::Unavailable, Ok(())),
            ("y", false, Binding::Unavailable, Ok(())),
            ("y", false, bound(), Err(Failure::Downgrade)),
            (plus, true, bound(), Ok(())),
            (plus, true, Binding::Unavailable, Err(MALFORMED)),
            (plus, false, bound(), Err(MALFORMED)),
            ("n", true, bound(), Err(MALFORMED)),
            ("p=tls-unique", true, bound(), Err(MALFORMED)),
            ("x", false, bound(), Err(MALFORMED)),
        ];
        for (flag, plus, binding, expected) in cases {
            let message = format!("{flag},,n=,r=abc");
            let candidate = Candidate::Real(verifier("x").0);
            let begun = Exchange::begin(message.as_bytes(), plus, &binding, candidate, &RANDOM);
            assert_eq!(begun.map(|_| ()), expected, "{flag} {plus} {binding:?}");
        }
    }

    #[test]
    fn a24_binding_to_another_certificate_fails() {
        let (verifier, key) = verifier("pencil");
        let first = b"p=tls-server-end-point,,n=,r=abc";
        for (hash, matches) in [([1, 2, 3], true), ([3, 2, 1], false)] {
            let exchange =
                Exchange::begin(first, true, &bound(), Candidate::Real(verifier.clone()), &RANDOM)
                    .unwrap();
            let data = [b"p=tls-server-end-point,,".as_slice(), &hash].concat();
            let message = client_final(&exchange, key.expose(), &BASE64_STANDARD.encode(data));
            assert_eq!(exchange.finish(message.as_bytes()).is_ok(), matches);
        }
    }

    #[test]
    fn nonces_must_be_repeated_whole() {
        let (verifier, key) = verifier("pencil");
        let mut exchange = Exchange::begin(
            b"n,,n=,r=abc",
            false,
            &Binding::Unavailable,
            Candidate::Real(verifier),
            &RANDOM,
        )
        .unwrap();
        let nonce = std::mem::replace(&mut exchange.nonce, "abc".into());
        let message = client_final(&exchange, key.expose(), "biws");
        exchange.nonce = nonce;
        assert_eq!(exchange.finish(message.as_bytes()).unwrap_err(), MISMATCH);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000_000))]
        #[test]
        fn a01_any_messages_are_refused_without_a_panic(
            first in prop::collection::vec(prop_oneof![
                Just("n,,"), Just("n=,r="), Just("p=tls-server-end-point"), Just(","), Just("="), Just("ü"), Just("abc")], 0..8),
            last in prop::collection::vec(prop_oneof![
                Just("c=biws"), Just(",r="), Just(",p="), Just("AAAA"), Just("="), Just("\u{0}")], 0..8),
        ) {
            let verifier = Arc::new(Verifier {
                iterations: 1, salt: Box::new([1]),
                stored_key: Secret::new([0; KEY]), server_key: Secret::new([0; KEY]),
            });
            let begun = Exchange::begin(
                first.concat().as_bytes(), false, &Binding::Unavailable, Candidate::Real(verifier), &RANDOM);
            if let Ok(exchange) = begun {
                prop_assert!(exchange.finish(last.concat().as_bytes()).is_err());
            }
        }
    }
}

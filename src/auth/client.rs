//! The client's side of SCRAM, towards servers, with keys instead of a
//! password.
//!
//! ```text
//! Hello::new → client-first
//!     └ hello.answer(server-first) → Sent { client-final }
//!           └ sent.verify(server-final)
//! ```
//!
//! The server is not trusted: its nonce, salt and iterations are bounded, and
//! it must prove that it knows the verifier.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, pbkdf2};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::scram::{self, BINDING_TYPE, KEY, RAW_NONCE};
use super::server::Binding;
use crate::domain::Secret;

/// The keys made from a password: all that a login needs.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Proves the client to the server.
    pub client_key: Secret<[u8; KEY]>,
    /// Proves the server to the client.
    pub server_key: Secret<[u8; KEY]>,
}

/// `ClientKey` and `ServerKey` of a password (RFC 5802, section 3). The password
/// goes through `SASLprep` where it can, as PostgreSQL does.
#[must_use]
pub fn derive_keys(password: &str, salt: &[u8], iterations: NonZeroU32) -> Keys {
    let prepared = stringprep::saslprep(password).unwrap_or(password.into());
    let mut salted = [0; KEY];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, salt, prepared.as_bytes(), &mut salted);
    let salted = Secret::new(salted);
    Keys {
        client_key: Secret::new(scram::hmac(salted.expose(), b"Client Key")),
        server_key: Secret::new(scram::hmac(salted.expose(), b"Server Key")),
    }
}

/// Why the server's part of the exchange cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// A message that does not parse, or an error in place of one.
    #[error("the server sent a malformed SCRAM message")]
    Malformed,
    /// The server's nonce does not begin with ours.
    #[error("the server did not repeat the nonce")]
    Nonce,
    /// The server does not know the verifier.
    #[error("the server could not prove that it knows the verifier")]
    Signature,
}

/// A client that has said client-first.
#[derive(Debug)]
pub struct Hello {
    header: String,
    binding: Binding,
    bare: String,
    nonce: String,
}

/// A client that has said client-final.
#[derive(Debug)]
pub struct Sent {
    /// The message to send.
    pub client_final: String,
    server_signature: [u8; KEY],
}

impl Hello {
    /// Begins an exchange, bound to the server's certificate where it can be.
    #[must_use]
    pub fn new(binding: Binding, random: &[u8; RAW_NONCE]) -> Self {
        let header = match &binding {
            Binding::Unavailable => "n,,".to_owned(),
            Binding::EndPoint(_) => format!("p={BINDING_TYPE},,"),
        };
        let nonce = scram::nonce(random);
        Self { header, binding, bare: format!("n=,r={nonce}"), nonce }
    }

    /// The mechanism that goes with the binding.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        self.binding.mechanisms()[0]
    }

    /// The message to send first.
    #[must_use]
    pub fn client_first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Answers server-first.
    ///
    /// # Errors
    /// [`ServerFault`] if the message is malformed or the nonce is not ours.
    pub fn answer(self, server_first: &[u8], keys: &Keys) -> Result<Sent, ServerFault> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| ServerFault::Malformed)?;
        let nonce = self.server_nonce(server_first)?;
        let bound: &[u8] = match &self.binding {
            Binding::Unavailable => &[],
            Binding::EndPoint(hash) => hash,
        };
        let channel = BASE64_STANDARD.encode([self.header.as_bytes(), bound].concat());
        let without_proof = format!("c={channel},r={nonce}");
        let message = scram::auth_message(&self.bare, server_first, &without_proof);
        let key = keys.client_key.expose();
        let signature = scram::hmac(&scram::hash(key), message.as_bytes());
        let proof = BASE64_STANDARD.encode(scram::xor(key, &signature));
        Ok(Sent {
            client_final: format!("{without_proof},p={proof}"),
            server_signature: scram::hmac(keys.server_key.expose(), message.as_bytes()),
        })
    }

    /// The nonce of `r=<nonce>,s=<salt>,i=<iterations>`. Salt and iterations
    /// are not used: the keys are known already.
    fn server_nonce<'a>(&self, mut server_first: &'a str) -> Result<&'a str, ServerFault> {
        let rest = &mut server_first;
        let nonce = scram::take_attribute(rest, 'r').ok_or(ServerFault::Malformed)?;
        scram::take_attribute(rest, 's').ok_or(ServerFault::Malformed)?;
        scram::take_attribute(rest, 'i').ok_or(ServerFault::Malformed)?;
        if nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce) {
            Ok(nonce)
        } else {
            Err(ServerFault::Nonce)
        }
    }
}

impl Sent {
    /// Checks server-final.
    ///
    /// # Errors
    /// [`ServerFault`] if the server does not know the verifier.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ServerFault> {
        let text = std::str::from_utf8(server_final).map_err(|_| ServerFault::Malformed)?;
        let signature = text.strip_prefix("v=").ok_or(ServerFault::Malformed)?;
        let signature = BASE64_STANDARD.decode(signature).map_err(|_| ServerFault::Malformed)?;
        constant_time::verify_slices_are_equal(&signature, &self.server_signature)
            .map_err(|_| ServerFault::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        derive_keys("pencil", &salt, NonZeroU32::new(4096).unwrap())
    }

    /// The example exchange of RFC 7677, section 3.
    #[test]
    fn the_rfcs_example_is_followed() {
        let hello = Hello {
            header: "n,,".into(),
            binding: Binding::Unavailable,
            bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        };
        let server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let sent = hello.answer(server_first, &keys()).unwrap();
        assert!(sent.client_final.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        sent.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a02_a_servers_long_or_wrong_messages_fail_cleanly() {
        let hello = || Hello::new(Binding::Unavailable, &[1; RAW_NONCE]);
        let nonce = scram::nonce(&[1; RAW_NONCE]);
        let long = format!("r={nonce}{},s={},i=1", "x".repeat(65536), "A".repeat(65536));
        assert!(hello().answer(long.as_bytes(), &keys()).is_ok());
        for (message, fault) in [
            (String::new(), ServerFault::Malformed),
            (format!("r={nonce}"), ServerFault::Malformed),
            (format!("r={nonce},s=AA,i=1"), ServerFault::Nonce),
            ("r=other,s=AA,i=1".into(), ServerFault::Nonce),
        ] {
            assert_eq!(hello().answer(message.as_bytes(), &keys()).unwrap_err(), fault);
        }
        let sent = hello().answer(format!("r={nonce}x,s=AA,i=1").as_bytes(), &keys()).unwrap();
        let wrong = format!("v={}", BASE64_STANDARD.encode([0; KEY]));
        assert_eq!(sent.verify(wrong.as_bytes()), Err(ServerFault::Signature));
    }
}

//! PostgreSQL's stored SCRAM verifiers, and where they come from.

use std::pin::Pin;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::client::Keys;
use super::scram::{self, KEY};
use crate::domain::{Secret, ServiceName};

/// The most iterations taken from a verifier: PostgreSQL's own limit is the
/// largest `int`; beyond this a client could be kept busy for minutes.
const MAX_ITERATIONS: u32 = 10_000_000;
const MAX_SALT: usize = 256;

/// What a server keeps of a password: `rolpassword` of a role whose password
/// was set with `password_encryption = scram-sha-256`.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// The salt, decoded.
    pub salt: Box<[u8]>,
    /// H(ClientKey): what a proof is held against.
    pub stored_key: Secret<[u8; KEY]>,
    /// What the server proves itself with.
    pub server_key: Secret<[u8; KEY]>,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`;
    /// `None` for everything else, MD5 hashes among it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|i| (1..=MAX_ITERATIONS).contains(i))?;
        let salt =
            BASE64_STANDARD.decode(salt).ok().filter(|s| (1..=MAX_SALT).contains(&s.len()))?;
        Some(Self {
            iterations,
            salt: salt.into(),
            stored_key: Secret::new(decode_key(stored_key)?),
            server_key: Secret::new(decode_key(server_key)?),
        })
    }

    /// What a server keeps of the password that these keys were made of, with
    /// this salt and so many iterations.
    #[must_use]
    pub fn of_keys(keys: &Keys, salt: &[u8], iterations: u32) -> Self {
        Self {
            iterations,
            salt: salt.into(),
            stored_key: Secret::new(scram::hash(keys.client_key.expose())),
            server_key: keys.server_key.clone(),
        }
    }

    /// As [`Self::parse`] reads it, and as PostgreSQL takes it for a password.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        Secret::new(format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            base64(&self.salt),
            base64(self.stored_key.expose()),
            base64(self.server_key.expose())
        ))
    }
}

pub(super) fn decode_key(text: &str) -> Option<[u8; KEY]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// What a look at the server says about a role.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// It may log in with a password that matches.
    Verifier(Arc<Verifier>),
    /// Its password was replaced, and the one before works for a while yet.
    Rotated {
        /// What the server keeps.
        current: Arc<Verifier>,
        /// What it kept before, with the same salt and iterations.
        previous: Arc<Verifier>,
    },
    /// It may not; the client is not told which of these it is.
    Refused(NoVerifier),
}

/// Why a role cannot log in, for the log and the metrics only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoVerifier {
    /// There is no such role, or its name is no UTF-8.
    UnknownRole,
    /// `NOLOGIN`.
    NoLogin,
    /// `VALID UNTIL` has passed.
    Expired,
    /// It has no password.
    NoPassword,
    /// Its password is kept as MD5, or in a form not known.
    NotScram,
}

impl NoVerifier {
    /// The reason in the operator's words.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::UnknownRole => "the role does not exist",
            Self::NoLogin => "the role may not log in (NOLOGIN)",
            Self::Expired => "the role's password has expired (VALID UNTIL)",
            Self::NoPassword => "the role has no password",
            Self::NotScram => {
                "the role's password is not stored as SCRAM-SHA-256: set it again with password_encryption = 'scram-sha-256'"
            }
        }
    }
}

/// No node could be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node of the service could be asked for the role's verifier: {0}")]
pub struct LookupError(pub String);

/// The future of a lookup.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = Result<Lookup, LookupError>> + Send + 'a>>;

/// Where verifiers come from: the control plane asks the service's nodes; the
/// data path does not know how.
pub trait VerifierSource: Send + Sync {
    /// What the service's nodes say about the role, at most
    /// `verifier_max_age` old.
    fn lookup<'a>(&'a self, service: &'a ServiceName, role: &'a str) -> LookupFuture<'a>;

    /// What a lookup would say at once, without asking or waiting.
    fn known(&self, service: &ServiceName, role: &str) -> Option<Lookup>;

    /// What was known of a role lately, if a node could be asked; asked anew
    /// for the next time. Unlike a lookup it is no sign of a client.
    fn recheck(&self, service: &ServiceName, role: &str) -> Option<Lookup>;

    /// A client's proof did not match what the last lookup said: the next one
    /// asks again, as often as a role may be asked for.
    fn doubt(&self, service: &ServiceName, role: &str);

    /// What logs the role in on its servers now, if its client has proved these
    /// keys: those of the new password during the grace time of a rotation,
    /// otherwise the same.
    fn keys(&self, service: &ServiceName, role: &str, proven: &Arc<Keys>) -> Arc<Keys>;

    /// Whether the role's password is being replaced with a grace time at this
    /// moment, so that nobody knows which one the server has.
    fn is_rotating(&self, service: &ServiceName, role: &str) -> bool;

    /// The iterations that the service's verifiers have, for mock ones.
    fn iterations(&self, service: &ServiceName) -> u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
        AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn a_verifier_of_postgresql_is_read() {
        let verifier = Verifier::parse(GOOD).unwrap();
        assert_eq!(verifier.iterations, 4096);
        assert_eq!(&verifier.salt[..], b"saltsaltsaltsalt");
        assert_eq!(verifier.stored_key.expose()[31], 31);
        assert_eq!(verifier.server_key.expose()[0], 32);
        assert_eq!(verifier.to_text().expose(), &GOOD.replace(' ', ""));
    }

    #[test]
    fn a02_what_is_no_verifier_is_refused() {
        let long_salt = GOOD.replace("c2FsdHNhbHRzYWx0c2FsdA==", &"AAAA".repeat(1000));
        for bad in [
            "",
            "md5c4ca4238a0b923820dcc509a6f75849b",
            "SCRAM-SHA-256$",
            &GOOD.replace("4096", "0"),
            &GOOD.replace("4096", "4294967295"),
            &GOOD.replace("4096", "-1"),
            &GOOD.replace("AAEC", "AA"),
            &GOOD[..GOOD.len() - 4],
            &long_salt,
        ] {
            assert!(Verifier::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", Verifier::parse(GOOD).unwrap()).contains("31"));
    }
}

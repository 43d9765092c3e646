//! Which password a connection was opened with, without being of use to log
//! in.

use super::client::Keys;
use super::scram::{self, KEY};
use super::verifier::{Lookup, Verifier};

/// A hash of a role's verifier: equal for the keys and the verifier that are
/// made of one password with one salt.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credential([u8; KEY]);

impl Credential {
    /// Of a role's keys.
    #[must_use]
    pub fn of_keys(keys: &Keys) -> Self {
        Self::of(&scram::hash(keys.client_key.expose()), keys.server_key.expose())
    }

    /// Of what the server keeps.
    #[must_use]
    pub fn of_verifier(verifier: &Verifier) -> Self {
        Self::of(verifier.stored_key.expose(), verifier.server_key.expose())
    }

    /// Whether a role may still log in with it.
    #[must_use]
    pub fn holds(self, lookup: &Lookup) -> bool {
        match lookup {
            Lookup::Verifier(verifier) => self == Self::of_verifier(verifier),
            Lookup::Rotated { current, previous } => {
                [current, previous].into_iter().any(|known| self == Self::of_verifier(known))
            }
            Lookup::Refused(_) => false,
        }
    }

    fn of(stored_key: &[u8; KEY], server_key: &[u8; KEY]) -> Self {
        Self(scram::hash(&[&stored_key[..], server_key].concat()))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;
    use crate::auth::client::derive_keys;
    use crate::auth::verifier::NoVerifier;

    #[test]
    fn keys_and_verifier_of_one_password_are_one_credential() {
        let keys = |password| derive_keys(password, b"salt", NonZeroU32::new(2).unwrap());
        let of_keys = |keys: &Keys| Arc::new(Verifier::of_keys(keys, b"salt", 2));
        let verifier = |keys: &Keys| Lookup::Verifier(of_keys(keys));
        let credential = Credential::of_keys(&keys("old"));
        assert!(credential.holds(&verifier(&keys("old"))));
        assert!(!credential.holds(&verifier(&keys("new"))));
        let rotated = |previous| Lookup::Rotated {
            current: of_keys(&keys("new")),
            previous: of_keys(&keys(previous)),
        };
        assert!(credential.holds(&rotated("old")) && !credential.holds(&rotated("older")));
        assert!(!credential.holds(&Lookup::Refused(NoVerifier::NoLogin)));
        assert_eq!(format!("{credential:?}"), "Credential");
    }
}

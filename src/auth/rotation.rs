//! A password that was replaced and works for a while yet, its grace time
//! (decision 19).
//!
//! Its verifier and the new one have the same salt and iterations, so that a
//! client's proof can be held against both in one exchange, before anybody
//! knows which password it has. The server knows the new one alone: who proves
//! the old one is logged in there with the keys of the new one.
//!
//! The old one counts only while the server's verifier is the one that the
//! rotation made: whoever changes the password in SQL ends the grace time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::client::{Keys, derive_keys};
use super::credential::Credential;
use super::scram::KEY;
use super::verifier::{Lookup, Verifier, decode_key};
use crate::domain::Secret;

/// A password that took the place of another, with a grace time.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// That of the password before.
    previous: Arc<Verifier>,
    /// Those of the new password.
    keys: Arc<Keys>,
    until: SystemTime,
}

impl Rotation {
    /// This password takes the place of the one of this verifier, which works
    /// until then. As slow as the verifier has iterations.
    ///
    /// # Panics
    /// Never: no verifier has 0 iterations.
    #[must_use]
    pub fn new(previous: Verifier, password: &Secret<String>, until: SystemTime) -> Self {
        let iterations = NonZeroU32::new(previous.iterations).expect("at least one iteration");
        let keys = derive_keys(password.expose(), &previous.salt, iterations);
        Self { previous: Arc::new(previous), keys: Arc::new(keys), until }
    }

    /// What the server is given: the verifier of the new password.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier::of_keys(&self.keys, &self.previous.salt, self.previous.iterations)
    }

    /// Whether the grace time has passed.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        now >= self.until
    }

    /// Whether a server that keeps this verifier knows the new password.
    #[must_use]
    pub fn has_made(&self, verifier: &Verifier) -> bool {
        Credential::of_verifier(verifier) == Credential::of_keys(&self.keys)
    }

    /// The password before counts beside the one that the server keeps, if that
    /// is the new one.
    #[must_use]
    pub fn widen(&self, lookup: Lookup) -> Lookup {
        match lookup {
            Lookup::Verifier(current) if self.has_made(&current) => {
                Lookup::Rotated { current, previous: Arc::clone(&self.previous) }
            }
            other => other,
        }
    }

    /// What logs a client in on a server that knows the new password alone, if
    /// these keys are those of the password before.
    #[must_use]
    pub fn successor(&self, proven: &Keys) -> Option<&Arc<Keys>> {
        let replaced = Credential::of_keys(proven) == Credential::of_verifier(&self.previous);
        replaced.then_some(&self.keys)
    }

    /// All but the deadline, to be sealed.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        let base64 = |key: &Secret<[u8; KEY]>| BASE64_STANDARD.encode(key.expose());
        let Keys { client_key, server_key } = &*self.keys;
        let previous = self.previous.to_text();
        Secret::new(format!("{} {} {}", previous.expose(), base64(client_key), base64(server_key)))
    }

    /// What [`Self::to_text`] has written.
    #[must_use]
    pub fn parse(text: &Secret<String>, until: SystemTime) -> Option<Self> {
        let mut parts = text.expose().split(' ');
        let previous = Verifier::parse(parts.next()?)?;
        let mut key = || decode_key(parts.next()?).map(Secret::new);
        let keys = Keys { client_key: key()?, server_key: key()? };
        Some(Self { previous: Arc::new(previous), keys: Arc::new(keys), until })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::verifier::NoVerifier;

    const SALT: &[u8] = b"0123456789abcdef";

    fn keys(password: &str) -> Arc<Keys> {
        Arc::new(derive_keys(password, SALT, NonZeroU32::new(16).unwrap()))
    }

    fn verifier(password: &str) -> Verifier {
        Verifier::of_keys(&keys(password), SALT, 16)
    }

    fn rotation() -> Rotation {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        Rotation::new(verifier("old"), &Secret::new("new".to_owned()), until)
    }

    #[test]
    fn the_password_before_counts_while_the_server_keeps_the_new_one() {
        let rotation = rotation();
        let widened = |password| rotation.widen(Lookup::Verifier(Arc::new(verifier(password))));
        assert!(matches!(widened("new"), Lookup::Rotated { .. }));
        for other in ["old", "by hand"] {
            assert!(matches!(widened(other), Lookup::Verifier(_)), "{other}");
        }
        let refused = rotation.widen(Lookup::Refused(NoVerifier::NoLogin));
        assert!(matches!(refused, Lookup::Refused(NoVerifier::NoLogin)));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!rotation.is_over(at(59)) && rotation.is_over(at(60)));
    }

    #[test]
    fn the_new_verifier_has_the_salt_of_the_one_before() {
        let made = rotation().verifier();
        assert_eq!((made.iterations, &*made.salt), (16, SALT));
        assert_eq!(made.to_text().expose(), verifier("new").to_text().expose());
    }

    #[test]
    fn only_the_replaced_keys_have_a_successor() {
        let rotation = rotation();
        let successor = rotation.successor(&keys("old")).unwrap();
        assert_eq!(successor.client_key.expose(), keys("new").client_key.expose());
        assert!(rotation.successor(&keys("new")).is_none());
        assert!(rotation.successor(&keys("older")).is_none());
    }

    #[test]
    fn what_was_sealed_is_read_again_and_nothing_shows() {
        let rotation = rotation();
        let text = rotation.to_text();
        let read = Rotation::parse(&text, rotation.until).unwrap();
        assert_eq!(read.to_text().expose(), text.expose());
        assert!(read.has_made(&verifier("new")) && read.successor(&keys("old")).is_some());
        for bad in ["", "md5 AA AA", &text.expose()[..text.expose().len() - 4]] {
            assert!(Rotation::parse(&Secret::new(bad.to_owned()), rotation.until).is_none());
        }
        let shown = format!("{read:?}");
        let secrets: Vec<_> = text.expose().split([' ', '$', ':']).skip(3).collect();
        assert!(secrets.len() == 4 && secrets.iter().all(|key| !shown.contains(key)), "{shown}");
        assert!(shown.contains("Secret(..)"));
    }
}

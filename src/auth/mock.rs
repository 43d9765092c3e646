//! Verifiers for roles that cannot log in, so that they look like roles that
//! can (decision 19; PostgreSQL's `mock_scram_secret`).

use std::sync::Arc;

use super::scram::{self, KEY};
use super::verifier::Verifier;
use crate::domain::{Secret, ServiceName};

/// Bytes of salt that PostgreSQL gives a new password.
const SALT: usize = 16;

/// Makes the same mock verifier for the same role each time, also after a
/// restart: a salt that changed would give the role away.
#[derive(Debug, Clone)]
pub struct MockVerifiers {
    secret: Secret<[u8; KEY]>,
}

impl MockVerifiers {
    /// From the server's persistent secret.
    #[must_use]
    pub fn new(secret: Secret<[u8; KEY]>) -> Self {
        Self { secret }
    }

    /// The mock verifier of a role, with as many iterations as the service's
    /// real ones have.
    #[must_use]
    pub fn verifier(&self, service: &ServiceName, role: &[u8], iterations: u32) -> Arc<Verifier> {
        let salt = self.derive(b"salt", service, role);
        Arc::new(Verifier {
            iterations,
            salt: salt[..SALT].into(),
            stored_key: Secret::new(self.derive(b"stored", service, role)),
            server_key: Secret::new(self.derive(b"server", service, role)),
        })
    }

    fn derive(&self, purpose: &[u8], service: &ServiceName, role: &[u8]) -> [u8; KEY] {
        let message = [purpose, b"\0", service.as_str().as_bytes(), b"\0", role].concat();
        scram::hmac(self.secret.expose(), &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roles_salt_never_changes_and_differs_from_others() {
        let mock = MockVerifiers::new(Secret::new([3; KEY]));
        let orders: ServiceName = "orders".parse().unwrap();
        let billing: ServiceName = "billing".parse().unwrap();
        let salt = |service: &ServiceName, role: &str| {
            mock.verifier(service, role.as_bytes(), 4096).salt.clone()
        };
        assert_eq!(salt(&orders, "bob"), salt(&orders, "bob"));
        assert_ne!(salt(&orders, "bob"), salt(&orders, "eve"));
        assert_ne!(salt(&orders, "bob"), salt(&billing, "bob"));
        let other = MockVerifiers::new(Secret::new([4; KEY]));
        assert_ne!(salt(&orders, "bob"), other.verifier(&orders, b"bob", 4096).salt);
    }
}

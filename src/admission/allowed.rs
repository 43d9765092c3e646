//! The allowlist, with one answer for everybody it does not let in
//! (promise 2).

use std::sync::Arc;

use crate::directory::{Service, Snapshot};
use crate::domain::{ClientAddress, Refusal, ServiceName};

/// Proof that a service exists and lets this address in.
#[derive(Debug, Clone)]
#[must_use]
pub struct Allowed {
    service: Arc<Service>,
}

impl Allowed {
    /// Asks the allowlist of the service, if there is such a service.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`], whether the address is denied or the service
    /// does not exist.
    pub fn check(
        snapshot: &Snapshot,
        service: Option<&ServiceName>,
        address: ClientAddress,
    ) -> Result<Self, Refusal> {
        let service = service.and_then(|name| snapshot.services.get(name));
        match service {
            Some(service) if service.allowlist.permits(&address) => {
                Ok(Self { service: Arc::clone(service) })
            }
            _ => Err(Refusal::NotPermitted { address }),
        }
    }

    /// The service, as it was when the check was made.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

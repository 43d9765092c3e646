//! The passwords that were replaced and still work: one for each role at most,
//! until its grace time has passed.
//!
//! ```text
//! begin ─▶ under way ─ the server was told ─▶ made ◀─┐ what lookups show:
//!              └────── perhaps it was not ──▶ unsure ┘ the latest counts
//! ```
//!
//! Where the server does not keep the new verifier, everything is as if there
//! were no rotation: so one of the two passwords works at any moment, also
//! where the server was never told or a failover has lost it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::service::lock;
use crate::auth::Lookup;
use crate::auth::client::Keys;
use crate::auth::rotation::Rotation;
use crate::domain::ServiceName;

/// The rotations of all services.
#[derive(Debug, Default)]
pub(super) struct Rotations(Mutex<HashMap<ServiceName, OfService>>);

type OfService = HashMap<Box<str>, Entry>;

#[derive(Debug)]
struct Entry {
    rotation: Rotation,
    stage: Stage,
}

/// Which verifier the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is being told the new one.
    UnderWay,
    /// The new one.
    Made,
    /// Not the new one, as far as is known.
    Unsure,
}

impl Rotations {
    /// The server is about to be told. An earlier rotation of the role ends.
    pub(super) fn begin(&self, service: &ServiceName, role: &str, rotation: Rotation) {
        self.put(service, role, Entry { rotation, stage: Stage::UnderWay });
    }

    /// A rotation that an earlier process has begun.
    pub(super) fn restore(&self, service: &ServiceName, role: &str, rotation: Rotation) {
        self.put(service, role, Entry { rotation, stage: Stage::Unsure });
    }

    fn put(&self, service: &ServiceName, role: &str, entry: Entry) {
        let mut services = lock(&self.0);
        services.entry(service.clone()).or_default().insert(role.into(), entry);
    }

    /// The server was told, or perhaps it was not.
    pub(super) fn settle(&self, service: &ServiceName, role: &str, told: bool) {
        self.change(service, role, |entry| {
            if entry.stage == Stage::UnderWay || told {
                entry.stage = if told { Stage::Made } else { Stage::Unsure };
            }
        });
    }

    /// A node was asked, after whatever was ordered before, and said this.
    pub(super) fn saw(&self, service: &ServiceName, role: &str, lookup: &Lookup) {
        let Lookup::Verifier(verifier) = lookup else { return };
        self.change(service, role, |entry| {
            entry.stage = match (entry.rotation.has_made(verifier), entry.stage) {
                (true, _) => Stage::Made,
                (false, Stage::UnderWay) => Stage::UnderWay,
                (false, Stage::Made | Stage::Unsure) => Stage::Unsure,
            };
        });
    }

    /// The role has one password alone from now on.
    pub(super) fn forget(&self, service: &ServiceName, role: &str) {
        if let Some(roles) = lock(&self.0).get_mut(service) {
            roles.remove(role);
        }
    }

    /// What a lookup means during a grace time.
    pub(super) fn widen(&self, service: &ServiceName, role: &str, lookup: Lookup) -> Lookup {
        match self.live(service, role, |entry| entry.rotation.clone()) {
            Some(rotation) => rotation.widen(lookup),
            None => lookup,
        }
    }

    /// What logs in whoever has proved these keys.
    pub(super) fn keys(
        &self,
        service: &ServiceName,
        role: &str,
        proven: &Arc<Keys>,
    ) -> Option<Arc<Keys>> {
        self.live(service, role, |entry| {
            let made = entry.stage == Stage::Made;
            entry.rotation.successor(proven).filter(|_| made).cloned()
        })?
    }

    /// Whether nobody knows what the server keeps.
    pub(super) fn is_under_way(&self, service: &ServiceName, role: &str) -> bool {
        let under_way = self.live(service, role, |entry| entry.stage == Stage::UnderWay);
        under_way.unwrap_or(false)
    }

    fn change(&self, service: &ServiceName, role: &str, change: impl FnOnce(&mut Entry)) {
        let mut services = lock(&self.0);
        if let Some(entry) = services.get_mut(service).and_then(|roles| roles.get_mut(role)) {
            change(entry);
        }
    }

    /// Looks at a rotation whose time has not passed; one whose has is dropped.
    fn live<T>(
        &self,
        service: &ServiceName,
        role: &str,
        look: impl FnOnce(&Entry) -> T,
    ) -> Option<T> {
        let mut services = lock(&self.0);
        let roles = services.get_mut(service)?;
        if roles.get(role)?.rotation.is_over(SystemTime::now()) {
            roles.remove(role);
        }
        roles.get(role).map(look)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::auth::Verifier;
    use crate::auth::client::derive_keys;
    use crate::domain::Secret;

    fn keys(password: &str) -> Arc<Keys> {
        Arc::new(derive_keys(password, b"salt", NonZeroU32::new(16).unwrap()))
    }

    fn lookup(password: &str) -> Lookup {
        Lookup::Verifier(Arc::new(Verifier::of_keys(&keys(password), b"salt", 16)))
    }

    fn rotation(seconds: u64) -> Rotation {
        let Lookup::Verifier(old) = lookup("old") else { unreachable!("it is one") };
        let until = SystemTime::now() + Duration::from_secs(seconds);
        Rotation::new(Verifier::clone(&old), &Secret::new("new".to_owned()), until)
    }

    fn orders() -> ServiceName {
        "orders".parse().unwrap()
    }

    /// Whether a client of the old password is logged in with the new keys.
    fn leads_over(rotations: &Rotations) -> bool {
        rotations.keys(&orders(), "app", &keys("old")).is_some()
    }

    #[test]
    fn what_the_server_was_last_seen_to_keep_decides() {
        let (rotations, orders) = (Rotations::default(), orders());
        rotations.restore(&orders, "app", rotation(60));
        assert!(!leads_over(&rotations), "perhaps the server was never told");
        rotations.saw(&orders, "app", &lookup("new"));
        assert!(leads_over(&rotations));
        assert!(rotations.keys(&orders, "app", &keys("new")).is_none());
        assert!(rotations.keys(&orders, "other", &keys("old")).is_none());
        for other in ["old", "by hand"] {
            rotations.saw(&orders, "app", &lookup("new"));
            rotations.saw(&orders, "app", &lookup(other));
            assert!(!leads_over(&rotations), "{other}");
        }
    }

    #[test]
    fn while_the_server_is_told_nothing_is_certain() {
        let (rotations, orders) = (Rotations::default(), orders());
        for told in [true, false] {
            rotations.begin(&orders, "app", rotation(60));
            rotations.saw(&orders, "app", &lookup("old"));
            assert!(rotations.is_under_way(&orders, "app") && !leads_over(&rotations));
            rotations.settle(&orders, "app", told);
            assert!(!rotations.is_under_way(&orders, "app"));
            assert_eq!(leads_over(&rotations), told);
        }
    }

    #[test]
    fn a_rotation_ends_with_its_time_or_when_it_is_forgotten() {
        let (rotations, orders) = (Rotations::default(), orders());
        let widened = |rotations: &Rotations| {
            let widened = rotations.widen(&orders, "app", lookup("new"));
            matches!(widened, Lookup::Rotated { .. })
        };
        rotations.restore(&orders, "app", rotation(60));
        rotations.saw(&orders, "app", &lookup("new"));
        assert!(widened(&rotations));
        rotations.forget(&orders, "app");
        assert!(!widened(&rotations) && !leads_over(&rotations));
        rotations.begin(&orders, "app", rotation(0));
        rotations.settle(&orders, "app", true);
        assert!(!widened(&rotations) && !leads_over(&rotations));
        assert!(lock(&rotations.0)[&orders].is_empty(), "what is over was dropped");
    }
}

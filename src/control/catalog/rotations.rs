//! The rotations that the catalogue's roles are in the middle of, for a Postern
//! that starts.

use std::time::SystemTime;

use super::record::{RoleRecord, rotation_secret};
use super::store::Range;
use super::{Catalog, CatalogError, Versioned};
use crate::auth::rotation::Rotation;
use crate::domain::ServiceName;

/// A role whose password before still works.
#[derive(Debug)]
pub struct Rotated {
    /// Whose role it is.
    pub service: ServiceName,
    /// The role.
    pub role: String,
    /// Its passwords.
    pub rotation: Rotation,
}

/// Every rotation whose grace time has not passed.
///
/// # Errors
/// [`CatalogError`].
pub fn rotations(catalog: &Catalog, now: SystemTime) -> Result<Vec<Rotated>, CatalogError> {
    let roles: Vec<Versioned<RoleRecord>> = catalog.list(Range::ALL)?;
    let mut rotations = Vec::new();
    for RoleRecord { service, role, previous_until, .. } in roles.into_iter().map(|r| r.record) {
        let Some(until) = live(previous_until.as_deref(), now) else { continue };
        let sealed = catalog.secret(&rotation_secret(&service, &role))?;
        let rotation = sealed.and_then(|text| Rotation::parse(&text, until));
        if let (Ok(service), Some(rotation)) = (service.parse(), rotation) {
            rotations.push(Rotated { service, role, rotation });
        } else {
            tracing::warn!(service, role, "the catalogue does not have the password before");
        }
    }
    Ok(rotations)
}

/// The end of a grace time that has not passed.
#[must_use]
pub fn live(until: Option<&str>, now: SystemTime) -> Option<SystemTime> {
    let until = humantime::parse_rfc3339(until?).ok()?;
    (now < until).then_some(until)
}

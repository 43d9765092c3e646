//! Opens the catalogue, or says in full why not: half a start would serve
//! half of the services.

use std::time::SystemTime;

use crate::app::Failure;
use crate::control::catalog::keyring::KeyError;
use crate::control::catalog::rotations::{self, Rotated};
use crate::control::catalog::store::StoreError;
use crate::control::catalog::{Catalog, CatalogError, KEY_VARIABLE, Location};
use crate::control::config::Settings;
use crate::control::management::Management;

/// The catalogue that the settings name, if they name one.
///
/// # Errors
/// Which file is in the way, and what to do about it.
pub(super) fn open(settings: &Settings) -> Result<Option<Catalog>, Failure> {
    let Some(path) = settings.catalog.path.clone() else {
        return Ok(None);
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| {
            Failure::new(format!("catalog.path: {}: {error}", directory.display()))
        })?;
    }
    let key_file = settings.catalog.key_file.clone();
    let key_file = key_file.unwrap_or_else(|| path.with_extension("key"));
    let location = Location { path, key_file };
    let opened = Catalog::open(&location);
    opened.map(Some).map_err(|error| Failure::new(explanation(&error, &location)))
}

/// Lets the passwords go on working that a process before had replaced with a
/// grace time.
///
/// # Errors
/// If the catalogue cannot be read.
pub(super) fn restore_rotations(catalog: &Catalog, management: &Management) -> Result<(), Failure> {
    let found = rotations::rotations(catalog, SystemTime::now());
    let found = found.map_err(|error| Failure::new(format!("catalog: {error}")))?;
    for Rotated { service, role, rotation } in found {
        management.restore_rotation(&service, &role, rotation);
    }
    Ok(())
}

fn explanation(error: &CatalogError, location: &Location) -> String {
    let (path, key_file) = (location.path.display(), location.key_file.display());
    let advice = match error {
        CatalogError::Key(KeyError::WrongKey | KeyError::Damaged) => {
            return format!(
                "catalog.key_file: {key_file} (or {KEY_VARIABLE}) is not the key of the catalogue \
                 {path}: {error}; nothing was started. Give it the key that the catalogue was \
                 made with, behind a new first line if it is to be replaced"
            );
        }
        CatalogError::Key(_) => {
            return format!(
                "catalog.key_file: {key_file}: {error}; the catalogue {path} cannot be read \
                 without it"
            );
        }
        CatalogError::Store(StoreError::InUse) => "is another Postern running with it?",
        CatalogError::Store(StoreError::Damaged(_)) => {
            "nothing was started, and the file was left as it is: put a copy in its place, or \
             move it away to begin without services"
        }
        _ => "nothing was started",
    };
    format!("catalog.path: {path}: {error}; {advice}")
}

//! The catalogue over its life: made, closed, opened with other keys.

use std::fs;

use super::record::{Scope, TokenRecord};
use super::*;

struct Place {
    directory: tempfile::TempDir,
    location: Location,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let key_file = directory.path().join("catalog.key");
        Self { directory, location: Location { path, key_file } }
    }

    fn open(&self) -> Result<Catalog, CatalogError> {
        Catalog::open(&self.location)
    }
}

fn token(id: &str) -> TokenRecord {
    let (description, hash) = ("for tests".to_owned(), "00".to_owned());
    TokenRecord { id: id.to_owned(), description, scope: Scope::Read, hash, created_at: now() }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let place = Place::new();
    let catalog = place.open().unwrap();
    let secret = Secret::new("hunter2".to_owned());
    let change = catalog.change().put(&token("a"), Expect::Absent).seal("a/b", &secret);
    let audit = Audit { actor: "socket".into(), action: "test".into(), detail: 1.into() };
    change.audit("a", &audit).event("orders", "running", "It runs.").commit().unwrap();
    drop(catalog);
    let catalog = place.open().unwrap();
    assert_eq!(catalog.get::<TokenRecord>("a").unwrap().unwrap().record.scope, Scope::Read);
    assert_eq!(catalog.list::<TokenRecord>(Range::ALL).unwrap().len(), 1);
    assert_eq!(catalog.secret("a/b").unwrap().unwrap().expose(), "hunter2");
    let lines = Lines { log: Log::Audit, subject: Some("a"), before: None, limit: 1 };
    assert!(catalog.lines(lines).unwrap()[0].text.contains("socket"));
    for entry in fs::read_dir(place.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|b| b == b"hunter2"), "{}", path.display());
    }
}

#[test]
fn a_wrong_or_missing_key_is_an_error_and_not_a_new_catalogue() {
    let place = Place::new();
    drop(place.open().unwrap());
    let key = fs::read(&place.location.key_file).unwrap();
    fs::remove_file(&place.location.key_file).unwrap();
    assert!(matches!(place.open().unwrap_err(), CatalogError::Key(KeyError::File(_))));
    assert!(!place.location.key_file.exists());
    Keyring::make(&place.location.key_file).unwrap();
    assert_eq!(place.open().unwrap_err(), CatalogError::Key(KeyError::WrongKey));
    fs::write(&place.location.key_file, key).unwrap();
    place.open().unwrap();
}

#[test]
fn a_new_first_key_seals_everything_anew() {
    let place = Place::new();
    let catalog = place.open().unwrap();
    catalog.change().seal("a", &Secret::new("hunter2".to_owned())).commit().unwrap();
    drop(catalog);
    let old = fs::read_to_string(&place.location.key_file).unwrap();
    fs::remove_file(&place.location.key_file).unwrap();
    Keyring::make(&place.location.key_file).unwrap();
    let new = fs::read_to_string(&place.location.key_file).unwrap();
    fs::write(&place.location.key_file, format!("{new}{old}")).unwrap();
    drop(place.open().unwrap());
    fs::write(&place.location.key_file, new).unwrap();
    let catalog = place.open().unwrap();
    assert_eq!(catalog.secret("a").unwrap().unwrap().expose(), "hunter2");
    assert_eq!(catalog.secrets().unwrap().len(), 1);
}

#[test]
fn a_damaged_file_stays_as_it_is() {
    let place = Place::new();
    let catalog = place.open().unwrap();
    for number in 0..200 {
        let record = token(&format!("{number:0100}"));
        catalog.change().put(&record, Expect::Absent).commit().unwrap();
    }
    drop(catalog);
    let mut bytes = fs::read(&place.location.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&place.location.path, &bytes).unwrap();
    let damaged = place.open().unwrap_err();
    assert!(matches!(damaged, CatalogError::Store(StoreError::Damaged(_))), "{damaged}");
}

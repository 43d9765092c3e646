//! Folders are floors: a module imports only from floors below its own, and
//! siblings never import each other (`ARCHITECTURE.md` has the same table).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every folder of `src`, and its floor.
const FLOORS: &[(&str, u32)] = &[
    ("domain", 0),
    ("wire", 1),
    ("directory", 1),
    ("metrics", 1),
    ("shutdown", 1),
    ("cluster", 1),
    ("net", 2),
    ("auth", 2),
    ("admission", 2),
    ("routing", 2),
    ("upstream", 3),
    ("pool", 4),
    ("session", 5),
    ("control", 5),
    ("app", 6),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut files: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).collect();
    files.extend(folders.iter().flat_map(|folder| rust_files(folder)));
    files
}

/// The folders that a file names as `crate::<folder>`, comments left out.
fn named_folders(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1).map(leading_identifier)).collect()
}

fn leading_identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_folder_has_a_floor() {
    let mut folders: Vec<String> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut known: Vec<String> = FLOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    folders.sort();
    known.sort();
    assert_eq!(folders, known);
}

#[test]
fn imports_go_down_and_never_sideways() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut imports = 0;
    for (folder, floor) in FLOORS {
        for file in rust_files(&source().join(folder)) {
            for named in named_folders(&fs::read_to_string(&file).unwrap()) {
                let Some(other) = floors.get(named.as_str()) else {
                    continue;
                };
                imports += 1;
                if named != *folder && other >= floor {
                    wrong.push(format!("{}: {folder} imports {named}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(imports > 100, "only {imports} imports were found: the test is blind");
}

#[test]
fn the_document_has_the_same_floors() {
    let document = fs::read_to_string(source().join("../ARCHITECTURE.md")).unwrap();
    for (folder, floor) in FLOORS {
        let row = document.lines().find(|line| line.starts_with(&format!("| {floor} |")));
        let row = row.unwrap_or_else(|| panic!("no row for floor {floor}"));
        assert!(row.contains(&format!("`{folder}`")), "{folder} is not in: {row}");
    }
}

#[test]
fn no_global_state_outside_the_relays_scratch() {
    for file in rust_files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_test = file.to_string_lossy().contains("fixture") || file.ends_with("tests.rs");
        for word in ["OnceLock", "LazyLock", "static mut", "lazy_static"] {
            let found = code.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
            assert!(!found || is_test, "{}: {word}", file.display());
        }
    }
}

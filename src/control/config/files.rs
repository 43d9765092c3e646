//! The files that a configuration names.
//!
//! A file is opened once and judged by its handle, so that what was judged is
//! what is read; a pipe or a device is refused rather than waited for. What a
//! certificate contains is not looked at here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroize;

use super::section::{Place, Section};
use crate::domain::Secret;

/// The largest configuration or plan catalogue that is read, in bytes.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 16 * 1024;

/// Permission bits of users who are neither the file's owner nor in its group.
const OTHERS: u32 = 0o007;

/// Reads a whole text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let open = |error| format!("cannot open {}: {error}", path.display());
    let file = File::open(path).map_err(open)?;
    read_bounded(file, MAX_TEXT).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn read_bounded(file: File, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        bytes.zeroize();
        return Err(format!("it is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        error.into_bytes().zeroize();
        format!("byte {at} is not UTF-8")
    })
}

/// A path to a file that must be there and readable.
pub(super) fn optional_file(section: &mut Section, key: &'static str) -> Option<PathBuf> {
    let path: PathBuf = section.optional(key)?;
    open(&path, &section.at(key));
    Some(path)
}

/// As [`optional_file`], for a key that must be there.
pub(super) fn required_file(section: &mut Section, key: &'static str) -> Option<PathBuf> {
    let path: PathBuf = section.required(key)?;
    open(&path, &section.at(key));
    Some(path)
}

/// Reports a secret file that is not there, or that others may touch.
pub(super) fn check_secret(path: &Path, place: &Place) {
    if let Some(file) = open(path, place) {
        check_private(&file, path, place);
    }
}

/// As [`check_secret`], for a file that Postern makes when it is missing.
pub(super) fn check_secret_if_present(path: &Path, place: &Place) {
    let missing = path
        .symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if !missing {
        check_secret(path, place);
    }
}

/// The password that a file holds as its only line.
pub(super) fn required_password(
    section: &mut Section,
    key: &'static str,
) -> Option<Secret<String>> {
    let path: PathBuf = section.required(key)?;
    let place = section.at(key);
    let file = open(&path, &place)?;
    check_private(&file, &path, &place);
    let report = |why| place.problem(format!("{}: {why}", path.display()));
    read_bounded(file, MAX_PASSWORD)
        .map(Secret::new)
        .and_then(|text| only_line(&text))
        .map_err(report)
        .ok()
}

/// The text without the newline that editors end a file with.
fn only_line(text: &Secret<String>) -> Result<Secret<String>, String> {
    let text = text.expose();
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("expected a password, found an empty file".to_owned());
    }
    if line.contains(['\n', '\0']) {
        return Err("expected a password as the only line of the file".to_owned());
    }
    Ok(Secret::new(line.to_owned()))
}

fn open(path: &Path, place: &Place) -> Option<File> {
    let opened = open_regular(path);
    let report = |error| place.problem(format!("cannot read {}: {error}", path.display()));
    opened.map_err(report).ok()
}

fn open_regular(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

fn check_private(file: &File, path: &Path, place: &Place) {
    let Ok(metadata) = file.metadata() else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let path = path.display();
        place.problem(format!(
            "{path} holds a secret and is open to every user (mode {mode:04o}): chmod o= {path}"
        ));
    }
}

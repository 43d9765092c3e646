//! The files that a configuration names.
//!
//! A file is opened once and judged by its handle, so that what was judged is
//! what is read; a pipe or a device is refused rather than waited for. What a
//! certificate contains is not looked at here.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use toml::Value;
use zeroize::Zeroize;

use super::reading::Place;
use super::value::Setting;
use crate::domain::Secret;

/// The largest configuration or plan catalogue that is read, in bytes.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 8 * 1024;

/// Permission bits of users who are neither the file's owner nor in its group.
const OTHERS: u32 = 0o007;

/// Reads a whole text file of bounded size.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let open = |error| format!("cannot open {}: {error}", path.display());
    let file = File::open(path).map_err(open)?;
    read_bounded(file, MAX_TEXT).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

fn read_bounded(file: File, limit: u64) -> Result<String, String> {
    // Room for all of it: growing would leave pieces of a secret behind.
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let room = usize::try_from(size.min(limit)).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
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

/// A file that is there and can be read.
pub(super) struct ReadableFile(pub(super) PathBuf);

impl Setting for ReadableFile {
    const EXPECTED: &'static str = PathBuf::EXPECTED;

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let path = PathBuf::read(value, place)?;
        open(&path, place)?;
        Some(Self(path))
    }
}

/// A readable file that is closed to most users.
pub(super) struct SecretFile(pub(super) PathBuf);

impl Setting for SecretFile {
    const EXPECTED: &'static str = PathBuf::EXPECTED;

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let path = PathBuf::read(value, place)?;
        open_private(&path, place)?;
        Some(Self(path))
    }
}

/// The password that a secret file holds as its only line.
pub(super) struct Password(pub(super) Secret<String>);

impl Setting for Password {
    const EXPECTED: &'static str = PathBuf::EXPECTED;

    fn read(value: &Value, place: &Place) -> Option<Self> {
        let path = PathBuf::read(value, place)?;
        let file = open_private(&path, place)?;
        let report = |why| place.problem(format!("{}: {why}", path.display()));
        let text = read_bounded(file, MAX_PASSWORD).map(Secret::new);
        let password = text.and_then(|text| only_line(&text));
        password.map(Self).map_err(report).ok()
    }
}

/// Reports a secret file that others may touch, if it can be seen: it need not
/// be there yet, and whoever checks a configuration need not see it.
pub(super) fn check_secret_if_present(path: &Path, place: &Place) {
    if let Ok(metadata) = path.metadata() {
        check_private(&metadata, path, place);
    }
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
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

fn open_private(path: &Path, place: &Place) -> Option<File> {
    let file = open(path, place)?;
    check_private(&file.metadata().ok()?, path, place)?;
    Some(file)
}

fn check_private(metadata: &Metadata, path: &Path, place: &Place) -> Option<()> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS == 0 {
        return Some(());
    }
    let path = path.display();
    place.problem(format!(
        "{path} holds a secret and is open to every user (mode {mode:04o}): chmod o= {path}"
    ));
    None
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Directory, refused, service};
    use super::super::{parse, reference};

    #[test]
    fn files_must_be_there_and_secrets_private() {
        refused(
            "[tls]\ncertificate = \"none.crt\"\nkey = \".\"",
            &[
                "tls.certificate: cannot read none.crt: No such file or directory (os error 2)",
                "tls.key: cannot read .: it is not a regular file",
            ],
        );
        let directory = reference::directory();
        for (mode, private) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            directory.file("server.key", "", mode);
            let text = "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"";
            assert_eq!(parse(text, directory.path()).is_ok(), private, "{mode:o}");
        }
        directory.file("orders.password", "x", 0o644);
        let path = directory.path().join("orders.password");
        let path = path.display();
        assert_eq!(
            parse(&service(""), directory.path()).unwrap_err().to_string(),
            format!(
                "services[0].management.password_file: {path} holds a secret and is open to every user (mode 0644): chmod o= {path}"
            )
        );
    }

    #[test]
    fn a_secret_file_may_be_missing_but_not_open() {
        let directory = Directory::new();
        let text = "[auth]\nsecret_file = \"secret\"";
        let settings = parse(text, directory.path()).unwrap();
        assert_eq!(settings.auth.secret_file, directory.path().join("secret"));
        directory.file("secret", "x", 0o604);
        assert!(parse(text, directory.path()).is_err());
    }

    #[test]
    fn passwords_are_read_without_their_newline_and_never_shown() {
        let directory = Directory::new();
        let password = |content: &[u8]| {
            directory.file("orders.password", content, 0o600);
            parse(&service(""), directory.path()).map(|settings| {
                assert!(!format!("{settings:?}").contains("hunter2"));
                settings.services[0].management.password.expose().clone()
            })
        };
        for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(password(content.as_bytes()).unwrap(), "hunter2");
        }
        assert_eq!(password(b" hunter2 \n").unwrap(), " hunter2 ");
        let cases: [(&[u8], &str); 5] = [
            (b"", "expected a password, found an empty file"),
            (b"\n", "expected a password, found an empty file"),
            (b"hunter2\nhunter3\n", "expected a password as the only line of the file"),
            (b"hunter2\xff\n", "byte 7 is not UTF-8"),
            (&[b'x'; 8_193], "it is larger than 8192 bytes"),
        ];
        for (content, why) in cases {
            let text = password(content).unwrap_err().to_string();
            assert!(text.ends_with(why), "{text}");
            assert!(!text.contains("hunter"), "{text}");
        }
    }
}

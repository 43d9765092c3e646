//! What the tests of the configuration share: a directory with the files that
//! a configuration names, and the two outcomes of reading one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Problems, Settings, parse, reference};

/// A directory for a configuration and the files it names, gone when dropped.
pub(super) struct Directory(tempfile::TempDir);

impl Directory {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A service that is right, but for what `keys` says.
pub(super) fn service(keys: &str) -> String {
    let mut lines = vec![
        "name = \"orders\"",
        "plan = \"startup-4\"",
        "nodes = [\"db1:5432\"]",
        "management = { user = \"postern\", password_file = \"orders.password\" }",
    ];
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    lines.retain(|line| !keys.lines().any(|own| key(own.trim()) == key(line)));
    format!("[[services]]\n{}\n{keys}\n", lines.join("\n"))
}

/// The settings, or the lines of the report, with paths relative again.
pub(super) fn read(text: &str) -> Result<Settings, Vec<String>> {
    let directory = reference::directory();
    let lines = |problems: Problems| {
        let base = format!("{}/", directory.path().display());
        problems.to_string().lines().map(|line| line.replace(&base, "")).collect()
    };
    parse(text, directory.path()).map_err(lines)
}

/// The settings that a text means, among the files that the reference names.
pub(super) fn accepted(text: &str) -> Settings {
    read(text).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

/// Demands that a text has exactly these problems.
#[track_caller]
pub(super) fn refused(text: &str, problems: &[&str]) {
    let found = read(text).map(|_| ()).unwrap_err();
    assert_eq!(found, problems, "{text}");
}

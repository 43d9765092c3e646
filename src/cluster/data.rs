//! The directory of a cluster: made, configured and given to the servers' user.
//!
//! ```text
//! postern-XXXXXX/   0700, the servers' user's; removed at the end if we made it
//!   data/           the data directory
//!   run/            the unix socket
//!   passfile        a standby's password for its primary
//!   log             what initdb and the server wrote to stderr
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::account::Account;
use super::error::{Doing as _, Error};
use super::guardian::Guardian;
use super::installation::Installation;

/// The longest path of a unix socket on Linux (`sun_path` with its NUL is 108 bytes).
const SOCKET_PATH_LIMIT: usize = 107;

/// As many lines of a log as an error quotes.
const QUOTED_LINES: usize = 20;

/// Where a cluster keeps its files.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) data: PathBuf,
    pub(super) sockets: PathBuf,
    log: PathBuf,
    account: Account,
    /// Removed at the end; none for a directory that the caller keeps.
    temporary: Option<TempDir>,
}

impl Layout {
    /// Makes the directories, in `directory` or in a temporary one.
    pub(super) fn create(directory: Option<&Path>, account: Account) -> Result<Self, Error> {
        let temporary = match directory {
            Some(given) => make_empty(given).map(|()| None),
            None => temporary_directory("postern-").map(Some),
        }?;
        let root = temporary.as_ref().map(TempDir::path).or(directory).unwrap_or(Path::new("/"));
        let sockets = root.join("run");
        check_socket_path(&sockets)?;
        fs::create_dir(&sockets).doing("making", &sockets)?;
        account.give(root)?;
        account.give(&sockets)?;
        let (data, log) = (root.join("data"), root.join("log"));
        Ok(Self { data, sockets, log, account, temporary })
    }

    /// The directories of a cluster that is there.
    pub(super) fn existing(root: &Path, account: Account) -> Result<Self, Error> {
        let (data, sockets, log) = (root.join("data"), root.join("run"), root.join("log"));
        fs::metadata(data.join("PG_VERSION")).doing("looking for a cluster in", root)?;
        Ok(Self { data, sockets, log, account, temporary: None })
    }

    /// What a standby knows its primary's password from.
    pub(super) fn passfile(&self) -> PathBuf {
        self.log.with_file_name("passfile")
    }

    /// The directory that goes when the cluster goes.
    pub(super) fn temporary(&self) -> Option<&Path> {
        self.temporary.as_ref().map(TempDir::path)
    }

    /// The log, to be written at its end.
    pub(super) fn open_log(&self) -> Result<File, Error> {
        let file = OpenOptions::new().create(true).append(true).open(&self.log);
        file.doing("opening", &self.log)
    }

    /// The whole log.
    pub(super) fn log(&self) -> Result<String, Error> {
        let bytes = fs::read(&self.log).doing("reading", &self.log)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What was logged after the first `bytes` bytes; nothing if it cannot be read.
    pub(super) fn log_after(&self, bytes: u64) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(bytes).unwrap_or(usize::MAX).min(log.len());
        String::from_utf8_lossy(&log[start..]).into_owned()
    }

    /// Writes a file that only the servers' user may read.
    pub(super) fn write(&self, path: &Path, contents: &str) -> Result<(), Error> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(contents.as_bytes())).doing("writing", path)?;
        self.account.give(path)
    }

    fn append(&self, name: &str, contents: &str) -> Result<(), Error> {
        let path = self.data.join(name);
        let file = OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| file.write_all(contents.as_bytes())).doing("writing", &path)
    }
}

/// Whether a socket in this directory has a name that the system takes.
pub(super) fn check_socket_path(sockets: &Path) -> Result<(), Error> {
    if sockets.join(".s.PGSQL.65535").as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(Error::SocketPathTooLong { directory: sockets.to_owned() });
    }
    Ok(())
}

/// The last lines of a log.
pub(super) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

/// Runs a program with text on its stdin.
pub(super) fn run_with_input(mut command: Command, input: &str) -> Result<Output, Error> {
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().doing("starting", &program)?;
    let stdin = process.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside the reading, because both pipes may be full at once. A program
        // that ends early says why on stderr.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        process.wait_with_output()
    });
    output.doing("running", &program)
}

/// Runs a program that works on the data directory, its words going to the
/// log, and says whether it succeeded.
pub(super) fn run_watched(
    argv: &[OsString],
    layout: &Layout,
    guardian: &mut Guardian,
) -> Result<bool, Error> {
    let program = argv.first().map(PathBuf::from).unwrap_or_default();
    let mut process = guardian.spawn(argv, layout.open_log()?)?;
    let drained = process.stdout.take().map(|mut pipe| io::copy(&mut pipe, &mut io::sink()));
    drained.unwrap_or(Ok(0)).doing("reading from", &program)?;
    let status = process.wait().doing("waiting for", &program)?;
    guardian.watch_nothing();
    Ok(status.success())
}

/// What `initdb` is to make.
pub(super) struct Initdb<'a> {
    pub(super) installation: &'a Installation,
    pub(super) superuser: &'a str,
    pub(super) password: &'a str,
    pub(super) durable: bool,
}

impl Initdb<'_> {
    /// Makes the data directory; every login to it will take a password.
    pub(super) fn run(&self, layout: &Layout, guardian: &mut Guardian) -> Result<(), Error> {
        let password_file = layout.sockets.join("password");
        layout.write(&password_file, self.password)?;
        let argv = self.argv(layout, &password_file);
        if !run_watched(&argv, layout, guardian)? {
            return Err(Error::Initdb { log: last_lines(&layout.log()?) });
        }
        fs::remove_file(&password_file).doing("removing", &password_file)
    }

    fn argv(&self, layout: &Layout, password_file: &Path) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.installation.program("initdb").into()];
        argv.extend(
            ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"].map(Into::into),
        );
        argv.extend(["--username".into(), self.superuser.into()]);
        argv.extend(["--pgdata".into(), layout.data.clone().into()]);
        argv.extend(["--pwfile".into(), password_file.into()]);
        if !self.durable {
            argv.push("--no-sync".into());
        }
        argv
    }
}

/// A node's certificate with its key, both PEM.
#[derive(Clone, Debug)]
pub(super) struct NodeCertificate {
    pub(super) certificate: String,
    pub(super) key: crate::domain::Secret<String>,
}

/// The configuration that a new data directory gets beside PostgreSQL's defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct Configuration {
    pub(super) settings: Vec<(String, String)>,
    pub(super) hba: Vec<String>,
    pub(super) ipv6: bool,
    pub(super) durable: bool,
    pub(super) certificate: Option<NodeCertificate>,
}

impl Configuration {
    /// Adds it to the files that `initdb` made.
    pub(super) fn write(&self, layout: &Layout) -> Result<(), Error> {
        if let Some(tls) = &self.certificate {
            layout.write(&layout.data.join("server.crt"), &tls.certificate)?;
            layout.write(&layout.data.join("server.key"), tls.key.expose())?;
        }
        layout.append("postgresql.conf", &self.postgresql_conf())?;
        layout.write(&layout.data.join("pg_hba.conf"), &self.pg_hba_conf())
    }

    fn postgresql_conf(&self) -> String {
        let listen = if self.ipv6 { "127.0.0.1,::1" } else { "127.0.0.1" };
        let mut settings = vec![
            ("listen_addresses", listen),
            ("password_encryption", "scram-sha-256"),
            ("log_line_prefix", "%m [%p] %q%u@%d "),
            // A standby that was away for a moment finds what it missed.
            ("wal_keep_size", "256MB"),
        ];
        if !self.durable {
            settings.extend([
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
            ]);
        }
        if self.certificate.is_some() {
            settings.push(("ssl", "on"));
        }
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let lines = settings.into_iter().chain(own);
        let lines: Vec<_> =
            lines.map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        lines.join("\n") + "\n"
    }

    fn pg_hba_conf(&self) -> String {
        let mut lines = self.hba.clone();
        for database in ["all", "replication"] {
            lines.push(format!("local {database} all scram-sha-256"));
            lines.push(format!("host {database} all 127.0.0.0/8 scram-sha-256"));
            lines.push(format!("host {database} all ::1/128 scram-sha-256"));
        }
        lines.join("\n") + "\n"
    }
}

/// A value of postgresql.conf, where quotes and backslashes escape.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

pub(super) fn temporary_directory(prefix: &str) -> Result<TempDir, Error> {
    let private = fs::Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir();
    made.doing("making a directory in", std::env::temp_dir())
}

/// Makes a directory that holds nothing, and that nobody else may enter.
pub(super) fn make_empty(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).doing("making", directory)?;
    if fs::read_dir(directory).doing("reading", directory)?.next().is_some() {
        return Err(Error::NotEmpty { directory: directory.to_owned() });
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).doing("protecting", directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_quotes_and_backslashes() {
        assert_eq!(quoted(r"it's a \ here"), r"'it''s a \\ here'");
    }

    #[test]
    fn own_lines_come_first_in_hba_and_last_in_settings() {
        let configuration = Configuration {
            settings: vec![("work_mem".into(), "1MB".into())],
            hba: vec!["host all nobody all reject".into()],
            ..Configuration::default()
        };
        assert!(configuration.pg_hba_conf().starts_with("host all nobody all reject\nlocal all"));
        assert!(configuration.postgresql_conf().ends_with("work_mem = '1MB'\n"));
    }

    #[test]
    fn only_the_end_of_a_log_is_quoted() {
        let log: Vec<_> = (0..100).map(|line| format!("line {line}")).collect();
        let log = log.join("\n");
        let quoted = last_lines(&log);
        assert_eq!(quoted.lines().count(), QUOTED_LINES);
        assert!(quoted.ends_with("line 99"));
    }
}

//! What concerns the running program rather than its clients.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::files;
use super::listen;
use super::section::Section;
use super::value::TextSetting;

/// The threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Threads of the data path; `None`: one per core.
    pub workers: Option<NonZeroUsize>,
}

/// Reads `[runtime]`.
pub(super) fn read_runtime(section: &mut Section) -> Runtime {
    Runtime { workers: NonZeroUsize::new(section.number("workers", 0, 0..=1024)) }
}

/// The read-only HTTP server for metrics and health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where it listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// Reads `[metrics]`.
pub(super) fn read_metrics(section: &mut Section) -> Metrics {
    let default = SocketAddr::from(([127, 0, 0, 1], 9127));
    Metrics { listen: section.or("listen", Some(default)) }
}

/// What the command line on the host speaks to, and the platform's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The path of the unix socket.
    pub socket: PathBuf,
    /// Where the API listens over TCP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// Reads `[admin]`.
pub(super) fn read_admin(section: &mut Section, has_certificate: bool) -> Admin {
    let socket: PathBuf = section.or("socket", "/run/postern/admin.sock".into());
    if !listen::fits_a_socket(&socket) {
        section.at("socket").problem(listen::socket_path_rule());
    }
    let listen: Option<SocketAddr> = section.or("listen", None);
    if listen.is_some_and(|address| !address.ip().is_loopback()) && !has_certificate {
        let place = section.at("listen");
        place.problem("other hosts can reach it: [tls] needs a certificate, a key and a mode other than \"disable\"");
    }
    Admin { socket, listen }
}

/// The catalogue of what was created over the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Its file; `None`: there are the services of the configuration alone.
    pub path: Option<PathBuf>,
    /// The file of the keys of its secrets; `None`: beside it, ending in
    /// `.key`.
    pub key_file: Option<PathBuf>,
}

/// Reads `[catalog]`.
pub(super) fn read_catalog(section: &mut Section) -> Catalog {
    let catalog =
        Catalog { path: section.optional("path"), key_file: section.optional("key_file") };
    if let Some(key_file) = &catalog.key_file {
        files::check_secret_if_present(key_file, &section.at("key_file"));
    }
    catalog
}

/// The servers that Postern makes on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Where they are; `None`: none is made.
    pub directory: Option<PathBuf>,
}

/// Reads `[local]`.
pub(super) fn read_local(section: &mut Section) -> Local {
    Local { directory: section.optional("directory") }
}

/// What authentication needs that must outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The file of the secret behind mock exchanges (decision 19), made with
    /// mode 0600 when it is missing.
    pub secret_file: PathBuf,
}

/// Reads `[auth]`.
pub(super) fn read_auth(section: &mut Section) -> Auth {
    let secret_file: PathBuf = section.or("secret_file", "/var/lib/postern/secret".into());
    files::check_secret_if_present(&secret_file, &section.at("secret_file"));
    Auth { secret_file }
}

/// What of the topology must outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The file with the newest primary of each service (decision 30), made
    /// with mode 0600 when it is missing.
    pub state_file: PathBuf,
}

/// Reads `[topology]`. The file lies beside that of `[auth]` by default.
pub(super) fn read_topology(section: &mut Section, auth: &Auth) -> Topology {
    let beside = auth.secret_file.with_file_name("topology.json");
    Topology { state_file: section.or("state_file", beside) }
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Which lines are written.
    pub level: LogFilter,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Reads `[log]`.
pub(super) fn read_log(section: &mut Section) -> Log {
    Log {
        format: section.choice("format", &FORMATS, LogFormat::Text),
        level: section.or("level", LogFilter("info".into())),
    }
}

/// Which lines are logged: a list of directives that [`EnvFilter`] accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(Box<str>);

/// A text that is no log filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", <LogFilter as TextSetting>::EXPECTED)]
pub struct InvalidLogFilter;

impl LogFilter {
    /// The directives as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TextSetting for LogFilter {
    const EXPECTED: &'static str = "\"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", \
         or a filter such as \"info,postern::auth=debug\"";
}

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    /// A directive without `=` must be a level: [`EnvFilter`] takes any other
    /// word for a module's name, so that a misspelt level would silence all.
    fn from_str(text: &str) -> Result<Self, InvalidLogFilter> {
        let levels = text.split(',').map(str::trim).all(is_directive);
        if !levels || EnvFilter::builder().parse(text).is_err() {
            return Err(InvalidLogFilter);
        }
        Ok(Self(text.into()))
    }
}

fn is_directive(word: &str) -> bool {
    word.contains('=') || (!word.is_empty() && word.parse::<LevelFilter>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{accepted, refused};
    use super::*;

    #[test]
    fn levels_and_directives_are_accepted() {
        for text in ["info", "off", "WARN", "info,postern::auth=debug", "postern=trace, warn"] {
            assert_eq!(text.parse::<LogFilter>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_misspelt_level_is_no_filter() {
        for text in ["", "inof", "postern", "info,", "postern=loud", "a=b=c"] {
            assert_eq!(text.parse::<LogFilter>(), Err(InvalidLogFilter), "{text:?}");
        }
    }

    #[test]
    fn metrics_can_be_off_and_sockets_have_short_paths() {
        assert_eq!(accepted("[metrics]\nlisten = \"\"").metrics.listen, None);
        refused(
            "[metrics]\nlisten = \"9127\"",
            &[
                "metrics.listen: expected \"IP:port\", \"[IPv6]:port\" or \"\" for none, found \"9127\"",
            ],
        );
        let long = "a".repeat(108);
        refused(
            &format!("[admin]\nsocket = \"/{long}\""),
            &["admin.socket: the path of a socket has at most 107 bytes"],
        );
    }
}

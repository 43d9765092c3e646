//! The configuration: one TOML file, what it means, and everything that is
//! wrong with it.
//!
//! ```text
//! file → table (what the user wrote) → Section, key by key → Settings (what
//!                                         └→ Problems, all     the program
//!                                            of them           means)
//! ```
//!
//! A [`Settings`] that exists is consistent: names are unique, what refers to
//! something refers to something that exists, files were readable and secrets
//! were not open to everyone when they were looked at. What certificates
//! contain, and what nodes say, is for others to find out.
//!
//! A further key is one line in the `read` function of its section and one
//! paragraph in `config/postern.toml`; a test compares the two.

mod declared;
mod files;
#[cfg(test)]
mod fixture;
mod limits;
mod listen;
mod plans;
mod problems;
mod process;
mod reading;
#[cfg(test)]
mod reference;
mod routing;
mod section;
mod service;
mod store;
mod syntax;
#[cfg(test)]
mod tests;
mod tls;
mod value;
mod wording;

use std::path::Path;

pub use limits::{Limits, Timeouts};
pub use listen::{InvalidListenAddress, Listen, ListenAddress};
pub use plans::{CatalogueRow, Plans};
pub use problems::{Problem, Problems};
pub use process::{
    Admin, Auth, Catalog, InvalidLogFilter, Local, Log, LogFilter, LogFormat, Metrics, Runtime,
    Topology,
};
pub use routing::{Domain, InvalidDomain, Routing};
pub use service::{Canary, Management, NodeCa, Service};
pub use store::{Etcd, InvalidUrl, Login, Store, Url};
pub use tls::{CertificateFiles, Tls, TlsMode};

use declared::Declared;
use reading::Reading;
use section::Section;

/// What the configuration means. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[topology]`
    pub topology: Topology,
    /// `[routing]`
    pub routing: Routing,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[admin]`
    pub admin: Admin,
    /// `[catalog]`
    pub catalog: Catalog,
    /// `[local]`
    pub local: Local,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[log]`
    pub log: Log,
    /// The catalogue that `[plans]` names.
    pub plans: Plans,
    /// `[[services]]`, in the order of the file.
    pub services: Vec<Service>,
    /// What is odd, but keeps nothing from starting.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration file; paths in it are relative to its directory.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    let text = files::read_text(path).map_err(|why| Problems::new(vec![Problem::new("", &why)]))?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, base)
}

/// Reads the text of a configuration; paths in it are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Settings, Problems> {
    let reading = Reading::new(base.to_owned());
    let settings = section::read_file(&reading, text, read).flatten();
    let (mut settings, warnings) = reading.finish(settings)?;
    settings.warnings = warnings;
    Ok(settings)
}

/// Reads the whole file; `None` after a problem with the plan catalogue.
fn read(root: &mut Section) -> Option<Settings> {
    let runtime = root.section("runtime", process::read_runtime);
    let listen = root.section("listen", listen::read);
    let tls = root.section("tls", |section| tls::read(section, &listen));
    let auth = root.section("auth", process::read_auth);
    let topology = root.section("topology", |section| process::read_topology(section, &auth));
    let routing = root.section("routing", routing::read);
    let metrics = root.section("metrics", process::read_metrics);
    let has_certificate = tls.certificate.is_some() && tls.mode != TlsMode::Disable;
    let admin = root.section("admin", |section| process::read_admin(section, has_certificate));
    let catalog = root.section("catalog", process::read_catalog);
    let local = root.section("local", process::read_local);
    let limits = root.section("limits", limits::read);
    let timeouts = root.section("timeouts", limits::read_timeouts);
    let log = root.section("log", process::read_log);
    let plans = root.section("plans", plans::read);
    let services = services(root, plans.as_ref(), &routing, catalog.path.is_some());
    Some(Settings {
        runtime,
        listen,
        tls,
        auth,
        topology,
        routing,
        metrics,
        admin,
        catalog,
        local,
        limits,
        timeouts,
        log,
        plans: plans?,
        services,
        warnings: Vec::new(),
    })
}

/// Where there is a catalogue, services may be there that the file does not
/// know.
fn services(
    root: &mut Section,
    plans: Option<&Plans>,
    routing: &Routing,
    has_catalog: bool,
) -> Vec<Service> {
    let mut declared = Declared::default();
    let services =
        root.sections("services", |section| service::read(section, plans, &mut declared));
    if let Some(name) = &routing.default_service
        && !has_catalog
    {
        let place = root.at("routing").at("default_service");
        declared.check_default(name, &place);
    }
    if declared.is_empty() && !has_catalog {
        let text = "no service is declared: every client will be refused";
        root.at("services").warning(text);
    }
    services
}

impl Settings {
    /// The keys whose new values count only after a restart.
    #[must_use]
    pub fn restart_needed(&self, new: &Self) -> Vec<&'static str> {
        let (listen, log) = (&self.listen, &self.log);
        let same = [
            ("runtime.workers", self.runtime == new.runtime),
            ("listen.session", listen.session == new.listen.session),
            ("listen.transaction", listen.transaction == new.listen.transaction),
            (
                "listen.proxy_protocol_from",
                listen.proxy_protocol_from == new.listen.proxy_protocol_from,
            ),
            ("auth.secret_file", self.auth == new.auth),
            ("topology.state_file", self.topology == new.topology),
            ("metrics.listen", self.metrics == new.metrics),
            ("admin.socket", self.admin.socket == new.admin.socket),
            ("admin.listen", self.admin.listen == new.admin.listen),
            ("catalog.path", self.catalog.path == new.catalog.path),
            ("catalog.key_file", self.catalog.key_file == new.catalog.key_file),
            ("local.directory", self.local == new.local),
            ("log.format", log.format == new.log.format),
            ("log.level", log.level == new.log.level),
        ];
        let changed = same.into_iter().filter(|(_, same)| !same);
        changed.map(|(key, _)| key).collect()
    }
}

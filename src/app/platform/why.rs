//! `postern why`

use clap::Args;

use super::{Reach, service_path, table};
use crate::app::Failure;
use crate::control::api::model::{RefusalView, ServiceView};
use crate::control::api::segment;

/// Which refusals.
#[derive(Debug, Args)]
pub struct WhyOptions {
    /// The id that the client was told; the last refusals unless given.
    id: Option<String>,
    /// Those of this service alone.
    #[arg(long, conflicts_with = "id")]
    service: Option<String>,
    /// Those of this client alone.
    #[arg(long, value_name = "IP", conflicts_with = "id")]
    address: Option<String>,
    /// Where the API is.
    #[command(flatten)]
    reach: Reach,
}

/// Explains a refusal, or lists the last ones.
///
/// # Errors
/// What the API said.
pub fn run(options: &WhyOptions) -> Result<(), Failure> {
    let reach = &options.reach;
    let Some(id) = &options.id else { return list(options) };
    let refusal: RefusalView = reach.get(&format!("/v1/refusals/{}", segment(id)))?;
    // How the service is now, if it is still there.
    let service = refusal.service.as_deref().map(|name| service_path(name, ""));
    let service = service.and_then(|path| reach.get(&path).ok());
    reach.print(&refusal, |refusal| explained(refusal, service.as_ref()))
}

fn list(options: &WhyOptions) -> Result<(), Failure> {
    let head = ["ID", "AT", "SERVICE", "ROLE", "ADDRESS", "REASON", "TOLD"];
    let is = |wanted: &Option<String>, found: Option<&str>| {
        wanted.is_none() || wanted.as_deref() == found
    };
    let mut all = options.reach.all("/v1/refusals")?;
    all.items.retain(|refusal: &RefusalView| {
        is(&options.service, refusal.service.as_deref())
            && is(&options.address, Some(&refusal.address))
    });
    options.reach.print_list(&all, head, |refusal| {
        [
            refusal.id.clone(),
            refusal.at.clone(),
            refusal.service.clone().unwrap_or_default(),
            refusal.role.clone().unwrap_or_default(),
            refusal.address.clone(),
            refusal.reason.clone(),
            refusal.message.clone(),
        ]
    })
}

fn explained(refusal: &RefusalView, service: Option<&ServiceView>) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let asked = match (&refusal.service, refusal.reason.as_str()) {
        (None, "not_permitted") => "a service that is not there, or none".to_owned(),
        (service, _) => optional(service),
    };
    table::pairs(&[
        ("refusal", refusal.id.clone()),
        ("at", refusal.at.clone()),
        ("address", refusal.address.clone()),
        ("asked for", asked),
        ("logged in as", optional(&refusal.role)),
        ("reason", refusal.reason.clone()),
        ("told", format!("{} {}", refusal.sqlstate, refusal.message)),
        ("detail", optional(&refusal.detail)),
        ("hint", optional(&refusal.hint)),
        ("service now", service.map(now).unwrap_or_default()),
        ("allowlist now", service.map(|service| service.allowlist.join(", ")).unwrap_or_default()),
    ])
}

fn now(service: &ServiceView) -> String {
    let used = &service.connections;
    let paused = if service.paused { ", paused" } else { "" };
    let reason = service.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let state = super::word(&service.summary.state);
    format!("{state}{paused}{reason}; {} of {} connections used", used.used, used.limit)
}

//! Services and their sessions as people read them.

use crate::app::platform::{Table, table, word};
use crate::control::api::model::{ConnectionView, ServiceView};
use crate::control::pooling::PoolChange;

/// A service in full.
pub(super) fn show(service: &ServiceView) -> String {
    let (summary, info) = (&service.summary, &service.connection);
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let days = service.backup_retention_days;
    let mut text = table::pairs(&[
        ("service", summary.name.clone()),
        ("display name", summary.display_name.clone()),
        ("kind", word(&summary.kind)),
        ("plan", summary.plan.clone()),
        ("cloud", optional(&summary.cloud)),
        ("region", optional(&summary.region)),
        ("state", word(&summary.state)),
        ("reason", optional(&service.reason)),
        ("service URI", info.uri.clone()),
        ("pooled URI", optional(&info.pooled_uri)),
        ("read-only URI", optional(&info.read_only_uri)),
        ("host", info.host.clone()),
        ("port", info.port.to_string()),
        ("pooled port", info.pooled_port.map(|port| port.to_string()).unwrap_or_default()),
        ("user", optional(&info.user)),
        ("password", optional(&info.password)),
        ("database", optional(&info.database)),
        ("SSL mode", info.ssl_mode.clone()),
        ("connections", {
            let used = &service.connections;
            format!("{} of {} used, {} clients", used.used, used.limit, used.clients)
        }),
        (
            "allowlist",
            match &service.allowlist[..] {
                [] => "nobody".to_owned(),
                entries => entries.join(", "),
            },
        ),
        ("pooling", PoolChange::unusual(&service.pooling).to_string()),
        ("backups", if days == 0 { "none".to_owned() } else { format!("kept {days} days") }),
        ("multi-AZ", if service.multi_az { "yes" } else { "no" }.to_owned()),
        ("paused", if service.paused { "yes".to_owned() } else { String::new() }),
        (
            "protected",
            if service.termination_protection { "yes".to_owned() } else { String::new() },
        ),
        ("created", optional(&service.created_at)),
    ]);
    let nodes = service.nodes.iter().map(|node| {
        let lag = node.lag_seconds.map(|lag| format!("{lag} s")).unwrap_or_default();
        let zone = node.zone.clone().unwrap_or_default();
        [node.address.clone(), node.role.clone(), zone, lag]
    });
    text.push('\n');
    text.push_str(&Table::of(["NODE", "ROLE", "ZONE", "LAG"], nodes).text());
    text
}

/// The columns of a table of sessions.
pub(super) const SESSION: [&str; 8] =
    ["ID", "ENDPOINT", "ROLE", "DATABASE", "APPLICATION", "ADDRESS", "ACTIVITY", "FOR"];

/// A row of it.
pub(super) fn session(session: &ConnectionView) -> [String; SESSION.len()] {
    [
        session.id.to_string(),
        session.endpoint.clone(),
        session.role.clone(),
        session.database.clone(),
        session.application.clone(),
        session.address.clone(),
        session.activity.clone(),
        format!("{} s", session.activity_seconds),
    ]
}

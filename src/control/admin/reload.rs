//! What a reload is to those who order one.

use std::fmt;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Reloads the configuration: what has changed, or every problem that kept it
/// from changing anything. Runs one reload at a time, whoever orders them.
pub type Reload =
    Box<dyn Fn() -> BoxFuture<'static, Result<ReloadReport, Vec<String>>> + Send + Sync>;

/// What a reload has changed. Lists of names, in the order to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadReport {
    /// Services that are new.
    pub added: Vec<String>,
    /// Services that are different now.
    pub changed: Vec<String>,
    /// Services that are gone.
    pub removed: Vec<String>,
    /// Keys whose new values count only after a restart.
    pub restart_needed: Vec<String>,
    /// What deserves a look, though it works.
    pub warnings: Vec<String>,
}

/// An order for a service that was carried out, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    /// One line.
    pub(super) done: String,
}

/// Where a switchover leads.
#[derive(Debug, Deserialize)]
pub(super) struct Towards {
    /// A node or a member of the HA manager.
    pub(super) to: Option<String>,
}

/// A reload that changed nothing, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Problems {
    /// One line each.
    pub(super) problems: Vec<String>,
}

impl fmt::Display for ReloadReport {
    /// A line for each list that is not empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = [
            ("services added", &self.added),
            ("services changed", &self.changed),
            ("services removed", &self.removed),
        ];
        f.write_str("reloaded\n")?;
        for (what, names) in services {
            if !names.is_empty() {
                writeln!(f, "{what}: {}", names.join(", "))?;
            }
        }
        for key in &self.restart_needed {
            writeln!(f, "{key}: counts after a restart")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

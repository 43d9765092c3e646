//! `postern plan`

use clap::Subcommand;

use super::{Reach, Table};
use crate::app::Failure;
use crate::control::api::Page;
use crate::control::api::model::PlanView;

/// What can be asked about plans.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// The plans that services can be on.
    List {
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: &PlanCommand) -> Result<(), Failure> {
    let PlanCommand::List { reach } = command;
    let page: Page<PlanView> = reach.ask(async |api| api.get("/v1/plans").await)?;
    reach.print(&page, |page| {
        let mut table =
            Table::new(&["PLAN", "CONNECTIONS", "NODES", "BACKUPS", "MULTI-AZ", "AVAILABILITY"]);
        for plan in &page.items {
            let days = plan.backup_retention_days;
            table.row([
                plan.name.clone(),
                plan.max_connections.to_string(),
                plan.nodes.to_string(),
                if days == 0 { "none".to_owned() } else { format!("{days} days") },
                if plan.multi_az { "yes" } else { "no" }.to_owned(),
                plan.availability.clone(),
            ]);
        }
        table.text()
    })
}

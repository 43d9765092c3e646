//! `postern plan`

use clap::Subcommand;

use super::Reach;
use crate::app::Failure;
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
    let head = ["PLAN", "CONNECTIONS", "NODES", "BACKUPS", "MULTI-AZ", "AVAILABILITY"];
    reach.list("/v1/plans", head, |plan: &PlanView| {
        let days = plan.backup_retention_days;
        [
            plan.name.clone(),
            plan.max_connections.to_string(),
            plan.nodes.to_string(),
            if days == 0 { "none".to_owned() } else { format!("{days} days") },
            if plan.multi_az { "yes" } else { "no" }.to_owned(),
            plan.availability.clone(),
        ]
    })
}

//! `postern database`

use clap::Subcommand;
use hyper::Method;

use super::{InService, OfService, service_path};
use crate::app::Failure;
use crate::control::api::model::{DatabaseCreate, DatabaseView};
use crate::control::api::segment;

/// What can be done about a service's databases.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// The databases of a service.
    List(OfService),
    /// Make a database.
    Create {
        /// The service, the database's name, and where the API is.
        #[command(flatten)]
        database: InService,
        /// The role that owns it; the admin role unless given.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Drop a database with everything in it.
    Delete(InService),
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: DatabaseCommand) -> Result<(), Failure> {
    match command {
        DatabaseCommand::List(OfService { service, reach }) => {
            let path = service_path(&service, "/databases");
            reach.list(&path, ["DATABASE", "OWNER"], |database: &DatabaseView| {
                [database.name.clone(), database.owner.clone()]
            })
        }
        DatabaseCommand::Create { database: InService { service, name, reach }, owner } => {
            let path = service_path(&service, "/databases");
            let made: DatabaseView =
                reach.send(Method::POST, &path, &DatabaseCreate { name, owner })?;
            reach.print(&made, |made| format!("{}, owned by {}\n", made.name, made.owner))
        }
        DatabaseCommand::Delete(InService { service, name, reach }) => {
            reach.delete(&service_path(&service, &format!("/databases/{}", segment(&name))))
        }
    }
}

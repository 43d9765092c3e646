//! `postern database`

use clap::Subcommand;
use hyper::Method;

use super::{Reach, Table, service_path};
use crate::app::Failure;
use crate::control::api::model::{DatabaseCreate, DatabaseView};
use crate::control::api::{Page, segment};

/// What can be done about a service's databases.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// The databases of a service.
    List {
        /// The service.
        service: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a database.
    Create {
        /// The service.
        service: String,
        /// The database's name.
        name: String,
        /// The role that owns it; the admin role unless given.
        #[arg(long)]
        owner: Option<String>,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Drop a database with everything in it.
    Delete {
        /// The service.
        service: String,
        /// The database's name.
        name: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: DatabaseCommand) -> Result<(), Failure> {
    match command {
        DatabaseCommand::List { service, reach } => {
            let path = service_path(&service, "/databases?limit=1000");
            let page: Page<DatabaseView> = reach.ask(async |api| api.get(&path).await)?;
            reach.print(&page, |page| {
                let mut table = Table::new(&["DATABASE", "OWNER"]);
                for database in &page.items {
                    table.row([database.name.clone(), database.owner.clone()]);
                }
                table.text()
            })
        }
        DatabaseCommand::Create { service, name, owner, reach } => {
            let (path, body) =
                (service_path(&service, "/databases"), DatabaseCreate { name, owner });
            let made: DatabaseView =
                reach.ask(async |api| api.with_body(Method::POST, &path, &body).await)?;
            reach.print(&made, |made| format!("{}, owned by {}\n", made.name, made.owner))
        }
        DatabaseCommand::Delete { service, name, reach } => {
            let path = service_path(&service, &format!("/databases/{}", segment(&name)));
            reach.ask(async |api| api.delete(&path).await)
        }
    }
}

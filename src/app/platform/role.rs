//! `postern role`

use clap::Subcommand;
use hyper::Method;

use super::{Reach, Table, service_path};
use crate::app::Failure;
use crate::control::api::model::{RoleCreate, RoleView};
use crate::control::api::{Page, segment};

/// What can be done about a service's roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// The roles that were made here.
    List {
        /// The service.
        service: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a role and print its password.
    Create {
        /// The service.
        service: String,
        /// The role's name.
        name: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Give a role another password and print it; the old one is refused from
    /// then on.
    Rotate {
        /// The service.
        service: String,
        /// The role's name.
        name: String,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// Take a role away; what it owned becomes the admin role's.
    Delete {
        /// The service.
        service: String,
        /// The role's name.
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
pub fn run(command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::List { service, reach } => {
            let path = service_path(&service, "/roles?limit=1000");
            let page: Page<RoleView> = reach.ask(async |api| api.get(&path).await)?;
            reach.print(&page, |page| {
                let mut table = Table::new(&["ROLE", "CREATED", "PASSWORD SET"]);
                for role in &page.items {
                    let (created, rotated) = (role.created_at.clone(), role.rotated_at.clone());
                    table.row([role.name.clone(), created, rotated]);
                }
                table.text()
            })
        }
        RoleCommand::Create { service, name, reach } => {
            let (path, body) = (service_path(&service, "/roles"), RoleCreate { name });
            let role: RoleView =
                reach.ask(async |api| api.with_body(Method::POST, &path, &body).await)?;
            reach.print(&role, password)
        }
        RoleCommand::Rotate { service, name, reach } => {
            let path = service_path(&service, &format!("/roles/{}/rotate", segment(&name)));
            let role: RoleView = reach.ask(async |api| api.order(Method::POST, &path).await)?;
            reach.print(&role, password)
        }
        RoleCommand::Delete { service, name, reach } => {
            let path = service_path(&service, &format!("/roles/{}", segment(&name)));
            reach.ask(async |api| api.delete(&path).await)
        }
    }
}

fn password(role: &RoleView) -> String {
    format!("{}\n", role.password.as_deref().unwrap_or_default())
}

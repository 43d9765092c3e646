//! `postern role`

use clap::Subcommand;
use hyper::Method;

use super::{InService, OfService, Reach, service_path};
use crate::app::Failure;
use crate::control::api::model::{RoleCreate, RoleView};
use crate::control::api::segment;

/// What can be done about a service's roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// The roles that were made here.
    List(OfService),
    /// Make a role and print its password.
    Create(InService),
    /// Give a role another password and print it; the old one is refused from
    /// then on.
    Rotate(InService),
    /// Take a role away; what it owned becomes the admin role's.
    Delete(InService),
}

/// Runs one of them.
///
/// # Errors
/// What the API said.
pub fn run(command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::List(OfService { service, reach }) => {
            let path = service_path(&service, "/roles");
            reach.list(&path, ["ROLE", "CREATED", "PASSWORD SET"], |role: &RoleView| {
                [role.name.clone(), role.created_at.clone(), role.rotated_at.clone()]
            })
        }
        RoleCommand::Create(InService { service, name, reach }) => {
            let path = service_path(&service, "/roles");
            let role: RoleView = reach.send(Method::POST, &path, &RoleCreate { name })?;
            print_password(&reach, &role)
        }
        RoleCommand::Rotate(InService { service, name, reach }) => {
            let path = service_path(&service, &format!("/roles/{}/rotate", segment(&name)));
            let role: RoleView = reach.order(Method::POST, &path)?;
            print_password(&reach, &role)
        }
        RoleCommand::Delete(InService { service, name, reach }) => {
            reach.delete(&service_path(&service, &format!("/roles/{}", segment(&name))))
        }
    }
}

fn print_password(reach: &Reach, role: &RoleView) -> Result<(), Failure> {
    reach.print(role, |role| format!("{}\n", role.password.as_deref().unwrap_or_default()))
}

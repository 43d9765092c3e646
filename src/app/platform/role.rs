//! `postern role`

use clap::Subcommand;
use hyper::Method;

use super::{InService, OfService, Reach, service_path};
use crate::app::Failure;
use crate::control::api::model::{RoleCreate, RoleRotate, RoleView};
use crate::control::api::segment;

/// What can be done about a service's roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// The roles that were made here.
    List(OfService),
    /// Make a role and print its password.
    Create(InService),
    /// Give a role another password and print it; the old one is refused from
    /// then on, or after a grace time.
    Rotate {
        /// For how long the old password works beside the new one: 10m, 2days.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
        grace: u32,
        /// The role, and where the API is.
        #[command(flatten)]
        of: InService,
    },
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
            let head = ["ROLE", "CREATED", "PASSWORD SET", "THE ONE BEFORE WORKS UNTIL"];
            reach.list(&path, head, |role: &RoleView| {
                let previous = role.previous_password_until.clone().unwrap_or_default();
                [role.name.clone(), role.created_at.clone(), role.rotated_at.clone(), previous]
            })
        }
        RoleCommand::Create(InService { service, name, reach }) => {
            let path = service_path(&service, "/roles");
            let role: RoleView = reach.send(Method::POST, &path, &RoleCreate { name })?;
            print_password(&reach, &role)
        }
        RoleCommand::Rotate { grace, of: InService { service, name, reach } } => {
            let path = service_path(&service, &format!("/roles/{}/rotate", segment(&name)));
            let role: RoleView = reach.send(Method::POST, &path, &RoleRotate { grace })?;
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

/// `10m` as whole seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.subsec_nanos() > 0 {
        return Err("expected whole seconds".to_owned());
    }
    u32::try_from(time.as_secs()).map_err(|_| "too long".to_owned())
}

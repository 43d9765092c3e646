//! The commands that speak to a running Postern.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::Failure;
use crate::control::admin::{AdminClient, AdminError};
use crate::control::exposition;
use crate::domain::ServiceName;

/// Shows what Postern is doing.
///
/// # Errors
/// If no Postern answers there.
pub fn status(socket: &Path, json: bool) -> Result<(), Failure> {
    let client = AdminClient::new(socket);
    if json {
        let json = wait(client.status_json())?;
        std::io::stdout().write_all(&json)?;
        println!();
    } else {
        print!("{}", wait(client.status())?);
    }
    Ok(())
}

/// Begins a drain and shows how it goes.
///
/// # Errors
/// If no Postern answers there.
pub fn drain(socket: &Path) -> Result<(), Failure> {
    let client = AdminClient::new(socket);
    wait(async {
        client.drain().await?;
        let mut last = None;
        client
            .drained(|status| {
                let clients: u32 = status.services.iter().map(|s| s.clients.total()).sum();
                if last.replace(clients) != Some(clients) {
                    eprintln!("draining: {clients} clients left");
                }
            })
            .await
    })?;
    eprintln!("drained");
    Ok(())
}

/// Lets Postern read its configuration again.
///
/// # Errors
/// Every problem of the configuration, or that no Postern answers.
pub fn reload(socket: &Path) -> Result<(), Failure> {
    let report = wait(AdminClient::new(socket).reload())?;
    print!("{report}");
    Ok(())
}

/// Gives an order for a service and shows what was done.
///
/// # Errors
/// Why it was not carried out, or that no Postern answers.
pub fn order(socket: &Path, service: &ServiceName, order: &str) -> Result<(), Failure> {
    println!("{}", wait(AdminClient::new(socket).order(service, order))?);
    Ok(())
}

/// Switches a service over, to this node if one is named.
///
/// # Errors
/// As [`order`].
pub fn switchover(socket: &Path, service: &ServiceName, to: Option<&str>) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    match to {
        None => order(socket, service, "switchover"),
        Some(to) if to.chars().all(is_plain) => {
            let to = to.replace('[', "%5B").replace(']', "%5D");
            order(socket, service, &format!("switchover?to={to}"))
        }
        Some(to) => Err(Failure::new(format!("no node is called {to:?}"))),
    }
}

/// Succeeds if Postern is ready for clients.
///
/// # Errors
/// If it is not, or does not answer.
pub fn health(metrics: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(exposition::health(metrics)).map_err(|error| Failure::new(error.to_string()))
}

fn wait<T>(asking: impl Future<Output = Result<T, AdminError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(asking).map_err(|error| Failure::new(error.to_string()))
}

//! `postern node`: the inventory.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;

use super::{Reach, WithId, table};
use crate::app::{Failure, check};
use crate::control::api::model::{NodeCreate, NodeView};
use crate::control::api::segment;
use crate::domain::NodeTls;

/// What can be done about nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print the SQL that makes the management role on a node. It can be run
    /// as often as wanted: `postern node sql | psql -d postgres`.
    Sql {
        /// The role's name.
        #[arg(long, default_value = "postern")]
        role: String,
    },
    /// Register a node, so that services can be placed on it.
    Add {
        /// `host:port`, `[IPv6]:port`, or a socket directory and port.
        address: String,
        /// Its id; made of its address unless given.
        #[arg(long)]
        id: Option<String>,
        /// Whose machine it is.
        #[arg(long)]
        cloud: String,
        /// Where that is.
        #[arg(long)]
        region: String,
        /// Its availability zone.
        #[arg(long)]
        zone: Option<String>,
        /// Connections of a plan that may be placed there at most.
        #[arg(long)]
        capacity: Option<u32>,
        /// A superuser with which services are made on it.
        #[arg(long, default_value = "postgres")]
        user: String,
        /// A file with the superuser's password as its only line.
        #[arg(long)]
        password_file: PathBuf,
        /// How connections to it are encrypted: libpq's sslmode.
        #[arg(long, default_value = "prefer", value_parser = node_tls)]
        node_tls: NodeTls,
        /// The authorities of its certificate.
        #[arg(long)]
        node_ca: Option<PathBuf>,
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// The nodes of the inventory.
    List {
        /// Where the API is.
        #[command(flatten)]
        reach: Reach,
    },
    /// A node in full.
    Show(WithId),
    /// Look at a node now.
    Look(WithId),
    /// Declare a dirty node free, once nothing is left there.
    Free(WithId),
    /// Take a node that no service uses off the inventory.
    Remove(WithId),
}

fn node_tls(text: &str) -> Result<NodeTls, String> {
    let expected = "expected disable, prefer, require, verify-ca or verify-full";
    serde_json::from_value(text.into()).map_err(|_| expected.to_owned())
}

/// Runs one of them.
///
/// # Errors
/// What the API said, or a file that cannot be read.
pub fn run(command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::Sql { role } => check::print_node_sql(&role),
        NodeCommand::Add {
            address,
            id,
            cloud,
            region,
            zone,
            capacity,
            user,
            password_file,
            node_tls,
            node_ca,
            reach,
        } => {
            let password = read(&password_file)?;
            let password = password.trim_end_matches(['\n', '\r']).to_owned();
            let node_ca = node_ca.as_deref().map(read).transpose()?;
            let body = NodeCreate {
                id,
                address,
                cloud,
                region,
                zone,
                capacity,
                node_tls,
                node_ca,
                user,
                password,
            };
            let node: NodeView = reach.send(Method::POST, "/v1/nodes", &body)?;
            reach.print(&node, show)
        }
        NodeCommand::List { reach } => list(&reach),
        NodeCommand::Show(WithId { id, reach }) => {
            let node: NodeView = reach.get(&format!("/v1/nodes/{}", segment(&id)))?;
            reach.print(&node, show)
        }
        NodeCommand::Look(node) => order(&node, "look"),
        NodeCommand::Free(node) => order(&node, "free"),
        NodeCommand::Remove(WithId { id, reach }) => {
            reach.delete(&format!("/v1/nodes/{}", segment(&id)))
        }
    }
}

fn order(WithId { id, reach }: &WithId, order: &str) -> Result<(), Failure> {
    let path = format!("/v1/nodes/{}/{order}", segment(id));
    let node: NodeView = reach.order(Method::POST, &path)?;
    reach.print(&node, show)
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    text.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn list(reach: &Reach) -> Result<(), Failure> {
    let head =
        ["NODE", "ADDRESS", "CLOUD", "REGION", "ZONE", "STATE", "SERVICE", "VERSION", "ROLE"];
    reach.list("/v1/nodes", head, |node: &NodeView| {
        let found = node.found.as_ref();
        [
            node.id.clone(),
            node.address.clone(),
            node.cloud.clone(),
            node.region.clone(),
            node.zone.clone().unwrap_or_default(),
            state(node),
            node.service.clone().unwrap_or_default(),
            found.map(|found| found.version.clone()).unwrap_or_default(),
            found.map(|found| role(found.standby).to_owned()).unwrap_or_default(),
        ]
    })
}

fn state(node: &NodeView) -> String {
    format!("{:?}", node.state).to_lowercase()
}

fn role(standby: bool) -> &'static str {
    if standby { "standby" } else { "primary" }
}

fn show(node: &NodeView) -> String {
    let found = node.found.as_ref();
    let of = |text: fn(&crate::control::catalog::record::Found) -> String| {
        found.map(text).unwrap_or_default()
    };
    table::pairs(&[
        ("node", node.id.clone()),
        ("address", node.address.clone()),
        ("cloud", node.cloud.clone()),
        ("region", node.region.clone()),
        ("zone", node.zone.clone().unwrap_or_default()),
        ("state", state(node)),
        ("reason", node.reason.clone().unwrap_or_default()),
        ("service", node.service.clone().unwrap_or_default()),
        ("version", of(|found| found.version.clone())),
        ("role", of(|found| role(found.standby).to_owned())),
        ("max_connections", of(|found| found.max_connections.to_string())),
        ("extensions", of(|found| found.extensions.join(", "))),
        ("databases", of(|found| found.databases.join(", "))),
        ("looked at", node.looked_at.clone().unwrap_or_default()),
    ])
}

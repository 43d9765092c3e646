//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::platform::database::DatabaseCommand;
use super::platform::drill::DrillOptions;
use super::platform::node::NodeCommand;
use super::platform::plan::PlanCommand;
use super::platform::role::RoleCommand;
use super::platform::service::ServiceCommand;
use super::platform::token::TokenCommand;
use super::platform::why::WhyOptions;
use crate::domain::ServiceName;

/// The front door of a managed PostgreSQL platform: a proxy and pooler that
/// gives each service a stable URI, lets in whom its allowlist permits, holds
/// it to its plan and follows its primary.
#[derive(Debug, Parser)]
#[command(name = "postern", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const CONFIG: &str = "/etc/postern/postern.toml";
/// Where the admin socket is, unless told otherwise.
pub const SOCKET: &str = "/run/postern/admin.sock";
const METRICS: &str = "127.0.0.1:9127";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients. SIGHUP reloads the configuration, SIGTERM drains and
    /// stops, SIGINT stops at once.
    Serve {
        /// The configuration.
        #[arg(long, default_value = CONFIG, env = "POSTERN_CONFIG")]
        config: PathBuf,
    },
    /// Report everything that is wrong with a configuration.
    Check {
        /// The configuration.
        #[arg(long, default_value = CONFIG, env = "POSTERN_CONFIG")]
        config: PathBuf,
        /// Also look at every node: reachable, grants, authentication, limits,
        /// extensions.
        #[arg(long)]
        connect: bool,
    },
    /// Start real PostgreSQL servers with Postern in front of them, and print
    /// URIs to paste. Ctrl-C stops everything and leaves nothing behind.
    Demo(DemoOptions),
    /// Make certificates for a first start.
    Cert(CertOptions),
    /// Show what a running Postern is doing.
    Status {
        /// Its admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Let a running Postern take no new clients, send idle ones away, give
    /// busy ones until `drain_timeout`, and stop.
    Drain {
        /// Its admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
    },
    /// Let a running Postern read its configuration again.
    Reload {
        /// Its admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
    },
    /// Hold a service's new transactions and logins, and wait until running
    /// transactions are over, for at most `pause_timeout`.
    Pause {
        /// The service.
        service: ServiceName,
        /// The admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
    },
    /// Let a paused service go on.
    Resume {
        /// The service.
        service: ServiceName,
        /// The admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
    },
    /// Pause a service, have Patroni promote another node, or wait until
    /// somebody has, and let its clients go on there.
    Switchover {
        /// The service.
        service: ServiceName,
        /// The node to be promoted, as its address or as Patroni calls it.
        #[arg(long)]
        to: Option<String>,
        /// The admin socket.
        #[arg(long, default_value = SOCKET, env = "POSTERN_ADMIN_SOCKET")]
        socket: PathBuf,
    },
    /// Rehearse a switchover, and report what clients of Postern's own went
    /// through: their pauses, failed transactions, rows that were lost. It is a
    /// switchover: another node leads afterwards. Exits with 1 unless clients
    /// noticed nothing but a pause.
    Drill(DrillOptions),
    /// Exit with 0 if a running Postern is ready for clients: for container
    /// health checks.
    Health {
        /// The address of its metrics.
        #[arg(long, default_value = METRICS, env = "POSTERN_METRICS")]
        metrics: SocketAddr,
    },
    /// Explain why a client was turned away: by the id that it was told, or
    /// the last refusals.
    Why(WhyOptions),
    /// Create, show, change and delete services.
    Service {
        /// What to do.
        #[command(subcommand)]
        command: Box<ServiceCommand>,
    },
    /// The roles of services.
    Role {
        /// What to do.
        #[command(subcommand)]
        command: RoleCommand,
    },
    /// The databases of services.
    Database {
        /// What to do.
        #[command(subcommand)]
        command: DatabaseCommand,
    },
    /// Prepare PostgreSQL nodes, and keep the inventory of them.
    Node {
        /// What to do.
        #[command(subcommand)]
        command: Box<NodeCommand>,
    },
    /// The plans that services can be on.
    Plan {
        /// What to do.
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// Tokens for the admin API.
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Walk the way of a client, and name the step that fails with its remedy.
    Doctor {
        /// The URI that the client uses.
        uri: String,
    },
    /// Print the configuration that means the same as a pgbouncer.ini, and
    /// what has no equivalent. Reads the userlist.txt that it names, too.
    Import {
        /// The pgbouncer.ini.
        file: PathBuf,
    },
    /// Print the completion of this command line for a shell.
    Completion {
        /// Which.
        shell: clap_complete::Shell,
    },
}

/// How to run the demo.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// The session endpoint's port [default: 15432, or a free one].
    #[arg(long)]
    pub session_port: Option<u16>,
    /// The transaction endpoint's port [default: 16432, or a free one].
    #[arg(long)]
    pub transaction_port: Option<u16>,
    /// Show a failover, as Enter does, and stop.
    #[arg(long, conflicts_with = "command")]
    pub failover: bool,
    /// Run this command with the URIs in its environment instead of waiting
    /// for Ctrl-C, and exit with its status.
    #[arg(last = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// What certificates to make.
#[derive(Debug, Args)]
pub struct CertOptions {
    /// Write a certificate authority of its own (ca.crt) and a server
    /// certificate signed by it (server.crt, server.key) into this directory.
    #[arg(long, value_name = "DIR")]
    pub self_signed: PathBuf,
    /// DNS names and IP addresses in the certificate, such as
    /// "*.db.example.com".
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

//! The composition root: the only place that knows everything.
//!
//! `cli` says what can be asked for, one file each does it, and `assembly`
//! puts the data path and the control plane together.

pub mod assembly;
pub mod certificate;
pub mod check;
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod import;
pub mod platform;
pub mod reload;
pub mod remote;
pub mod secret_file;
pub mod serve;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use cli::{Cli, Command};

/// Runs the command line; the exit code is 0 for success, 1 for failure and 2
/// for a command line that makes no sense.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config, connect } => check::run(&config, connect),
        Command::Demo(options) => return demo::run(&options),
        Command::Cert(options) => certificate::run(&options),
        Command::Status { socket, json } => remote::status(&socket, json),
        Command::Drain { socket } => remote::drain(&socket),
        Command::Reload { socket } => remote::reload(&socket),
        Command::Pause { service, socket } => remote::order(&socket, &service, "pause"),
        Command::Resume { service, socket } => remote::order(&socket, &service, "resume"),
        Command::Switchover { service, to, socket } => {
            remote::switchover(&socket, &service, to.as_deref())
        }
        Command::Drill(options) => platform::drill::run(&options),
        Command::Health { metrics } => remote::health(metrics),
        Command::Why(options) => platform::why::run(&options),
        Command::Service { command } => platform::service::run(*command),
        Command::Role { command } => platform::role::run(command),
        Command::Database { command } => platform::database::run(command),
        Command::Node { command } => platform::node::run(*command),
        Command::Plan { command } => platform::plan::run(&command),
        Command::Token { command } => platform::token::run(command),
        Command::Doctor { uri } => doctor::run(&uri),
        Command::Import { file } => import::run(&file),
        Command::Completion { shell } => {
            let mut stdout = std::io::stdout();
            clap_complete::generate(shell, &mut Cli::command(), "postern", &mut stdout);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a command that failed says; the text is all that is left to tell.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

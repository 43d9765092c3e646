//! `postern serve`: runs until it is told to stop.

use std::io::IsTerminal as _;
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::assembly::{Postern, Runtimes};
use crate::control::config::{self, Log, LogFormat};

/// Serves with this configuration.
///
/// # Errors
/// If the configuration has problems or a listener cannot be bound.
pub fn run(config: &Path) -> Result<(), Failure> {
    let settings = config::load(config).map_err(|problems| Failure::new(problems.to_string()))?;
    log_to_stderr(&settings.log)?;
    for warning in &settings.warnings {
        tracing::warn!(key = warning.key(), "{}", warning.text());
    }
    let runtimes = Runtimes::new(&settings)?;
    let postern = Postern::start(&settings, Some(config), &runtimes)?;
    // Of thousands of services they are large, and nobody reads them any more.
    drop(settings);
    runtimes.control.block_on(until_stopped(&postern))?;
    runtimes.control.block_on(postern.stop());
    Ok(())
}

/// SIGHUP reloads; SIGTERM drains, a second one stops; SIGINT stops.
async fn until_stopped(postern: &Postern) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = postern.drain_requested() => Told::Drain,
        };
        match told {
            Told::Reload => {
                let _ = postern.reload().await;
            }
            Told::Stop => return Ok(()),
            Told::Drain => break,
        }
    }
    tokio::select! {
        () = postern.drain() => {}
        () = signals.stop() => tracing::warn!("told to stop while draining"),
    }
    Ok(())
}

enum Told {
    Reload,
    Drain,
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::Drain,
            _ = self.interrupt.recv() => Told::Stop,
        }
    }

    /// The second SIGTERM, or SIGINT.
    async fn stop(&mut self) {
        loop {
            if !matches!(self.next().await, Told::Reload) {
                return;
            }
        }
    }
}

fn log_to_stderr(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(log.level.as_str())
        .map_err(|error| Failure::new(format!("log.level: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.with_target(false).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}

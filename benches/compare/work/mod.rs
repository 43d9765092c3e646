//! What a contender does in its turn.

mod copy;
mod idle;
mod latency;
mod load;
mod login;
mod system_calls;

pub use copy::Copy;
pub use load::{Load, Protocol, Script};

use std::time::Duration;

use crate::Fallible;
use crate::contender::{Contender, Kind};
use crate::sample::Sample;
use crate::servers::Stage;

/// The kinds of work.
#[derive(Clone, Copy, Debug)]
pub enum WorkKind {
    /// As many transactions as possible.
    Load(Load),
    /// A connection for each transaction.
    Connect,
    Copy(Copy),
    /// At 70 % of what `PgBouncer` can do.
    Rate {
        clients: u32,
    },
    /// Clients that have done one SELECT and stay.
    Idle {
        clients: u32,
    },
    SystemCalls,
}

impl WorkKind {
    pub fn name(self) -> String {
        match self {
            Self::Load(load) => load.name(),
            Self::Connect => "connect".into(),
            Self::Copy(Copy::Out) => "copy-out".into(),
            Self::Copy(Copy::In) => "copy-in".into(),
            Self::Rate { clients } => format!("rate-{clients}"),
            Self::Idle { .. } => "memory".into(),
            Self::SystemCalls => "syscalls".into(),
        }
    }

    /// The most clients at a time.
    pub fn clients(self) -> u32 {
        match self {
            Self::Load(Load { clients, .. }) | Self::Rate { clients } | Self::Idle { clients } => {
                clients
            }
            Self::Connect | Self::Copy(_) | Self::SystemCalls => 16,
        }
    }

    pub fn prepares(self) -> bool {
        matches!(self, Self::Load(Load { protocol: Protocol::Prepared, .. }))
    }

    /// Whether a direct connection shows what is possible; thousands of them
    /// are what nobody has.
    pub fn has_direct(self) -> bool {
        !matches!(self, Self::Idle { .. } | Self::SystemCalls) && self.clients() <= 256
    }

    /// Whether Postern with one worker thread is measured too.
    pub fn has_one_worker(self) -> bool {
        !matches!(self, Self::Idle { .. } | Self::Rate { .. })
    }
}

/// Work that is ready to be done.
pub struct Work {
    kind: WorkKind,
    turn: Duration,
    /// Transactions per second, of [`WorkKind::Rate`].
    rate: f64,
}

impl Work {
    pub fn prepare(
        kind: WorkKind,
        stage: &Stage,
        contenders: &[Contender],
        turn: Duration,
    ) -> Fallible<Self> {
        let rate = match kind {
            WorkKind::Rate { clients } => latency::rate(stage, contenders, clients, turn)?,
            _ => 0.0,
        };
        Ok(Self { kind, turn, rate })
    }

    /// Memory that was used before counts as free: only the first growth shows.
    pub fn needs_a_fresh_process(&self) -> bool {
        matches!(self.kind, WorkKind::Idle { .. })
    }

    pub fn run(&self, stage: &Stage, contender: &Contender) -> Fallible<Sample> {
        let done = match self.kind {
            WorkKind::Load(load) => load.run(stage, contender, self.turn),
            WorkKind::Connect => load::connect(stage, contender, self.turn),
            WorkKind::Copy(copy) => copy.run(stage, contender),
            WorkKind::Rate { clients } => {
                latency::run(stage, contender, clients, self.rate, self.turn)
            }
            WorkKind::Idle { clients } => idle::run(stage, contender, clients),
            WorkKind::SystemCalls => system_calls::run(stage, contender),
        };
        done.map_err(|error| format!("{}: {error}", contender.kind().label()).into())
    }
}

fn pgbouncer(contenders: &[Contender]) -> Fallible<&Contender> {
    let found = contenders.iter().find(|contender| contender.kind() == Kind::PgBouncer);
    found.ok_or_else(|| "PgBouncer is not here".into())
}

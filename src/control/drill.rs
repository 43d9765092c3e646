//! Drills: a switchover rehearsed with clients of Postern's own, and the
//! account of what they went through.
//!
//! ```text
//! fit? ─▶ canaries write ─▶ calm ─▶ switchover ─▶ calm ─▶ their rows are looked for ─▶ Drilled
//!   └ NotPossible: nothing has happened    └ BrokeOff: the service goes on as it was
//! ```
//!
//! The canaries come in by the front door as everybody does, over the
//! transaction endpoint: allowlist, password, pool. What they do is what the
//! acceptance tests do (`rehearsal`), so that an operator sees of his own
//! service what is tested of Postern.

use std::io;
use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use self::NotDrilled::{BrokeOff, NotPossible};
use super::config::Canary;
use super::planned::{Planner, Switched, UnderWay};
use crate::directory::Service;
use crate::domain::{Secret, ServiceName};
use crate::metrics::{Metrics, Rehearsed};
use crate::rehearsal::{Connect, Load, Report, Running, Unconnected, rows};

/// Before and after the switchover, so that there is something to compare with.
const CALM: Duration = Duration::from_secs(2);
/// Between two rows of a canary: eight of them write 400 rows a second at most.
const PAUSE: Duration = Duration::from_millis(20);
/// For anything that canaries do before and after the writing.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Canaries, unless told otherwise.
pub const CANARIES: u16 = 8;
/// Canaries at most.
pub const MOST_CANARIES: u16 = 64;

/// Lets a client of this process in at the transaction endpoint.
pub type Enter = Arc<dyn Fn() -> io::Result<Pair> + Send + Sync>;
/// Whom a service's canaries are, or why nobody knows.
pub type Canaries = Box<dyn Fn(&ServiceName) -> Result<Option<Canary>, String> + Send + Sync>;

/// Rehearses switchovers.
pub struct Drills {
    /// Switches over.
    pub planner: Planner,
    /// The way in.
    pub enter: Enter,
    /// Who comes.
    pub canaries: Canaries,
    /// Keeps what came of it.
    pub metrics: Metrics,
    /// The services that are being drilled.
    pub under_way: Arc<UnderWay>,
}

/// What is to be rehearsed.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The node or Patroni member to be promoted; none: whichever is fit.
    pub to: Option<String>,
    /// How many canaries; none: [`CANARIES`].
    pub writers: Option<u16>,
}

/// What a drill showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Drilled {
    /// The service.
    pub service: String,
    /// Whether clients noticed nothing but a pause, and nothing was lost.
    pub passed: bool,
    /// The primary before.
    pub from: String,
    /// The primary after.
    pub to: String,
    /// How far the new primary was behind before the switchover, in seconds;
    /// none: it was not known.
    pub lag: Option<f64>,
    /// How long new transactions were held, in seconds.
    pub held: f64,
    /// What the canaries were told, and whether it was true.
    pub canaries: Report,
}

/// Why there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDrilled {
    /// It cannot be rehearsed as things are. Nothing has happened.
    #[error("{0}")]
    NotPossible(String),
    /// It had begun. The service goes on.
    #[error("the drill broke off: {0}")]
    BrokeOff(String),
}

impl Drills {
    /// Rehearses a switchover of a service. It is one: another node leads
    /// afterwards.
    ///
    /// # Errors
    /// [`NotDrilled`].
    pub async fn drill(&self, service: &ServiceName, plan: &Plan) -> Result<Drilled, NotDrilled> {
        let turn = self.under_way.begin(service);
        let _turn =
            turn.ok_or_else(|| NotPossible(format!("a drill of {service} is under way")))?;
        self.fit(service)?;
        let load = self.load(service, plan)?;
        prepare(&load).await?;
        tracing::info!(%service, writers = load.writers, "a drill begins");
        let drilled = self.rehearse(service, plan, &load).await;
        if let Err(why) = Self::clear(&load).await {
            tracing::warn!(%service, why, "the drill's table is left behind");
        }
        self.note(service, &drilled);
        drilled
    }

    /// A service with somebody to switch over to.
    fn fit(&self, service: &ServiceName) -> Result<Arc<Service>, NotDrilled> {
        let known = self.planner.directory.service(service);
        let known =
            known.ok_or_else(|| NotPossible(format!("there is no service \"{service}\"")))?;
        if self.planner.directory.is_paused(service) {
            return Err(NotPossible(format!("{service} is paused")));
        }
        if known.primary().is_err() {
            return Err(NotPossible(format!("{service} has no primary")));
        }
        if known.topology.standbys.is_empty() {
            return Err(NotPossible(format!(
                "{service} has no standby that follows its primary: there is nobody to switch over to"
            )));
        }
        Ok(known)
    }

    fn load(&self, service: &ServiceName, plan: &Plan) -> Result<Load, NotDrilled> {
        let canary = (self.canaries)(service).map_err(NotPossible)?.ok_or_else(|| {
            NotPossible(format!(
                "nobody can write to {service}: its configuration needs a section [services.canary]"
            ))
        })?;
        let writers = plan.writers.unwrap_or(CANARIES);
        if !(1..=MOST_CANARIES).contains(&writers) {
            return Err(NotPossible(format!("canaries are from 1 to {MOST_CANARIES}")));
        }
        Ok(Load { connect: connect(&self.enter, service, canary), writers, pause: PAUSE })
    }

    async fn rehearse(
        &self,
        service: &ServiceName,
        plan: &Plan,
        load: &Load,
    ) -> Result<Drilled, NotDrilled> {
        let running = within(load.start()).await;
        let running = running.map_err(|why| BrokeOff(format!("the canaries: {why}")))?;
        sleep(CALM).await;
        let before = self.fit(service).map_err(|error| BrokeOff(error.to_string()))?;
        let switched = self.planner.switch_over(service, plan.to.as_deref()).await;
        let switched = switched.map_err(BrokeOff)?;
        sleep(CALM).await;
        let canaries = account(running, load).await.map_err(BrokeOff)?;
        Ok(drilled(&before, switched, canaries))
    }

    async fn clear(load: &Load) -> Result<(), String> {
        within(async { Ok(Load::clear(&(load.connect)().await?).await?) }).await
    }

    fn note(&self, service: &ServiceName, drilled: &Result<Drilled, NotDrilled>) {
        let rehearsed = match drilled {
            Ok(drilled) => {
                tracing::info!(%service, passed = drilled.passed, said = %drilled.sentence(), "a drill is over");
                let Report { pause_p50, pause_p99, lost, .. } = drilled.canaries;
                Rehearsed::ToItsEnd { passed: drilled.passed, pause_p50, pause_p99, lost }
            }
            Err(error) => {
                tracing::warn!(%service, %error, "a drill is over");
                Rehearsed::BrokenOff
            }
        };
        self.metrics.drilled(service, rehearsed);
    }
}

/// The first canary: whether it gets in and may write is known before anything
/// happens.
async fn prepare(load: &Load) -> Result<(), NotDrilled> {
    let prepared = within(async { Ok(Load::prepare(&(load.connect)().await?).await?) }).await;
    prepared.map_err(|why| NotPossible(format!("a canary cannot write: {why}")))
}

/// Lets the canaries finish, and looks for their rows.
async fn account(running: Running, load: &Load) -> Result<Report, String> {
    let account = timeout(STEP_WITHIN, running.stop()).await;
    let account = account.map_err(|_| "the canaries are still waiting".to_owned())?;
    let rows = within(async { Ok(rows(&(load.connect)().await?).await?) }).await;
    Ok(account.report(&rows.map_err(|why| format!("the canaries' rows: {why}"))?))
}

/// What comes of a step in time, or why nothing does: in the server's words.
async fn within<T>(step: impl Future<Output = Result<T, Unconnected>>) -> Result<T, String> {
    match timeout(STEP_WITHIN, step).await {
        Ok(done) => done.map_err(|error| in_words(&*error)),
        Err(_) => Err(format!("nothing came of it within {STEP_WITHIN:?}")),
    }
}

fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let server = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error());
    server.map_or_else(
        || error.to_string(),
        |said| {
            [Some(said.message()), said.detail()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(". ")
        },
    )
}

fn drilled(before: &Service, switched: Switched, canaries: Report) -> Drilled {
    let standbys = before.topology.standbys.iter();
    let mut new = standbys.filter(|standby| standby.node.address.to_string() == switched.node);
    Drilled {
        service: before.name.to_string(),
        passed: canaries.is_clean(),
        from: before.primary().map(|node| node.address.to_string()).unwrap_or_default(),
        lag: new.next().and_then(|standby| standby.lag).map(|lag| lag.as_secs_f64()),
        to: switched.node,
        held: switched.took.as_secs_f64(),
        canaries,
    }
}

impl Drilled {
    /// In a line, for an event.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Report { acknowledged, lost, unknown, pause_p50, pause_p99, .. } = self.canaries;
        format!(
            "From {} to {}: clients paused for {pause_p50:.3} s (p50), {pause_p99:.3} s (p99); \
             {acknowledged} rows acknowledged, {lost} of them lost; {} transactions failed, \
             {unknown} unknown.",
            self.from,
            self.to,
            self.canaries.failed_in_all()
        )
    }
}

/// How a canary comes in.
fn connect(enter: &Enter, service: &ServiceName, canary: Canary) -> Connect {
    let (enter, service) = (Arc::clone(enter), service.clone());
    let Canary { user, password, database } = canary;
    let who = Arc::new((user, password, database));
    Arc::new(move || {
        let (enter, config) = (Arc::clone(&enter), config(&service, &who));
        async move {
            let stream = UnixStream::from_std(enter()?)?;
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            tokio::spawn(connection);
            Ok(client)
        }
        .boxed()
    })
}

fn config(service: &ServiceName, who: &(String, Secret<String>, String)) -> Config {
    let (user, password, database) = who;
    let mut config = Config::new();
    config.user(user).password(password.expose()).dbname(database);
    config.options(format!("service={service}")).application_name("postern drill");
    config
}

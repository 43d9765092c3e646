//! Planned switchovers: new transactions wait, running ones finish, the
//! promotion is asked of Patroni or waited for, then everybody goes on.
//!
//! ```text
//! pause ─▶ running transactions finish ─▶ a standby has everything ─▶ promotion
//!            └ pause_timeout ────────────────┴ pause_timeout    │
//!              resume, nothing has happened       another primary ─▶ resume
//! ```
//!
//! Whatever happens, a switchover ends with the service resumed, unless it was
//! paused before. A service has one at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use super::catalog::BY_SOCKET;
use super::config::Store;
use super::leader::switch_over;
use super::pausing::Pauses;
use crate::directory::roster::{Activity, Seat};
use crate::directory::{Directory, Roster};
use crate::domain::{Access, Epoch, PoolMode, ServiceName};

/// Between two looks at the transactions that still run.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Looks in a row that must find nothing running: a client may be on its way
/// from its lease to its first statement.
const QUIET_LOOKS: u32 = 3;
/// How long another primary may take from the moment it was asked for: less
/// than clients are held by default.
const PROMOTION_WITHIN: Duration = Duration::from_secs(50);

/// What an operator orders for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// Hold new transactions and logins; wait until none runs.
    Pause,
    /// Let them go on.
    Resume,
    /// Hold them, have another node promoted, and let them go on there.
    Switchover {
        /// The node or Patroni member to be promoted; none: whichever is fit.
        to: Option<String>,
    },
}

/// Carries orders out: what was done, or why it was not.
pub type CarryOut =
    Box<dyn Fn(ServiceName, Planned) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Who says which node of a service leads, if somebody does.
pub type Stores = Arc<dyn Fn(&ServiceName) -> Option<Arc<Store>> + Send + Sync>;

/// Waits until whoever is to be promoted has everything.
pub type CaughtUp =
    Arc<dyn Fn(ServiceName, Option<String>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What orders are carried out with.
#[derive(Clone)]
pub struct Planner {
    /// The services.
    pub directory: Arc<Directory>,
    /// Who of them is paused.
    pub pauses: Pauses,
    /// Who runs transactions.
    pub roster: Roster,
    /// How long running transactions may take to finish.
    pub pause_timeout: Duration,
    /// Who is asked for promotions.
    pub stores: Stores,
    /// Who knows how far the standbys are.
    pub caught_up: CaughtUp,
    /// The services that are being switched over.
    pub under_way: Arc<UnderWay>,
}

/// The services with which something is under way that happens once at a time.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<BTreeSet<ServiceName>>);

/// A service's turn; dropped, it is over.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    all: Arc<UnderWay>,
    service: ServiceName,
}

impl UnderWay {
    /// The service's turn, unless it has one already.
    pub fn begin(self: &Arc<Self>, service: &ServiceName) -> Option<Turn> {
        let begun = self.lock().insert(service.clone());
        begun.then(|| Turn { all: Arc::clone(self), service: service.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.lock().remove(&self.service);
    }
}

/// A switchover that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// The new primary.
    pub node: String,
    /// From the moment that clients began to wait until they could go on.
    pub took: Duration,
}

impl Planner {
    /// Carries out an order for a service.
    ///
    /// # Errors
    /// Why it could not be; the service goes on then as it was, unless it was
    /// only to be paused.
    pub async fn carry_out(
        &self,
        service: &ServiceName,
        order: &Planned,
    ) -> Result<String, String> {
        if self.directory.service(service).is_none() {
            return Err(format!("there is no service \"{service}\""));
        }
        tracing::info!(%service, ?order, "an operator's order");
        match order {
            Planned::Pause => {
                let mut after = AsBefore::of(&self.directory, service);
                let done = self.pause(service).await?;
                self.keep(service, true).await?;
                after.paused = true;
                Ok(done)
            }
            Planned::Resume => {
                self.keep(service, false).await?;
                Ok(format!("{service} goes on"))
            }
            Planned::Switchover { to } => {
                let Switched { node, took } = self.switch_over(service, to.as_deref()).await?;
                Ok(format!("{service} is led by {node}; its clients waited {took:.3?}"))
            }
        }
    }

    /// Until somebody says otherwise, also over a restart.
    async fn keep(&self, service: &ServiceName, paused: bool) -> Result<(), String> {
        let kept = self.pauses.set(service, paused, BY_SOCKET).await;
        kept.map_err(|error| format!("{service} goes on as it was: {error}"))
    }

    /// Switches a service over: to this node or member, or to whichever is fit.
    ///
    /// # Errors
    /// Why it could not be; the service goes on then as it was.
    pub async fn switch_over(
        &self,
        service: &ServiceName,
        to: Option<&str>,
    ) -> Result<Switched, String> {
        let turn = self.under_way.begin(service);
        let _turn = turn.ok_or_else(|| format!("{service} is being switched over already"))?;
        let began = Instant::now();
        let _as_before = AsBefore::of(&self.directory, service);
        self.pause(service).await?;
        let node = self.promoted(service, to).await?;
        Ok(Switched { node, took: began.elapsed() })
    }

    async fn pause(&self, service: &ServiceName) -> Result<String, String> {
        let began = Instant::now();
        self.directory.set_paused(service, true);
        if timeout(self.pause_timeout, self.quiet(service)).await.is_err() {
            let running = self.running(service);
            let most = self.pause_timeout;
            return Err(format!(
                "{running} transactions of {service} still ran after {most:?}: it goes on as it was"
            ));
        }
        Ok(format!("{service} is paused; its transactions took {:.3?} to finish", began.elapsed()))
    }

    async fn quiet(&self, service: &ServiceName) {
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            quiet = if self.running(service) == 0 { quiet + 1 } else { 0 };
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Transactions of the transaction endpoint that run; sessions would never
    /// finish.
    fn running(&self, service: &ServiceName) -> usize {
        let runs = |seat: &&Arc<Seat>| {
            let endpoint = &seat.occupant.endpoint;
            let is_busy = matches!(seat.activity(), Activity::Active | Activity::IdleInTransaction);
            is_busy
                && endpoint.mode == PoolMode::Transaction
                && endpoint.access == Access::ReadWrite
        };
        self.roster.seats_of(service).iter().filter(runs).count()
    }

    /// Has another node promoted, and says which is.
    async fn promoted(&self, service: &ServiceName, to: Option<&str>) -> Result<String, String> {
        let epoch = self.epoch(service);
        let promoted = async {
            tokio::select! {
                node = self.another_primary(service, epoch) => Ok(node),
                why = self.refused(service, to) => Err(why),
            }
        };
        timeout(PROMOTION_WITHIN, promoted).await.unwrap_or_else(|_| {
            Err(format!(
                "{service} had no other primary after {PROMOTION_WITHIN:?}: it goes on as it is"
            ))
        })
    }

    /// Asks for a promotion where somebody can be asked, and ends only if it is
    /// refused: Patroni answers when it is done, or knows that it cannot be. It
    /// would promote a standby that lacks a little, so that is looked at first.
    async fn refused(&self, service: &ServiceName, to: Option<&str>) -> String {
        let store = (self.stores)(service).filter(|store| !store.patroni.is_empty());
        let Some(store) = store else {
            tracing::info!(%service, "waiting for a node to be promoted");
            return std::future::pending().await;
        };
        let caught_up = (self.caught_up)(service.clone(), to.map(str::to_owned));
        if timeout(self.pause_timeout, caught_up).await.is_err() {
            let most = self.pause_timeout;
            return format!(
                "no standby of {service} had everything after {most:?}: it goes on as it was"
            );
        }
        match switch_over(&store, to, PROMOTION_WITHIN).await {
            Ok(()) => std::future::pending().await,
            Err(why) => why,
        }
    }

    fn epoch(&self, service: &ServiceName) -> Epoch {
        self.directory.service(service).map(|known| known.topology.epoch).unwrap_or_default()
    }

    async fn another_primary(&self, service: &ServiceName, before: Epoch) -> String {
        let mut changes = self.directory.subscribe();
        loop {
            let topology = self.directory.service(service).map(|known| known.topology.clone());
            if let Some(topology) = topology.filter(|topology| topology.epoch > before)
                && let Ok(primary) = topology.primary
            {
                return primary.address.to_string();
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Lets a service go on as it did, however an order ends.
struct AsBefore<'a> {
    directory: &'a Directory,
    service: &'a ServiceName,
    paused: bool,
}

impl<'a> AsBefore<'a> {
    fn of(directory: &'a Directory, service: &'a ServiceName) -> Self {
        Self { directory, service, paused: directory.is_paused(service) }
    }
}

impl Drop for AsBefore<'_> {
    fn drop(&mut self) {
        self.directory.set_paused(self.service, self.paused);
    }
}

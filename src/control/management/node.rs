//! One node under watch, and the task that looks at it.
//!
//! ```text
//! look (at most LOOK_WITHIN) ─▶ condition ─▶ log, publish ─▶ rest ─┐
//!   ▲                       a tenth of a second at least, then     │
//!   └──────────── until it is time again, or somebody is worried ◀─┘
//!                 and, nobody using the service, until it has its turn
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, SemaphorePermit, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::census::Others;
use super::condition::{Condition, News, Standing};
use super::error::NodeError;
use super::link::Link;
use super::pace::{Bustle, Pace};
use super::probe::{self, Look, Looked};
use super::service::ServiceWatch;
use crate::domain::{Kind, NodeAddress};

/// The most that a look may take, its connection included: a slower one counts
/// as no answer, though a connection goes on being made.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// How often a node's name is resolved; the answer may be older by as much as
/// the dialer remembers.
const NAME_EVERY: Duration = Duration::from_secs(5);

/// Connections that Postern takes on a node beside its clients' (decision 9).
pub(super) const OWN_CONNECTIONS: u32 = 3;

/// One node under watch.
#[derive(Debug)]
pub(super) struct NodeWatch {
    /// Where the node is.
    pub(super) address: NodeAddress,
    /// The way to it.
    pub(super) link: Link,
    condition: Mutex<Condition>,
    woken: Notify,
    /// When the last look that is over began.
    pub(super) looked_at: watch::Sender<Option<Instant>>,
    /// The other Posterns that serve it.
    pub(super) others: Others,
}

impl NodeWatch {
    /// A node that nobody has looked at.
    pub(super) fn new(address: NodeAddress, link: Link) -> Self {
        Self {
            address,
            link,
            condition: Mutex::default(),
            woken: Notify::new(),
            looked_at: watch::Sender::new(None),
            others: Others::default(),
        }
    }

    /// What is known of the node.
    pub(super) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the node looked at as soon as it may be. Any number of calls during
    /// one look cause one more.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits until a look that began after this instant is over. Cancel-safe;
    /// the caller sets the deadline.
    pub(super) async fn looked_at_since(&self, instant: Instant) {
        let mut looked_at = self.looked_at.subscribe();
        let since = |at: &Option<Instant>| at.is_some_and(|at| at >= instant);
        // The sender lives as long as `self`, so only a look ends the wait.
        let _ = looked_at.wait_for(since).await;
    }

    /// Whether nobody has looked at the node yet.
    pub(super) fn is_unseen(&self) -> bool {
        self.condition().standing() == Standing::Unseen
    }

    /// How many connections the node has left for clients, as far as is known.
    pub(super) fn offer(&self) -> Option<u32> {
        let traits = self.condition().traits()?;
        let not_for_clients = traits.reserved + OWN_CONNECTIONS;
        Some(traits.max_connections.saturating_sub(not_for_clients))
    }

    /// Looks at the node again and again; never ends by itself.
    pub(super) async fn watch(&self, service: &ServiceWatch) {
        loop {
            let turn = self.turn(service).await;
            let started = Instant::now();
            let looked = Box::pin(self.look(service)).await;
            let news = self.take_in(looked, service);
            self.tell(news, service);
            service.publish();
            self.looked_at.send_replace(Some(started));
            let bustle = service.bustle();
            if bustle == Bustle::Quiet {
                self.link.close();
            }
            drop(turn);
            self.rest(started, bustle.pace(service.vacant_for())).await;
        }
    }

    /// Waits for the turn of a service that nobody uses, or until somebody
    /// wants to use it.
    async fn turn<'s>(&self, service: &'s ServiceWatch) -> Option<SemaphorePermit<'s>> {
        if service.bustle() != Bustle::Quiet {
            return None;
        }
        tokio::select! {
            turn = service.common.quiet_looks.acquire() => turn.ok(),
            () = self.woken.notified() => None,
        }
    }

    /// Resolves the node's name again and again, beside the looks, which a slow
    /// resolver must not hold up; an address needs it never, and a quiet service
    /// not before somebody has looked. Never ends by itself.
    pub(super) async fn follow_name(&self, service: &ServiceWatch) {
        if !self.address.has_name() {
            return std::future::pending().await;
        }
        let mut looked_at = self.looked_at.subscribe();
        loop {
            if service.bustle() == Bustle::Quiet {
                // The sender lives as long as `self`.
                let _ = looked_at.changed().await;
                continue;
            }
            sleep(NAME_EVERY).await;
            Box::pin(self.link.follow_name()).await;
        }
    }

    /// What a look adds to what is known, of the node and of how far its
    /// service has come.
    fn take_in(&self, looked: Result<Looked, NodeError>, service: &ServiceWatch) -> News {
        let (look, position) = match looked {
            Ok(looked) => looked,
            Err(error) => return self.condition().update(Err(error)),
        };
        let lag = match (position, look.timeline) {
            (Some(position), _) if look.in_recovery => service.lag(position),
            (Some(position), Some(timeline)) if service.is_primary(&self.address) => {
                service.wrote(timeline, position);
                None
            }
            _ => None,
        };
        let mut condition = self.condition();
        condition.lags(lag);
        condition.update(Ok(look))
    }

    /// One look, which changes nothing.
    pub(super) async fn look(&self, service: &ServiceWatch) -> Result<Looked, NodeError> {
        let (kind, connect_within) = (service.kind, service.connect_within());
        let looking = self
            .link
            .ask(connect_within, |session| async move { probe::look(&session, kind).await });
        let looked = timeout(LOOK_WITHIN, looking).await;
        looked.unwrap_or(Err(NodeError::Timeout(LOOK_WITHIN)))
    }

    async fn rest(&self, started: Instant, pace: Pace) {
        sleep_until((started + pace.at_least).into()).await;
        let next = async {
            match pace.at_most {
                Some(at_most) => sleep_until((started + at_most).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.woken.notified() => {}
            () = self.link.ended() => {}
            () = next => {}
        }
    }

    /// One line in the log for each change.
    fn tell(&self, news: News, service: &ServiceWatch) {
        let (name, node) = (&service.name, &self.address);
        let (standing, error) = {
            let condition = self.condition();
            (condition.standing(), condition.error().cloned())
        };
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        match (news, standing) {
            (News::None, _) | (_, Standing::Unseen) => {}
            (News::Trouble, Standing::Up(_)) => {
                tracing::warn!(service = %name, %node, error, "a node could not be looked at and is taken to be as before");
            }
            (_, Standing::Down) => {
                tracing::warn!(service = %name, %node, error, "a node is down");
            }
            (_, Standing::Up(look)) => {
                let role = if look.writable() { "primary" } else { "standby" };
                let version = look.traits.version;
                let timeline = look.timeline;
                tracing::info!(service = %name, %node, role, timeline, version, "a node is up");
                self.warn_of_lacks(look, service);
            }
        }
    }

    fn warn_of_lacks(&self, look: Look, service: &ServiceWatch) {
        let (name, node) = (&service.name, &self.address);
        if service.kind == Kind::Vector && look.pgvector == Some(false) {
            tracing::warn!(service = %name, %node, "a node of a vector service lacks pgvector and is not routed to");
        }
        let promised = service.promised;
        if let Some(offered) = self.offer().filter(|offered| *offered < promised) {
            let needed = promised + look.traits.reserved + OWN_CONNECTIONS;
            tracing::warn!(
                service = %name, %node, promised, limit = offered,
                max_connections = look.traits.max_connections, needed,
                "a node has too few connections for the plan: the limit is lowered"
            );
        }
    }
}

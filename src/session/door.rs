//! What every session needs: handles to the floors below and the settings of
//! the moment. Built once, in `app`, and passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use ipnet::IpNet;

use crate::admission::Strangers;
use crate::admission::strangers::Caps;
use crate::auth::VerifierSource;
use crate::auth::mock::MockVerifiers;
use crate::auth::throttle::{Suspect, Throttle};
use crate::directory::{CancelKeys, Directory, Refusals, Roster};
use crate::domain::{ClientAddress, Endpoint, PoolMode, ServiceName};
use crate::metrics::Metrics;
use crate::net::ServerTls;
use crate::pool::{Closer, Slots};
use crate::routing::EvidenceSink;
use crate::shutdown::Shutdown;
use crate::upstream::Dialer;

use super::accept::Descriptors;
use super::cancel::CancelTarget;
use super::workers::Workers;

/// The data path's handles.
pub struct FrontDoor {
    /// Services, plans, topology.
    pub directory: Arc<Directory>,
    /// Live sessions.
    pub roster: Roster,
    /// Their cancel keys.
    pub cancel_keys: CancelKeys<CancelTarget>,
    /// Counters.
    pub metrics: Metrics,
    /// Who was turned away of late.
    pub refusals: Refusals,
    /// The orderly stop.
    pub shutdown: Shutdown,
    /// The settings of the moment.
    pub policy: ArcSwap<Policy>,
    /// Who knows the roles' verifiers.
    pub verifiers: Arc<dyn VerifierSource>,
    /// Who looks at nodes that misbehave.
    pub evidence: Arc<dyn EvidenceSink>,
    /// The nodes' slots.
    pub slots: Slots,
    /// Connects to nodes.
    pub dialer: Dialer,
    /// Closes server connections.
    pub closer: Closer,
    /// Verifiers for roles that cannot log in.
    pub mocks: MockVerifiers,
    /// What clients may use of the process's descriptors.
    pub descriptors: Descriptors,
    /// Those who are not authenticated.
    pub strangers: Strangers,
    /// Who guesses, and has to wait.
    pub guesses: Guesses,
    /// Clients that wait for somebody to serve them.
    pub held: Held,
    /// The threads that serve them.
    pub workers: Workers,
}

/// The settings that sessions read, replaced whole by a reload.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Certificates, if TLS is offered.
    pub tls: Option<ServerTls>,
    /// Whether a connection must be encrypted unless `plain_from` has it.
    pub tls_required: bool,
    /// Where unencrypted connections may come from.
    pub plain_from: Vec<IpNet>,
    /// Where a PROXY header is mandatory.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Caps on strangers.
    pub caps: Caps,
    /// Sessions at most.
    pub max_clients: usize,
    /// How long a client may take to prove who it is.
    pub client_login_timeout: Duration,
    /// How long a node may take to accept a login.
    pub server_connect_timeout: Duration,
    /// How long a login waits for a slot that is coming free.
    pub session_wait: Duration,
    /// How long a client is held while nobody can serve it.
    pub failover_wait: Duration,
    /// Clients of one service that may be held at once.
    pub failover_max_held: usize,
    /// The port of the transaction endpoint, for hints.
    pub pooled_port: Option<u16>,
}

impl FrontDoor {
    /// The settings of the moment.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }
}

impl Policy {
    /// Whether a connection from here may go unencrypted.
    #[must_use]
    pub fn permits_plain(&self, address: &ClientAddress) -> bool {
        let trusted = |ip| self.plain_from.iter().any(|block| block.contains(&ip));
        !self.tls_required || address.ip().is_none_or(trusted)
    }

    /// Whether this peer is a balancer that must say whom it speaks for.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: &ClientAddress) -> bool {
        peer.ip().is_some_and(|ip| self.proxy_protocol_from.iter().any(|block| block.contains(&ip)))
    }
}

/// The brake on guessing, for passwords and cancel keys.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<Throttle>);

impl Guesses {
    /// How long this one must wait.
    #[must_use]
    pub fn wait(&self, suspect: &Suspect) -> Duration {
        self.lock().wait(suspect, std::time::Instant::now())
    }

    /// He guessed wrong.
    pub fn failed(&self, suspect: Suspect) {
        let now = std::time::Instant::now();
        self.lock().failed(suspect, now);
    }

    /// The right to one guess, after a wait.
    pub fn attempt(&self, suspect: Suspect) -> Guess<'_> {
        let wait = self.lock().charge(&suspect, std::time::Instant::now());
        Guess { guesses: self, suspect, wait }
    }

    fn lock(&self) -> MutexGuard<'_, Throttle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One guess. Whoever had to wait has paid for it; unless it was wrong, he gets
/// that back by `Drop`.
#[derive(Debug)]
#[must_use]
pub struct Guess<'a> {
    guesses: &'a Guesses,
    suspect: Suspect,
    /// How long to wait before it is looked at.
    pub wait: Duration,
}

impl Guess<'_> {
    /// It was wrong.
    pub fn was_wrong(mut self) {
        if self.wait.is_zero() {
            self.guesses.failed(self.suspect.clone());
        }
        self.wait = Duration::ZERO;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if !self.wait.is_zero() {
            self.guesses.lock().give_back(&self.suspect);
        }
    }
}

/// Counts the clients that are held while their service has nobody to serve
/// them (decision 32).
#[derive(Debug, Clone)]
pub struct Held {
    by_service: Arc<Mutex<HashMap<ServiceName, usize>>>,
    metrics: Metrics,
}

/// A client that is held.
#[derive(Debug)]
#[must_use]
pub struct HeldClient {
    held: Held,
    service: ServiceName,
    mode: PoolMode,
    since: Instant,
}

impl Held {
    /// Nobody yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { by_service: Arc::default(), metrics }
    }

    /// Holds a client, unless too many of its service are held.
    #[must_use]
    pub fn admit(&self, endpoint: &Endpoint, most: usize) -> Option<HeldClient> {
        let service = &endpoint.service;
        let mut by_service = self.lock();
        if by_service.get(service).is_some_and(|count| *count >= most) || most == 0 {
            return None;
        }
        *by_service.entry(service.clone()).or_default() += 1;
        drop(by_service);
        self.metrics.hold_began(service);
        let (held, service, mode) = (self.clone(), service.clone(), endpoint.mode);
        Some(HeldClient { held, service, mode, since: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, usize>> {
        self.by_service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldClient {
    fn drop(&mut self) {
        self.held.metrics.hold_ended(&self.service, self.mode, self.since.elapsed().as_secs_f64());
        let mut by_service = self.held.lock();
        if let Some(count) = by_service.get_mut(&self.service) {
            *count -= 1;
            if *count == 0 {
                by_service.remove(&self.service);
            }
        }
    }
}

/// Random bytes for nonces and keys.
///
/// # Panics
/// If the system has no randomness, in which case nothing here is safe.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system provides random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_clients_are_held_for_a_service() {
        let held = Held::new(Metrics::new());
        let [orders, billing] = ["orders", "billing"].map(|name| Endpoint {
            service: name.parse().unwrap(),
            access: crate::domain::Access::ReadWrite,
            mode: PoolMode::Transaction,
        });
        let first = held.admit(&orders, 1).unwrap();
        assert!(held.admit(&orders, 1).is_none());
        assert!(held.admit(&billing, 1).is_some());
        drop(first);
        assert!(held.admit(&orders, 1).is_some());
        assert!(held.admit(&orders, 0).is_none());
        assert!(held.lock().is_empty());
    }
}

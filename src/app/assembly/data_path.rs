//! Makes the front door and opens its listeners.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use super::Runtimes;
use crate::app::{Failure, reload, secret_file};
use crate::auth::mock::MockVerifiers;
use crate::control::config::{ListenAddress, Settings};
use crate::control::management::{Management, Reigns};
use crate::directory::{CoarseClock, Directory, Roster};
use crate::domain::PoolMode;
use crate::metrics::Metrics;
use crate::net::Listener;
use crate::pool::Closer;
use crate::pool::keeper::{follow_successions, keep};
use crate::pool::roles::follow_roles;
use crate::pool::spares::Opener;
use crate::session::FrontDoor;
use crate::session::accept::{Descriptors, accept};
use crate::session::workers::Workers;
use crate::upstream::Dialer;

/// Sockets of the client ports may be used by everybody on the host, as
/// PostgreSQL's: the allowlist decides.
const SOCKET_MODE: u32 = 0o777;

/// Everything but the listeners.
pub(super) fn assemble(
    settings: &Settings,
    descriptors: Descriptors,
    runtimes: &Runtimes,
) -> Result<(Arc<FrontDoor>, Arc<Management>), Failure> {
    let policy = reload::policy(settings)?;
    let snapshot = reload::snapshot(settings)?;
    let directory = Arc::new(Directory::new(snapshot));
    let dialer = Dialer::default();
    let control = runtimes.control.handle().clone();
    let roster = Roster::new(CoarseClock::default());
    let watched = Arc::clone(&directory);
    let metrics = Metrics::new();
    let reigns = reigns(&settings.topology.state_file)?;
    let management = Management::start(
        watched,
        roster.clone(),
        control,
        settings.into(),
        reigns,
        metrics.clone(),
    );
    let management = Arc::new(management);
    let closer = Closer::new(
        dialer.clone(),
        Arc::clone(&management) as Arc<_>,
        runtimes.data().clone(),
        settings.timeouts.server_close,
        metrics.terminated_backends.clone(),
    );
    let held = crate::session::door::Held::new(metrics.clone());
    let door = FrontDoor {
        directory,
        roster,
        cancel_keys: crate::directory::CancelKeys::default(),
        metrics,
        refusals: crate::directory::Refusals::default(),
        shutdown: crate::shutdown::Shutdown::default(),
        policy: ArcSwap::from_pointee(policy),
        verifiers: Arc::clone(&management) as Arc<_>,
        evidence: Arc::clone(&management) as Arc<_>,
        slots: crate::pool::Slots::default(),
        dialer,
        closer,
        mocks: mock_verifiers(&settings.auth.secret_file)?,
        descriptors,
        strangers: crate::admission::Strangers::default(),
        guesses: crate::session::door::Guesses::default(),
        held,
        workers: Workers::new(runtimes.workers().cloned()),
    };
    Ok((Arc::new(door), management))
}

fn mock_verifiers(path: &Path) -> Result<MockVerifiers, Failure> {
    let secret = secret_file::read_or_make(path).map_err(|error| {
        let path = path.display();
        Failure::new(format!(
            "auth.secret_file {path}: {error}; name a file that Postern may create or read"
        ))
    })?;
    Ok(MockVerifiers::new(secret))
}

fn reigns(path: &Path) -> Result<Reigns, Failure> {
    Reigns::open(path).map_err(|error| {
        let path = path.display();
        Failure::new(format!(
            "topology.state_file {path}: {error}; name a file that Postern may create, read and \
             write, or, if its content is lost, remove it while every service has its right primary"
        ))
    })
}

/// Binds all listeners, then accepts on all of them.
pub(super) fn listen(
    settings: &Settings,
    door: &Arc<FrontDoor>,
    runtimes: &Runtimes,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let _context = runtimes.data().enter();
    let endpoints = [
        (PoolMode::Session, &settings.listen.session),
        (PoolMode::Transaction, &settings.listen.transaction),
    ];
    let mut bound = Vec::new();
    for (mode, addresses) in endpoints {
        for address in addresses {
            bound.push((mode, bind(address)?));
            tracing::info!(endpoint = %mode, %address, "listening");
        }
    }
    let accepting = bound
        .into_iter()
        .map(|(mode, listener)| runtimes.data().spawn(accept(Arc::clone(door), listener, mode)));
    let opener = Opener {
        dialer: door.dialer.clone(),
        closer: door.closer.clone(),
        verifiers: Arc::clone(&door.verifiers),
    };
    let keeping = keep(door.slots.clone(), Arc::clone(&door.directory), opener);
    let keeper = runtimes.data().spawn(keeping);
    let following = follow_roles(door.slots.clone(), Arc::clone(&door.verifiers));
    let roles = runtimes.control.spawn(following);
    let (directory, roster) = (Arc::clone(&door.directory), door.roster.clone());
    let follower = runtimes.data().spawn(follow_successions(directory, roster, door.slots.clone()));
    Ok(accepting.chain([keeper, roles, follower]).collect())
}

fn bind(address: &ListenAddress) -> Result<Listener, Failure> {
    let listener = match address {
        ListenAddress::Tcp(address) => Listener::tcp(*address),
        ListenAddress::Unix { .. } => {
            let path = address.socket_path().unwrap_or_default();
            Listener::unix(&path, SOCKET_MODE)
        }
    };
    listener.map_err(|error| Failure::new(format!("listen on {address}: {error}")))
}

//! Makes services and takes them apart.
//!
//! ```text
//! POST /v1/services ─▶ catalogue: provisioning(step) ─▶ worker ─ step ─┐
//!                                        ▲                             │ done: the next step is
//!                                        └─────────────────────────────┘ written down; the last
//!                                                                        one publishes the service
//! ```
//!
//! What must stay true: what is to be done next stands in the catalogue before
//! it is done, and every step can be repeated, so that a crash at any moment
//! ends in a service that is finished after the restart; one worker at most
//! works on a service; whatever keeps a step from being done is told in the
//! service's reason.

pub mod local;
pub mod look;
pub mod placement;
pub mod roles;
pub mod steps;
pub mod superuser;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::catalog::record::{
    Found, NodeRecord, Provider, RoleRecord, RoleStage, ServiceKind, ServiceRecord, Stage,
};
use super::catalog::store::Range;
use super::catalog::{Catalog, CatalogError, Versioned};
use super::config::Plans;
use crate::domain::{NodeAddress, ServiceName};
use crate::upstream::Dialer;
use local::LocalServers;
use superuser::Login;

/// Brings a service to the data path as the catalogue has it now; how many
/// sessions were told to leave.
pub type Publish =
    Arc<dyn Fn(ServiceName) -> BoxFuture<'static, Result<usize, String>> + Send + Sync>;

/// The plans that services can be on, now.
pub type CurrentPlans = Arc<dyn Fn() -> Arc<Plans> + Send + Sync>;

/// What provisioning works with.
pub struct Means {
    /// Where it writes down what it does.
    pub catalog: Catalog,
    /// The way to nodes.
    pub dialer: Dialer,
    /// The way to the data path.
    pub publish: Publish,
    /// The plans.
    pub plans: CurrentPlans,
    /// Servers on this host, if Postern makes them.
    pub local: Option<LocalServers>,
    /// Where the workers run.
    pub runtime: Handle,
}

/// Makes services and takes them apart.
#[derive(Clone)]
pub struct Provisioner {
    means: Arc<Means>,
    at_work: Arc<Mutex<HashMap<String, Again>>>,
}

/// Whether there is something new for a worker that is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl std::fmt::Debug for Provisioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provisioner").finish_non_exhaustive()
    }
}

impl Provisioner {
    /// Works with these means.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self { means: Arc::new(means), at_work: Arc::default() }
    }

    /// Goes on with what the last process did not finish, and starts the
    /// servers of this host.
    ///
    /// # Errors
    /// If the catalogue cannot be read.
    pub fn resume(&self) -> Result<(), CatalogError> {
        let services: Vec<Versioned<ServiceRecord>> = self.means.catalog.list(Range::ALL)?;
        for service in services.into_iter().map(|found| found.record) {
            match service.stage {
                Stage::Provisioning(_) | Stage::Deleting => self.work_on(&service.name),
                Stage::Ready if service.provider == Provider::Local => self.work_on(&service.name),
                Stage::Ready | Stage::Failed => {}
            }
        }
        let roles: Vec<Versioned<RoleRecord>> = self.means.catalog.list(Range::ALL)?;
        for role in roles.into_iter().map(|found| found.record) {
            if role.stage != RoleStage::Ready {
                self.settle_role(&role.service, &role.role);
            }
        }
        Ok(())
    }

    /// Has the primary told what it is yet to be told of a role.
    pub fn settle_role(&self, service: &str, role: &str) {
        let (means, service, role) = (Arc::clone(&self.means), service.to_owned(), role.to_owned());
        self.means.runtime.spawn(async move { roles::settle(&means, &service, &role).await });
    }

    /// Has a worker bring a service to where the catalogue says it should be.
    pub fn work_on(&self, name: &str) {
        let mut at_work = self.lock();
        if let Some(again) = at_work.get_mut(name) {
            *again = Again::Yes;
            return;
        }
        at_work.insert(name.to_owned(), Again::No);
        let (provisioner, name) = (self.clone(), name.to_owned());
        self.means.runtime.spawn(async move {
            loop {
                worker::work(&provisioner.means, &name).await;
                if provisioner.is_done_with(&name) {
                    return;
                }
            }
        });
    }

    fn is_done_with(&self, name: &str) -> bool {
        let mut at_work = self.lock();
        let again = at_work.insert(name.to_owned(), Again::No);
        let done = again != Some(Again::Yes);
        if done {
            at_work.remove(name);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Again>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether services can be made on this host.
    #[must_use]
    pub fn has_local(&self) -> bool {
        self.means.local.is_some()
    }

    /// Whether this host has what servers of this kind and number need.
    ///
    /// # Errors
    /// What is missing, and where it is to be had.
    pub async fn check_local(&self, kind: ServiceKind, nodes: u32) -> Result<(), String> {
        let checked = tokio::task::spawn_blocking(move || LocalServers::check(kind, nodes)).await;
        checked.map_err(|error| error.to_string())?
    }

    /// Looks at a node of the inventory.
    ///
    /// # Errors
    /// Why it could not be looked at.
    pub async fn look(&self, node: &NodeRecord) -> Result<Found, String> {
        look_at(&self.means, node).await
    }

    /// How a service's node is reached as superuser.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn login(
        &self,
        service: &ServiceRecord,
        address: &NodeAddress,
    ) -> Result<Login, String> {
        login(&self.means, service, &address.to_string()).await
    }

    /// The way to nodes.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.means.dialer
    }
}

async fn look_at(means: &Means, node: &NodeRecord) -> Result<Found, String> {
    let login = node_login(means, node.clone()).await?;
    look::look(&means.dialer, &login).await
}

/// Asks the catalogue on a thread that may block.
async fn blocking<T: Send + 'static>(
    means: &Means,
    ask: impl FnOnce(&Catalog) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, String> {
    let catalog = means.catalog.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&catalog)).await;
    asked.map_err(|error| error.to_string())?.map_err(|error| format!("catalogue: {error}"))
}

async fn node_login(means: &Means, node: NodeRecord) -> Result<Login, String> {
    let path = node.secret();
    let password = blocking(means, move |catalog| catalog.secret(&path)).await?;
    Ok(Login {
        address: node.address.parse().map_err(|error| format!("{}: {error}", node.address))?,
        tls: node.node_tls,
        authorities: node.node_ca.as_deref().map(Into::into),
        user: node.user,
        password: password.ok_or("its password is not in the catalogue")?,
    })
}

async fn login(means: &Means, service: &ServiceRecord, address: &str) -> Result<Login, String> {
    let placed = service.nodes.iter().find(|node| node.address == address);
    let placed = placed.ok_or_else(|| format!("{address} is no node of the service"))?;
    match service.provider {
        Provider::External => {
            let id = placed.id.clone();
            let node = blocking(means, move |catalog| catalog.get::<NodeRecord>(&id)).await?;
            let node = node.ok_or_else(|| format!("node {} is not in the inventory", placed.id))?;
            node_login(means, node.record).await
        }
        Provider::Local => {
            let path = local::superuser_secret(&service.name);
            let password = blocking(means, move |catalog| catalog.secret(&path)).await?;
            Ok(Login {
                address: address.parse().map_err(|error| format!("{address}: {error}"))?,
                tls: service.node_tls,
                authorities: service.node_ca.as_deref().map(Into::into),
                user: local::SUPERUSER.to_owned(),
                password: password.ok_or("the superuser's password is not in the catalogue")?,
            })
        }
    }
}

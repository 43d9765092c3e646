//! The pools of a node: who they are for, what their connections said, and
//! what they lack.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{NodeSlots, Slot, State};
use crate::auth::client::Keys;
use crate::auth::credential::Credential;
use crate::pool::ledger::{PoolId, Use};
use crate::pool::pooled::{Greeting, PoolKey};

/// What is known of a pool besides its idle connections.
#[derive(Debug)]
pub(super) struct Pool {
    key: PoolKey,
    /// What logs its role in, as long as one of its clients is there.
    keys: Weak<Keys>,
    /// Held by each of its connections, and by each spare on its way.
    counted: Arc<()>,
    /// What its newest connection said at login.
    greeting: Option<Arc<Greeting>>,
    /// When a spare could not be opened.
    spare_failed: Option<Instant>,
}

/// A connection that a pool lacks, and the right to open it.
#[derive(Debug)]
pub struct Spare {
    /// The pool.
    pub pool: PoolId,
    /// What it is opened with.
    pub key: PoolKey,
    /// What logs its role in.
    pub keys: Arc<Keys>,
    /// Its slot.
    pub slot: Slot,
    /// Counts it while it is on its way.
    pub under_way: Arc<()>,
}

/// After how long a spare that could not be opened is tried again: PgBouncer's
/// `server_login_retry`.
const SPARE_RETRY: Duration = Duration::from_secs(15);

impl NodeSlots {
    /// The pool of this key, and what logs its role in, which every client of
    /// it holds from now on; pools are numbered as they are first asked for.
    #[must_use]
    pub fn pool(&self, key: &PoolKey, keys: &Arc<Keys>) -> (PoolId, Arc<Keys>) {
        let mut state = self.lock();
        let State { ids, pools, last_id, .. } = &mut *state;
        let id = *ids.entry(key.clone()).or_insert_with(|| {
            *last_id += 1;
            PoolId(*last_id)
        });
        let pool = pools.entry(id).or_insert_with(|| Pool::new(key.clone()));
        let shared = pool.keys.upgrade().unwrap_or_else(|| Arc::clone(keys));
        pool.keys = Arc::downgrade(&shared);
        (id, shared)
    }

    /// The pools that have no client.
    pub(in crate::pool) fn deserted(&self) -> HashSet<PoolId> {
        let state = self.lock();
        let deserted = state.pools.iter().filter(|(_, pool)| pool.keys.strong_count() == 0);
        deserted.map(|(id, _)| *id).collect()
    }

    /// Counts a connection of this pool, as long as it is held.
    #[must_use]
    pub(in crate::pool) fn counted(&self, pool: PoolId) -> Arc<()> {
        self.lock().pools.get(&pool).map(|pool| Arc::clone(&pool.counted)).unwrap_or_default()
    }

    /// Forgets the pools that have neither a connection nor a client.
    pub(in crate::pool) fn forget_unused(&self) {
        let mut state = self.lock();
        let State { ledger, ids, pools, idle, retired, .. } = &mut *state;
        pools.retain(|id, pool| {
            let used = Arc::strong_count(&pool.counted) > 1 || pool.keys.strong_count() > 0;
            if !used {
                ids.remove(&pool.key);
                idle.remove(id);
                retired.remove(id);
                ledger.forget(*id);
            }
            used
        });
    }

    /// The roles of pools with connections, and what they logged in with.
    pub(in crate::pool) fn credentials(&self) -> HashSet<(String, Credential)> {
        let state = self.lock();
        let open = state.pools.values().filter(|pool| Arc::strong_count(&pool.counted) > 1);
        open.map(|pool| (pool.key.role().to_owned(), pool.key.credential())).collect()
    }

    /// A role may not log in with this credential any more: its idle
    /// connections are closed, the others when they come back.
    pub(in crate::pool) fn retire(self: &Arc<Self>, role: &str, credential: Credential) {
        let mut state = self.lock();
        let State { pools, retired, .. } = &mut *state;
        for (id, pool) in pools.iter_mut() {
            if pool.key.credential() == credential && pool.key.role() == role {
                pool.greeting = None;
                retired.insert(*id);
            }
        }
        let retired = state.retired.clone();
        drop(state);
        self.close_idle(|server| retired.contains(&server.pool()));
    }

    /// What each pool with a client lacks of so many connections, as far as
    /// slots are free that nobody waits for.
    pub(in crate::pool) fn spares(self: &Arc<Self>, least: u32) -> Vec<Spare> {
        let mut state = self.lock();
        let State { ledger, pools, retired, .. } = &mut *state;
        let mut spares = Vec::new();
        let lacking =
            |(id, pool): &(&PoolId, &Pool)| !retired.contains(id) && pool.key.may_have_spares();
        for (id, pool) in pools.iter().filter(lacking) {
            let Some(keys) = pool.keys.upgrade() else { continue };
            let waits = pool.spare_failed.is_some_and(|failed| failed.elapsed() < SPARE_RETRY);
            while !waits && Arc::strong_count(&pool.counted) <= least as usize && ledger.spare() {
                spares.push(Spare {
                    pool: *id,
                    key: pool.key.clone(),
                    keys: Arc::clone(&keys),
                    slot: Slot::new(self, Use::Opening),
                    under_way: Arc::clone(&pool.counted),
                });
            }
        }
        spares
    }

    /// A spare of this pool could not be opened.
    pub(in crate::pool) fn spare_failed(&self, pool: PoolId) {
        if let Some(pool) = self.lock().pools.get_mut(&pool) {
            pool.spare_failed = Some(Instant::now());
        }
    }

    /// What a connection of this pool said at login, if there ever was one.
    #[must_use]
    pub fn greeting(&self, pool: PoolId) -> Option<Arc<Greeting>> {
        let greeting = self.lock().pools.get(&pool).and_then(|pool| pool.greeting.clone());
        greeting.filter(|greeting| !greeting.tenure.is_over())
    }

    /// A connection of this pool was opened and said this.
    pub fn greeted(&self, pool: PoolId, greeting: Greeting) {
        let mut state = self.lock();
        state.retired.remove(&pool);
        if let Some(pool) = state.pools.get_mut(&pool) {
            pool.greeting = Some(Arc::new(greeting));
        }
    }
}

impl State {
    /// The database of a pool that there is.
    pub(super) fn database(&self, pool: PoolId) -> Option<Bytes> {
        self.pools.get(&pool).map(|pool| pool.key.database())
    }
}

impl Pool {
    fn new(key: PoolKey) -> Self {
        Self { key, keys: Weak::new(), counted: Arc::default(), greeting: None, spare_failed: None }
    }
}

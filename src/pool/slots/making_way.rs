//! Making way for a command that wants a database to itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{NodeSlots, State};
use crate::pool::ledger::PoolId;

/// PostgreSQL waits five seconds for the others to be gone (`CountOtherDBBackends`).
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two looks for connections that have come back, of which PostgreSQL's
/// own are a tenth of a second apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How much of a command is searched for the names of databases, in bytes.
const SEARCHED: usize = 4096;

impl NodeSlots {
    /// Closes all idle connections, and, for as long as somebody holds the
    /// command and PostgreSQL waits, those that come back to a database which
    /// it names.
    pub fn make_way(self: &Arc<Self>, command: &Arc<[u8]>) {
        self.close_idle(|_| true);
        let (node, command) = (Arc::downgrade(self), Arc::downgrade(command));
        let end = Instant::now() + PATIENCE;
        tokio::spawn(async move {
            while Instant::now() < end {
                sleep(BETWEEN_LOOKS).await;
                let (Some(node), Some(command)) = (node.upgrade(), command.upgrade()) else {
                    return;
                };
                let named = node.named_in(&command[..command.len().min(SEARCHED)]);
                if !named.is_empty() {
                    node.close_idle(|server| named.contains(&server.pool()));
                }
            }
        });
    }

    /// The pools that have had an idle connection to a database that a command
    /// names.
    fn named_in(&self, command: &[u8]) -> HashSet<PoolId> {
        let state = self.lock();
        let State { idle, .. } = &*state;
        let names = |pool: &PoolId| {
            state.database(*pool).is_some_and(|database| {
                let mut places = command.windows(database.len().max(1));
                places.any(|place| place.eq_ignore_ascii_case(&database))
            })
        };
        idle.keys().copied().filter(names).collect()
    }
}

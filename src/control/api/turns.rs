//! What two callers must not change at once, because what they write down and
//! what they tell a node are two steps.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is being changed at this moment, by path.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<HashSet<String>>>);

/// The right to change something. Dropped, it is somebody else's.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn {
    turns: Turns,
    path: String,
}

impl Turns {
    /// The right to change what is at this path, unless somebody has it.
    pub(super) fn take(&self, path: String) -> Option<Turn> {
        let is_free = self.lock().insert(path.clone());
        is_free.then(|| Turn { turns: self.clone(), path })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_a_turn() {
        let turns = Turns::default();
        let first = turns.take("a".to_owned()).unwrap();
        assert!(turns.take("a".to_owned()).is_none());
        assert!(turns.take("b".to_owned()).is_some());
        drop(first);
        assert!(turns.take("a".to_owned()).is_some());
    }
}

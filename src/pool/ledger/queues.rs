//! Who waits in one pool: a queue for each worker, because a connection is
//! cheaper for a client where it is watched already.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Place, Ticket, insert};
use crate::net::Worker;

/// How much longer than a client of the connection's own worker somebody of
/// another worker has to have waited to be served before him.
pub(super) const NEIGHBOUR_AFTER: Duration = Duration::from_millis(5);

/// One queue for each worker, by its number.
#[derive(Debug, Default)]
pub(super) struct Queues(Vec<VecDeque<Place>>);

impl Queues {
    pub(super) fn insert(&mut self, worker: Worker, place: Place) {
        let index = usize::from(worker.0);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, VecDeque::new);
        }
        insert(&mut self.0[index], place, |queued| *queued);
    }

    /// Who gets a connection that is watched by this worker: the first of its
    /// own queue, unless the first of another has waited much longer.
    pub(super) fn next(&self, here: Worker) -> Option<(Worker, Place)> {
        let oldest = self.oldest()?;
        let own = self.front(here).map(|place| (here, place));
        let has_overtaken = |own: &(Worker, Place)| {
            own.1.since.saturating_duration_since(oldest.1.since) > NEIGHBOUR_AFTER
        };
        own.filter(|own| !has_overtaken(own)).or(Some(oldest))
    }

    pub(super) fn front(&self, worker: Worker) -> Option<Place> {
        self.0.get(usize::from(worker.0)).and_then(|queue| queue.front().copied())
    }

    pub(super) fn pop(&mut self, worker: Worker) {
        if let Some(queue) = self.0.get_mut(usize::from(worker.0)) {
            queue.pop_front();
        }
    }

    /// Takes somebody out of his queue. Returns whether he was in one.
    pub(super) fn remove(&mut self, ticket: Ticket) -> bool {
        self.0.iter_mut().any(|queue| {
            let before = queue.len();
            queue.retain(|waiting| waiting.ticket != ticket);
            queue.len() < before
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    fn oldest(&self) -> Option<(Worker, Place)> {
        let fronts = (0..).map(Worker).zip(&self.0);
        fronts
            .filter_map(|(worker, queue)| Some((worker, *queue.front()?)))
            .min_by_key(|(_, place)| *place)
    }
}

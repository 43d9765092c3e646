//! The last refusals, for whoever looks one up by its id (decision 43).
//!
//! Those of strangers are kept apart, so that nobody who only knocks can push
//! out what a customer was told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::domain::refusal::Answer;
use crate::domain::{ClientAddress, ServiceName};

/// Refusals of clients that had logged in that are kept.
const KNOWN: usize = 4_096;
/// Refusals of strangers that are kept.
const STRANGERS: usize = 1_024;
/// Bytes of a text that are kept: a stranger chooses what it quotes.
const LONGEST: usize = 1_000;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its id, which only a client that has logged in is told.
    pub id: String,
    /// When it was.
    pub at: SystemTime,
    /// Where the client came from.
    pub address: ClientAddress,
    /// The service that it asked for, if there is one of that name.
    pub service: Option<ServiceName>,
    /// The role that it had proved to be.
    pub role: Option<String>,
    /// What it was told.
    pub told: Answer,
}

/// The last of them; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    known: VecDeque<Arc<Refused>>,
    strangers: VecDeque<Arc<Refused>>,
}

impl Refusals {
    /// Keeps a refusal, and forgets the oldest of its kind if there are too
    /// many.
    pub fn note(&self, mut refused: Refused) {
        let Answer { message, detail, hint, .. } = &mut refused.told;
        for text in [Some(message), detail.as_mut(), hint.as_mut()].into_iter().flatten() {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        let mut kept = self.lock();
        let (kind, most) = match refused.role {
            Some(_) => (&mut kept.known, KNOWN),
            None => (&mut kept.strangers, STRANGERS),
        };
        if kind.len() == most {
            kind.pop_front();
        }
        kind.push_back(Arc::new(refused));
    }

    /// All of them, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Refused>> {
        let kept = self.lock();
        let mut all: Vec<_> = kept.known.iter().chain(&kept.strangers).cloned().collect();
        drop(kept);
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// The one of this id, if it is still kept.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Refused>> {
        let kept = self.lock();
        kept.known.iter().chain(&kept.strangers).find(|refused| refused.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Refusal;

    fn refused(second: u64, role: Option<&str>) -> Refused {
        Refused {
            id: format!("{role:?}-{second}"),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            address: ClientAddress::Local,
            service: None,
            role: role.map(str::to_owned),
            told: Refusal::PasswordFailed { user: "ä".repeat(LONGEST) }.answer(),
        }
    }

    #[test]
    fn strangers_push_out_strangers_alone() {
        let refusals = Refusals::default();
        refusals.note(refused(0, Some("app")));
        for second in 1..=2_000 {
            refusals.note(refused(second, None));
        }
        let all = refusals.all();
        assert_eq!(all.len(), 1 + STRANGERS);
        assert!(all.is_sorted_by(|a, b| a.at > b.at));
        assert!(refusals.find("Some(\"app\")-0").is_some());
        assert!(refusals.find("None-976").is_none() && refusals.find("None-977").is_some());
        assert!(all.iter().all(|refused| refused.told.message.len() <= LONGEST));
    }
}

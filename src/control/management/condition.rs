//! What the looks at one node add up to: a value.
//!
//! Only evidence of absence makes a node `down`. A server that answers but
//! does not let us look (a wrong password, no connection free, one slow
//! answer) keeps the role it was last seen in: a probe that fails must not
//! take a service away from its clients.

use std::time::Duration;

use super::error::NodeError;
use super::probe::Look;
use super::session::Traits;
use crate::routing::topology::{Seen, Sight};

/// Looks in a row without an answer in time after which a node is down.
const SILENCES: u32 = 2;

/// What is known of a node.
#[derive(Debug, Default)]
pub(super) struct Condition {
    standing: Standing,
    silences: u32,
    /// What the last look failed with.
    error: Option<NodeError>,
    /// What the last look that succeeded showed.
    last_look: Option<Look>,
    /// How far a standby was behind at the last look.
    lag: Option<Duration>,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// Not looked at yet.
    #[default]
    Unseen,
    /// Nobody serves there.
    Down,
    /// It showed this.
    Up(Look),
}

/// What is new after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// It stands otherwise than before.
    Standing,
    /// It could not be looked at, for the first time or for another reason;
    /// it is taken to stand as before.
    Trouble,
}

impl Condition {
    /// Takes in what came of a look.
    pub(super) fn update(&mut self, looked: Result<Look, NodeError>) -> News {
        let before = self.standing;
        match looked {
            Ok(look) => {
                (self.standing, self.last_look) = (Standing::Up(look), Some(look));
                (self.silences, self.error) = (0, None);
            }
            Err(error) => return self.failed(error),
        }
        if self.standing == before { News::None } else { News::Standing }
    }

    fn failed(&mut self, error: NodeError) -> News {
        let before = self.standing;
        self.silences = match error {
            NodeError::Timeout(_) => self.silences + 1,
            _ => 0,
        };
        let seen = matches!(self.standing, Standing::Up(_));
        if !seen || error.is_absence() || self.silences >= SILENCES {
            self.standing = Standing::Down;
        }
        let text = |error: &NodeError| error.to_string();
        let known = self.error.as_ref().map(text) == Some(text(&error));
        self.error = Some(error);
        match () {
            () if self.standing != before => News::Standing,
            () if known => News::None,
            () => News::Trouble,
        }
    }

    /// A standby is this far behind; in whole seconds, so that not every look
    /// is news.
    pub(super) fn lags(&mut self, lag: Option<Duration>) {
        self.lag = lag.map(|lag| Duration::from_secs(lag.as_secs()));
    }

    /// How the node stands.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// What the last look failed with, if it failed.
    pub(super) fn error(&self) -> Option<&NodeError> {
        self.error.as_ref()
    }

    /// What the server last said of itself, also if it is down now.
    pub(super) fn traits(&self) -> Option<Traits> {
        self.last_look.map(|look| look.traits)
    }

    /// As [`crate::routing::topology::decide`] wants it.
    pub(super) fn sight(&self) -> Sight {
        match self.standing {
            Standing::Unseen => Sight::Unseen,
            Standing::Down => Sight::Down,
            Standing::Up(look) => Sight::Up(Seen {
                in_recovery: look.in_recovery,
                read_only: look.read_only,
                system: look.traits.system,
                timeline: look.timeline,
                pgvector: look.pgvector == Some(true),
                lag: self.lag.filter(|_| look.in_recovery),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: Look = Look {
        in_recovery: false,
        read_only: false,
        timeline: Some(1),
        pgvector: None,
        traits: Traits {
            system: 7,
            version: 160_004,
            max_connections: 100,
            reserved: 3,
            scram_iterations: 4096,
        },
    };

    fn refused() -> NodeError {
        NodeError::Login {
            message: "too many connections for role".to_owned(),
            sqlstate: "53300".to_owned(),
        }
    }

    #[test]
    fn only_absence_takes_a_node_away() {
        let mut condition = Condition::default();
        assert_eq!(condition.update(Ok(PRIMARY)), News::Standing);
        assert_eq!(condition.update(Ok(PRIMARY)), News::None);
        assert_eq!(condition.update(Err(refused())), News::Trouble);
        assert_eq!(condition.update(Err(refused())), News::None);
        assert_eq!(condition.standing(), Standing::Up(PRIMARY));
        let broken = NodeError::Broken("reset".to_owned());
        assert_eq!(condition.update(Err(broken)), News::Standing);
        assert_eq!(condition.standing(), Standing::Down);
        assert_eq!(condition.traits(), Some(PRIMARY.traits));
    }

    #[test]
    fn c24_descriptors_of_ours_that_run_out_take_no_node_away() {
        use crate::upstream::dial::DialError;
        let failed = |code| {
            let error = std::io::Error::from_raw_os_error(code);
            Err(NodeError::Dial(std::sync::Arc::new(DialError::Connect(error))))
        };
        let (emfile, refused) = (24, 111);
        let mut condition = Condition::default();
        condition.update(Ok(PRIMARY));
        assert_eq!(condition.update(failed(emfile)), News::Trouble);
        assert_eq!(condition.standing(), Standing::Up(PRIMARY));
        assert_eq!(condition.update(failed(refused)), News::Standing);
        assert_eq!(condition.standing(), Standing::Down);
    }

    #[test]
    fn one_slow_answer_is_no_absence_two_are() {
        let mut condition = Condition::default();
        let slow = || Err(NodeError::Timeout(Duration::from_secs(1)));
        condition.update(Ok(PRIMARY));
        assert_eq!(condition.update(slow()), News::Trouble);
        condition.update(Ok(PRIMARY));
        assert_eq!(condition.update(slow()), News::Trouble);
        assert_eq!(condition.update(slow()), News::Standing);
        assert_eq!(condition.sight(), Sight::Down);
    }

    #[test]
    fn a_node_never_seen_is_down_whatever_keeps_us_out() {
        let mut condition = Condition::default();
        assert_eq!(condition.update(Err(refused())), News::Standing);
        assert_eq!(condition.standing(), Standing::Down);
    }
}

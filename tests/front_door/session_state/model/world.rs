//! The sessions of one world, all on the transaction endpoint or all on the
//! server itself, and what each of them hears.

use std::time::Duration;

use super::answer::{Asides, told};
use super::program::Step;
use crate::raw::{Raw, V3_0, message};
use crate::stage::PASSWORD;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How the sessions of a world are connected.
#[derive(Debug, Clone)]
pub struct Way {
    pub port: u16,
    pub user: String,
    pub database: String,
}

/// One session.
pub struct Session {
    raw: Raw,
    pub asides: Asides,
    /// Of its transaction, as the last answer said.
    pub status: u8,
    way: Way,
    number: usize,
}

impl Session {
    /// Logs in.
    pub fn new(way: &Way, number: usize) -> Self {
        let mut raw = Raw::connect(way.port);
        raw.socket().set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        let name = format!("session {number}");
        let parameters =
            [("user", &way.user), ("database", &way.database), ("application_name", &name)];
        raw.startup(V3_0, &parameters.map(|(name, value)| (name, value.as_str())));
        assert_eq!(raw.authenticate(PASSWORD).kind, b'R');
        let mut session =
            Self { raw, asides: Asides::default(), status: b'I', way: way.clone(), number };
        session.answers(1);
        session
    }

    /// Says this, and returns what it hears.
    pub fn say(&mut self, step: &Step, role: &str) -> Vec<String> {
        if step.is_new_session() {
            self.leave();
            *self = Self::new(&self.way, self.number);
            return Vec::new();
        }
        if self.raw.try_send(&step.bytes(role)).is_err() {
            return vec!["the connection is closed".to_owned()];
        }
        self.answers(step.groups())
    }

    /// What comes up to so many `ReadyForQuery`.
    fn answers(&mut self, mut groups: usize) -> Vec<String> {
        let mut answers = Vec::new();
        while groups > 0 {
            let Ok(message) = self.raw.try_read() else {
                answers.push("no answer, or the connection is closed".to_owned());
                break;
            };
            if message.kind == b'Z' {
                self.status = message.body[0];
                groups -= 1;
            }
            if message.kind == b'E' {
                // Where a statement has to be prepared again, its parameters
                // are not described before PostgreSQL finds that it cannot be.
                answers.pop_if(|last: &mut String| last.starts_with("t "));
            }
            answers.extend(told(&message, &mut self.asides));
        }
        answers
    }

    /// Leaves; the server has let go of what it had when this returns, or
    /// Postern has taken it over.
    pub fn leave(&mut self) {
        let _ = self.raw.try_send(&message(b'X', b""));
        self.raw.read_rest();
    }
}

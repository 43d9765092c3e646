//! Asks a service's nodes for verifiers: the primary first, the next one if it
//! does not answer.
//!
//! One task asks for all logins of the service: one query at a time, at most
//! one every [`BETWEEN_QUERIES`], each for as many roles as wait (decision
//! 19). Nobody waits longer than [`LOOKUP_WITHIN`].

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until, timeout};

use super::error::NodeError;
use super::lookup;
use super::node::NodeWatch;
use super::pace::Bustle;
use super::service::ServiceWatch;
use super::verifiers::{Awaited, Outcome, Question, Step};
use crate::auth::{Lookup, LookupError};

/// From one query to the next: 20 in a second.
const BETWEEN_QUERIES: Duration = Duration::from_millis(50);
/// What a node gets to answer in, its connection included, before the next
/// one is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The longest that a login waits for an answer before it hears that nobody
/// can be asked.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);
/// How old an answer may be that closes a role's pools.
const RECHECKED_WITHIN: Duration = Duration::from_secs(5);
/// How often roles are forgotten that nobody logs in as.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// The iterations of PostgreSQL's passwords before version 16.
pub(super) const DEFAULT_ITERATIONS: u32 = 4096;

impl ServiceWatch {
    /// A role's verifier, known or looked up. Cancel-safe.
    pub(super) async fn lookup(&self, role: &str) -> Outcome {
        self.rouse().await;
        loop {
            let max_age = self.common.timeouts.load().verifier_max_age;
            match self.step(role, max_age) {
                Step::Use(lookup) => return Ok(lookup),
                Step::Pause(pause) => sleep(pause).await,
                Step::Wait(awaited) => return self.awaited(role, awaited).await,
                Step::Crowded => return Err(LookupError("too many logins wait".to_owned())),
            }
        }
    }

    /// A role's verifier, if it is known and the service was busy lately.
    pub(super) fn known(&self, role: &str) -> Option<Lookup> {
        if self.bustle() != Bustle::Busy {
            return None;
        }
        self.memory.needed(Instant::now());
        let max_age = self.common.timeouts.load().verifier_max_age;
        self.step(role, max_age).at_once()
    }

    /// What was known of a role lately; it is asked for again on the way.
    pub(super) fn recheck(&self, role: &str) -> Option<Lookup> {
        self.step(role, RECHECKED_WITHIN).at_once()
    }

    /// What the login does next; wakes the asking task if there is something
    /// to ask.
    fn step(&self, role: &str, max_age: Duration) -> Step {
        let mut verifiers = self.verifiers();
        let step = verifiers.step(role, Instant::now(), max_age);
        if verifiers.has_questions() {
            self.memory.asked.notify_one();
        }
        step
    }

    /// The iterations of a password that is set now, as PostgreSQL's own mock
    /// verifiers have them, by the node that is asked first.
    pub(super) fn iterations(&self) -> u32 {
        let traits = |node: &NodeWatch| node.condition().traits();
        let nodes = self.nodes_to_ask();
        let known = nodes.into_iter().find_map(|node| traits(node));
        known.map_or(DEFAULT_ITERATIONS, |traits| traits.scram_iterations)
    }

    /// What came of a question or, if nobody answers, what was known lately.
    async fn awaited(&self, role: &str, mut awaited: Awaited) -> Outcome {
        let answer = timeout(LOOKUP_WITHIN, awaited.wait_for(Option::is_some)).await;
        let answered = answer.ok().and_then(Result::ok);
        let outcome = answered.and_then(|outcome| outcome.clone());
        let late = || LookupError(format!("no answer within {LOOKUP_WITHIN:?}"));
        match outcome.unwrap_or_else(|| Err(late())) {
            Ok(lookup) => Ok(lookup),
            Err(error) => self.known_lately(role).ok_or(error),
        }
    }

    fn known_lately(&self, role: &str) -> Option<Lookup> {
        let timeouts = self.common.timeouts.load();
        let max_age = timeouts.verifier_max_age + timeouts.failover_wait;
        self.verifiers().last_known(role, Instant::now(), max_age)
    }

    /// Asks whatever is to be asked; never ends by itself.
    pub(super) async fn answer_questions(&self) {
        let mut forgotten_at = Instant::now();
        loop {
            let asked = self.memory.asked.notified();
            if self.verifiers().is_empty() {
                asked.await;
            } else {
                // Woken or not, it may be time to forget.
                let _ = timeout(FORGET_EVERY, asked).await;
            }
            if forgotten_at.elapsed() >= FORGET_EVERY {
                forgotten_at = Instant::now();
                self.verifiers().forget(forgotten_at);
            }
            while self.verifiers().has_questions() {
                let asked_at = Instant::now();
                let questions = self.verifiers().take_questions();
                Box::pin(self.answer(asked_at, questions)).await;
                sleep_until((asked_at + BETWEEN_QUERIES).into()).await;
            }
        }
    }

    async fn answer(&self, asked_at: Instant, questions: Vec<Question>) {
        let answers = {
            let roles: Vec<_> = questions.iter().map(|question| &*question.role).collect();
            self.ask_nodes(&roles).await
        };
        let mut verifiers = self.verifiers();
        match answers {
            Ok(answers) => {
                let answers = questions.into_iter().zip(answers).collect();
                let saw = |role: &str, lookup: &_| {
                    self.common.rotations.saw(&self.name, role, lookup);
                };
                verifiers.answered(asked_at, answers, saw);
            }
            Err(error) => verifiers.failed(questions, &error),
        }
    }

    async fn ask_nodes(&self, roles: &[&str]) -> Result<Vec<Lookup>, LookupError> {
        let mut failures = Vec::new();
        for node in self.nodes_to_ask() {
            match self.ask_node(node, roles).await {
                Ok(answers) => return Ok(answers),
                Err(error) => failures.push(format!("{}: {error}", node.address)),
            }
        }
        Err(LookupError(failures.join("; ")))
    }

    async fn ask_node(&self, node: &NodeWatch, roles: &[&str]) -> Result<Vec<Lookup>, NodeError> {
        let asking = node.link.ask(self.connect_within(), |session| async move {
            lookup::look_up(&session, roles).await
        });
        let answers = timeout(ANSWER_WITHIN, asking).await;
        let answers = answers.unwrap_or(Err(NodeError::Timeout(ANSWER_WITHIN)));
        if answers.as_ref().is_err_and(NodeError::is_about_rights) {
            // Rights are looked at once for each connection.
            node.link.close();
        }
        answers
    }
}

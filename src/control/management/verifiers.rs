//! The verifiers of one service that are known, and the questions that are to
//! be asked: a value without clock and socket.
//!
//! A role is in one question at most, and everybody who wants to know waits
//! for that one. Whoever asks often costs the server nothing: an answer
//! younger than a second is never asked for again ([`Age::judge`]).
//!
//! Limits: [`MAX_ROLES`] roles, forgotten after [`FORGET_AFTER`] without a
//! login; when there are too many, roles that cannot log in go first, so that
//! whoever makes names up does not drive out the real ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::auth::freshness::{Age, Use};
use crate::auth::verifier::NoVerifier;
use crate::auth::{Lookup, LookupError};

/// Roles kept for a service.
const MAX_ROLES: usize = 10_000;
/// How many go at once when there are too many.
const ROLES_TO_DROP: usize = MAX_ROLES / 10;
/// How long a role is kept that nobody logs in as.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(600);
/// The longest name that a role can have, in bytes: PostgreSQL's
/// `NAMEDATALEN`, without the NUL.
const LONGEST_NAME: usize = 63;
/// Questions that may wait to be asked.
const MAX_QUESTIONS: usize = 2_000;
/// Roles that one query asks for.
const MAX_BATCH: usize = 100;

/// What came of a question.
pub(super) type Outcome = Result<Lookup, LookupError>;

/// Waits for what came of a question.
pub(super) type Awaited = watch::Receiver<Option<Outcome>>;

/// A role to be asked for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) role: Box<str>,
    reply: watch::Sender<Option<Outcome>>,
}

/// What a login does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Use this.
    Use(Lookup),
    /// Wait for the answer.
    Wait(Awaited),
    /// Come again after this time.
    Pause(Duration),
    /// Too many others wait already.
    Crowded,
}

impl Step {
    /// What needs no waiting.
    pub(super) fn at_once(self) -> Option<Lookup> {
        match self {
            Self::Use(lookup) => Some(lookup),
            Self::Pause(_) | Self::Wait(_) | Self::Crowded => None,
        }
    }
}

/// What is known of a service's roles.
#[derive(Debug, Default)]
pub(super) struct Verifiers {
    roles: HashMap<Box<str>, Entry>,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Entry {
    answer: Option<Answer>,
    awaited: Option<Awaited>,
    /// When somebody last wanted to log in.
    wanted_at: Instant,
    /// When the password was last changed by ourselves.
    changed_at: Option<Instant>,
}

#[derive(Debug)]
struct Answer {
    lookup: Lookup,
    age: Age,
}

impl Verifiers {
    /// What a login as this role does next. Questions that arise wait in
    /// [`Self::take_questions`].
    pub(super) fn step(&mut self, role: &str, now: Instant, max_age: Duration) -> Step {
        if role.len() > LONGEST_NAME {
            return Step::Use(Lookup::Refused(NoVerifier::UnknownRole));
        }
        let entry = self.entry(role, now);
        let judged = entry.answer.as_ref().map(|answer| {
            let lookup = answer.lookup.clone();
            (answer.age.judge(now, max_age), lookup)
        });
        match judged {
            Some((Use::Fresh, lookup)) => Step::Use(lookup),
            Some((Use::Ageing, lookup)) => {
                self.question(role);
                Step::Use(lookup)
            }
            Some((Use::StaleUntil(pause), _)) => Step::Pause(pause),
            Some((Use::Stale, _)) | None => self.question(role).map_or(Step::Crowded, Step::Wait),
        }
    }

    /// What was known of a role lately: for the time that no node answers.
    pub(super) fn last_known(&self, role: &str, now: Instant, max_age: Duration) -> Option<Lookup> {
        let answer = self.roles.get(role)?.answer.as_ref()?;
        let age = now.saturating_duration_since(answer.age.asked_at);
        (age < max_age).then(|| answer.lookup.clone())
    }

    /// A proof did not match the answer at hand.
    pub(super) fn doubt(&mut self, role: &str) {
        let answer = self.roles.get_mut(role).and_then(|e| e.answer.as_mut());
        if let Some(answer) = answer {
            answer.age.doubted = true;
        }
    }

    /// A role's password was changed by ourselves: what is known of it counts
    /// no more, nor does what is being asked at this moment.
    pub(super) fn outdated(&mut self, role: &str, now: Instant) {
        if let Some(entry) = self.roles.get_mut(role) {
            entry.answer = None;
            entry.changed_at = Some(now);
        }
    }

    /// Whether nothing is known, and so nothing to be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    /// Whether there is something to ask.
    pub(super) fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// The questions of the next query, the oldest first.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        let size = self.questions.len().min(MAX_BATCH);
        self.questions.drain(..size).collect()
    }

    /// Keeps the answers to questions that were asked at this time, and tells
    /// those who wait, after `saw`. What was asked before a change of our own is
    /// asked again.
    pub(super) fn answered(
        &mut self,
        asked_at: Instant,
        answers: Vec<(Question, Lookup)>,
        saw: impl Fn(&str, &Lookup),
    ) {
        for (question, lookup) in answers {
            let entry = self.roles.get_mut(&question.role);
            let changed_at = entry.as_ref().and_then(|entry| entry.changed_at);
            if changed_at.is_some_and(|changed_at| asked_at <= changed_at) {
                self.questions.push(question);
                continue;
            }
            saw(&question.role, &lookup);
            if let Some(entry) = entry {
                entry.awaited = None;
                let (lookup, doubted) = (lookup.clone(), false);
                let age = Age { asked_at, doubted };
                entry.answer = Some(Answer { lookup, age });
            }
            question.reply.send_replace(Some(Ok(lookup)));
        }
    }

    /// Nobody could be asked; those who wait are told why.
    pub(super) fn failed(&mut self, questions: Vec<Question>, error: &LookupError) {
        for question in questions {
            if let Some(entry) = self.roles.get_mut(&question.role) {
                entry.awaited = None;
            }
            question.reply.send_replace(Some(Err(error.clone())));
        }
    }

    /// Forgets the roles that nobody has logged in as for long.
    pub(super) fn forget(&mut self, now: Instant) {
        self.roles.retain(|_, entry| {
            let idle = now.saturating_duration_since(entry.wanted_at);
            idle < FORGET_AFTER || entry.is_awaited()
        });
    }

    fn entry(&mut self, role: &str, now: Instant) -> &mut Entry {
        if !self.roles.contains_key(role) {
            if self.roles.len() >= MAX_ROLES {
                self.make_room();
            }
            let entry = Entry { answer: None, awaited: None, wanted_at: now, changed_at: None };
            self.roles.insert(role.into(), entry);
        }
        let entry = self.roles.get_mut(role).expect("it was there or inserted");
        entry.wanted_at = now;
        entry
    }

    /// The question about a role that waits or is being asked, or a new one;
    /// nothing if too many wait.
    fn question(&mut self, role: &str) -> Option<Awaited> {
        let entry = self.roles.get_mut(role)?;
        if entry.is_awaited() {
            return entry.awaited.clone();
        }
        if self.questions.len() >= MAX_QUESTIONS {
            return None;
        }
        let (reply, awaited) = watch::channel(None);
        entry.awaited = Some(awaited.clone());
        let role = role.into();
        self.questions.push(Question { role, reply });
        Some(awaited)
    }

    fn make_room(&mut self) {
        let mut ranks: Vec<_> = self.roles.values().map(Entry::rank).collect();
        let (_, bound, _) = ranks.select_nth_unstable(ROLES_TO_DROP - 1);
        let bound = *bound;
        self.roles.retain(|_, entry| entry.rank() > bound || entry.is_awaited());
    }
}

impl Entry {
    /// Whether a question is under way that will be answered.
    fn is_awaited(&self) -> bool {
        let awaited = self.awaited.as_ref();
        awaited.is_some_and(|awaited| awaited.has_changed().is_ok())
    }

    /// Who goes first: those who cannot log in, then those not wanted longest.
    fn rank(&self) -> (bool, Instant) {
        let real = matches!(&self.answer, Some(Answer { lookup: Lookup::Verifier(_), .. }));
        (real, self.wanted_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::auth::Verifier;
    use crate::domain::Secret;

    const MAX_AGE: Duration = Duration::from_secs(5);

    fn refused() -> Lookup {
        Lookup::Refused(NoVerifier::NoLogin)
    }

    fn real() -> Lookup {
        Lookup::Verifier(Arc::new(Verifier {
            iterations: 4096,
            salt: [1].into(),
            stored_key: Secret::new([0; 32]),
            server_key: Secret::new([0; 32]),
        }))
    }

    fn answer_all(verifiers: &mut Verifiers, now: Instant, lookup: &Lookup) -> usize {
        let mut answered = 0;
        while verifiers.has_questions() {
            let questions = verifiers.take_questions();
            answered += questions.len();
            let answers = questions.into_iter().map(|q| (q, lookup.clone()));
            verifiers.answered(now, answers.collect(), |_, _| {});
        }
        answered
    }

    #[test]
    fn many_logins_of_one_role_are_one_question() {
        let (mut verifiers, now) = (Verifiers::default(), Instant::now());
        let steps: Vec<_> = (0..100).map(|_| verifiers.step("bob", now, MAX_AGE)).collect();
        let questions = verifiers.take_questions();
        assert_eq!(questions.len(), 1);
        let step = verifiers.step("bob", now, MAX_AGE);
        assert!(matches!(step, Step::Wait(_)), "asked, but not answered");
        assert!(!verifiers.has_questions());
        let answers = questions.into_iter().map(|q| (q, refused())).collect();
        verifiers.answered(now, answers, |_, _| {});
        for step in steps {
            let Step::Wait(awaited) = step else { panic!("{step:?}") };
            assert!(matches!(*awaited.borrow(), Some(Ok(Lookup::Refused(NoVerifier::NoLogin)))));
        }
        assert!(matches!(
            verifiers.step("bob", now, MAX_AGE),
            Step::Use(Lookup::Refused(NoVerifier::NoLogin))
        ));
    }

    #[test]
    fn a27_a_doubted_role_is_asked_for_once_a_second() {
        let (mut verifiers, start) = (Verifiers::default(), Instant::now());
        let mut asked = 0;
        for ms in (0..10_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            verifiers.step("bob", now, MAX_AGE);
            asked += answer_all(&mut verifiers, now, &real());
            verifiers.doubt("bob");
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn an_ageing_answer_serves_while_it_is_asked_for() {
        let (mut verifiers, start) = (Verifiers::default(), Instant::now());
        verifiers.step("bob", start, MAX_AGE);
        answer_all(&mut verifiers, start, &real());
        let later = start + Duration::from_secs(2);
        let step = verifiers.step("bob", later, MAX_AGE);
        assert!(matches!(step, Step::Use(Lookup::Verifier(_))));
        assert!(verifiers.has_questions());
    }

    #[test]
    fn what_failed_is_asked_again_and_serves_for_a_while() {
        let (mut verifiers, start) = (Verifiers::default(), Instant::now());
        verifiers.step("bob", start, MAX_AGE);
        answer_all(&mut verifiers, start, &real());
        let later = start + MAX_AGE;
        let Step::Wait(awaited) = verifiers.step("bob", later, MAX_AGE) else { panic!("stale") };
        let questions = verifiers.take_questions();
        verifiers.failed(questions, &LookupError("down".to_owned()));
        assert!(matches!(*awaited.borrow(), Some(Err(_))));
        let known = |age| verifiers.last_known("bob", later, age).is_some();
        assert!(known(MAX_AGE + Duration::from_secs(60)));
        assert!(!known(MAX_AGE));
        let step = verifiers.step("bob", later, MAX_AGE);
        assert!(matches!(step, Step::Wait(_)));
        assert!(verifiers.has_questions());
    }

    #[test]
    fn a27_what_was_asked_before_a_change_is_asked_again() {
        let (mut verifiers, start) = (Verifiers::default(), Instant::now());
        let Step::Wait(awaited) = verifiers.step("bob", start, MAX_AGE) else { panic!("new") };
        let questions = verifiers.take_questions();
        let changed = start + Duration::from_millis(5);
        verifiers.outdated("bob", changed);
        let answers = questions.into_iter().map(|q| (q, refused())).collect();
        verifiers.answered(start, answers, |role, _| panic!("{role} was seen too early"));
        assert!(awaited.borrow().is_none());
        assert_eq!(answer_all(&mut verifiers, changed + Duration::from_millis(50), &real()), 1);
        assert!(matches!(*awaited.borrow(), Some(Ok(Lookup::Verifier(_)))));
    }

    #[test]
    fn a_question_that_nobody_will_answer_is_asked_again() {
        let (mut verifiers, now) = (Verifiers::default(), Instant::now());
        verifiers.step("bob", now, MAX_AGE);
        drop(verifiers.take_questions());
        verifiers.step("bob", now, MAX_AGE);
        assert!(verifiers.has_questions());
    }

    #[test]
    fn made_up_names_are_bounded_and_drive_out_no_real_role() {
        let (mut verifiers, start) = (Verifiers::default(), Instant::now());
        verifiers.step("bob", start, MAX_AGE);
        answer_all(&mut verifiers, start, &real());
        for n in 0..3 * MAX_ROLES {
            let now = start + Duration::from_micros(n as u64);
            verifiers.step(&format!("r{n}"), now, MAX_AGE);
            answer_all(&mut verifiers, now, &refused());
        }
        assert!(verifiers.roles.len() <= MAX_ROLES);
        assert!(verifiers.last_known("bob", start, MAX_AGE).is_some());
        let long = "x".repeat(64);
        let step = verifiers.step(&long, start, MAX_AGE);
        assert!(matches!(step, Step::Use(Lookup::Refused(_))));
        verifiers.forget(start + 2 * FORGET_AFTER);
        assert!(verifiers.roles.is_empty());
    }

    #[test]
    fn waiting_questions_are_bounded() {
        let (mut verifiers, now) = (Verifiers::default(), Instant::now());
        for n in 0..MAX_QUESTIONS {
            verifiers.step(&format!("r{n}"), now, MAX_AGE);
        }
        let step = verifiers.step("one more", now, MAX_AGE);
        assert!(matches!(step, Step::Crowded));
        assert_eq!(verifiers.take_questions().len(), MAX_BATCH);
    }
}

//! What a client hears whose server connection is lost, and whether its
//! session goes on: decisions 33 to 35, as one rule.
//!
//! | under way                                 | transaction endpoint | pinned, session endpoint |
//! |-------------------------------------------|----------------------|--------------------------|
//! | something whose success could commit      | `08007`, goes on     | `08007`, ends            |
//! | a transaction whose end was not asked for | `40001`, goes on     | `40001`, ends            |
//! | nothing                                   | goes on              | `57P01`, ends            |
//!
//! A FATAL of the server's own is the answer of a session that ends, unless
//! the outcome is unknown. Where a session could go on, a server that says
//! that it goes away has only said why the connection is lost; a FATAL about
//! the client itself, such as a timeout, ends its session.

use crate::domain::refusal::Aftermath;
use crate::domain::{PoolMode, Refusal};
use crate::metrics::LostOutcome;
use crate::session::stakes::Prospect;
use crate::state::Pins;
use crate::wire::conversation::TransactionStatus;

/// How a connection was lost.
#[derive(Debug, Clone)]
pub struct Loss<'a> {
    /// The client's endpoint.
    pub mode: PoolMode,
    /// What holds the client to the connection.
    pub pins: Pins,
    /// What was under way.
    pub prospect: &'a Prospect,
    /// The server's own FATAL.
    pub fatal: Option<Fatal>,
}

/// What a server says before it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fatal {
    /// The server, or this process of it, is told to end.
    GoingAway,
    /// Something about the client or its session.
    AboutTheClient,
    /// It cannot make sense of what the client sends: nothing of what is
    /// unanswered has been run.
    Unintelligible,
}

/// What the client hears, and how it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session goes on; this is the answer to what was under way, if
    /// anything was.
    GoesOn(Option<Refusal>),
    /// The session ends, with these words.
    Ends(Words),
}

/// Whose words end a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// The server's, as they came.
    TheServers,
    /// Postern's.
    Ours(Refusal),
}

impl Fatal {
    /// Reads the SQLSTATE of an `ErrorResponse` whose severity is FATAL or
    /// PANIC.
    #[must_use]
    pub fn of(sqlstate: &[u8]) -> Self {
        match sqlstate {
            b"57P01" | b"57P02" | b"57P03" => Self::GoingAway,
            b"08P01" => Self::Unintelligible,
            _ => Self::AboutTheClient,
        }
    }
}

/// What is known of what was under way.
#[must_use]
pub fn outcome(prospect: &Prospect) -> Option<LostOutcome> {
    let owed = prospect.groups.iter().any(|group| !group.told) || prospect.unsynced == Some(false);
    match prospect.after {
        _ if prospect.unknown => Some(LostOutcome::Unknown),
        TransactionStatus::InBlock => Some(LostOutcome::NotCommitted),
        TransactionStatus::Idle | TransactionStatus::Failed => {
            owed.then_some(LostOutcome::NotCommitted)
        }
    }
}

/// The rule.
#[must_use]
pub fn judge(loss: &Loss<'_>) -> Verdict {
    let outcome = outcome(loss.prospect);
    let by_the_server = matches!(loss.fatal, None | Some(Fatal::GoingAway));
    if loss.mode == PoolMode::Transaction && loss.pins.is_empty() && by_the_server {
        return Verdict::GoesOn(outcome.map(|outcome| refusal(Some(outcome), Aftermath::GoesOn)));
    }
    let is_known =
        outcome != Some(LostOutcome::Unknown) || loss.fatal == Some(Fatal::Unintelligible);
    if loss.fatal.is_some() && is_known {
        return Verdict::Ends(Words::TheServers);
    }
    Verdict::Ends(Words::Ours(refusal(outcome, ending(loss.pins))))
}

fn ending(pins: Pins) -> Aftermath {
    if pins.is_empty() {
        return Aftermath::Ends;
    }
    let names: Vec<_> = pins.iter().map(|reason| reason.label().replace('_', " ")).collect();
    Aftermath::EndsHolding { state: names.join(", ") }
}

fn refusal(outcome: Option<LostOutcome>, aftermath: Aftermath) -> Refusal {
    match outcome {
        None => Refusal::ServerLost(aftermath),
        Some(LostOutcome::NotCommitted) => Refusal::TransactionLost(aftermath),
        Some(LostOutcome::Unknown) => Refusal::OutcomeUnknown(aftermath),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::stakes::Owing;
    use crate::state::PinReason;
    use PoolMode::{Session, Transaction};
    use TransactionStatus::{Failed, Idle, InBlock};

    fn prospect(unknown: bool, owed: bool, after: TransactionStatus) -> Prospect {
        let group = Owing { number: 0, told: false, after };
        let groups = if owed { vec![group] } else { Vec::new() };
        Prospect { unknown, groups, unsynced: None, after }
    }

    /// SQLSTATE, or `-` for nothing and `=` for the server's own words; behind
    /// it whether the session goes on.
    fn told(mode: PoolMode, pinned: bool, prospect: &Prospect, fatal: Option<Fatal>) -> String {
        let pins = if pinned { PinReason::Listen.into() } else { Pins::NONE };
        let code = |refusal: Refusal| refusal.answer().sqlstate.as_str().to_owned();
        match judge(&Loss { mode, pins, prospect, fatal }) {
            Verdict::GoesOn(refusal) => refusal.map_or("-".into(), code) + " goes on",
            Verdict::Ends(Words::TheServers) => "= ends".into(),
            Verdict::Ends(Words::Ours(refusal)) => code(refusal) + " ends",
        }
    }

    #[test]
    fn decision_33_row_by_row() {
        let (gone, own) = (Some(Fatal::GoingAway), Some(Fatal::AboutTheClient));
        let unknown = prospect(true, true, Idle);
        let statement = prospect(false, true, InBlock);
        let ended = prospect(false, true, Idle);
        let block = prospect(false, false, InBlock);
        let failed = prospect(false, false, Failed);
        let idle = prospect(false, false, Idle);
        for (under_way, pooled, session) in [
            (&unknown, "08007", "08007"),
            (&statement, "40001", "40001"),
            (&ended, "40001", "40001"),
            (&block, "40001", "40001"),
            (&failed, "-", "57P01"),
            (&idle, "-", "57P01"),
        ] {
            let goes_on = format!("{pooled} goes on");
            let ends = format!("{session} ends");
            let fatal = if under_way.unknown { ends.clone() } else { "= ends".into() };
            for (mode, pinned, said, expected) in [
                (Transaction, false, None, &goes_on),
                (Transaction, false, gone, &goes_on),
                (Transaction, false, own, &fatal),
                (Transaction, true, None, &ends),
                (Transaction, true, gone, &fatal),
                (Session, false, None, &ends),
                (Session, false, gone, &fatal),
                (Session, false, own, &fatal),
                (Session, false, Some(Fatal::Unintelligible), &"= ends".to_owned()),
            ] {
                assert_eq!(
                    &told(mode, pinned, under_way, said),
                    expected,
                    "{under_way:?} {said:?}"
                );
            }
        }
    }

    #[test]
    fn a_pinned_client_hears_what_it_held() {
        let pins = [PinReason::TemporaryObject, PinReason::Listen].into_iter().collect();
        let idle = prospect(false, false, Idle);
        let loss = Loss { mode: Transaction, pins, prospect: &idle, fatal: None };
        let Verdict::Ends(Words::Ours(refusal)) = judge(&loss) else { panic!("ends") };
        let detail = refusal.answer().detail.unwrap();
        assert_eq!(
            detail,
            "The session held state that was lost with it: listen, temporary object."
        );
    }
}

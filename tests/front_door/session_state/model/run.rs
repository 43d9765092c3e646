//! One program on its way through both worlds.

use std::collections::BTreeSet;
use std::time::Duration;

use super::look::{IN_THE_END, of_statement};
use super::program::{Program, Step};
use super::twins::{Mismatch, POOL, SESSIONS, Tally, Twins};
use super::world::Session;
use crate::stage::eventually;

/// Behind a statement that left a pin, until it may have been found to be over.
const SECOND_LOOK: Duration = Duration::from_millis(2);
/// Between two looks at what is about to happen.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

pub struct Run<'t> {
    twins: &'t Twins,
    direct: Vec<Session>,
    pooled: Vec<Session>,
    /// Postern's number of each pooled session.
    seats: Vec<u64>,
    /// Sessions that have used every sequence since they are pinned for it:
    /// what others know of `currval` is said in the README to differ.
    counting: BTreeSet<usize>,
    tally: Tally,
}

impl<'t> Run<'t> {
    pub fn new(twins: &'t Twins) -> Self {
        let direct = (0..SESSIONS).map(|number| Session::new(&twins.direct, number)).collect();
        let mut run = Self {
            twins,
            direct,
            pooled: Vec::new(),
            seats: Vec::new(),
            counting: BTreeSet::new(),
            tally: Tally::default(),
        };
        for number in 0..SESSIONS {
            run.pooled.push(Session::new(&twins.pooled, number));
            run.seats.push(run.newest_seat());
        }
        run
    }

    /// Every step, and what the sessions see at the end.
    pub fn all(&mut self, program: &Program) -> Result<Tally, Mismatch> {
        for (number, step) in program.0.iter().enumerate() {
            if self.can_run(step) {
                self.step(step).map_err(|differ| differ.at(format!("step {number}, {step}")))?;
            } else {
                self.tally.left_out += 1;
            }
        }
        // Those that hold a connection make room for the others.
        let holds = |session: &usize| !self.holds(*session);
        let mut sessions: Vec<_> = (0..SESSIONS).collect();
        sessions.sort_by_key(holds);
        for session in sessions {
            self.in_the_end(session)?;
        }
        Ok(self.tally)
    }

    fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        let session = step.session;
        self.compare(step)?;
        if step.is_new_session() {
            self.seats[session] = self.newest_seat();
        }
        self.settle(session);
        self.tally.steps += 1;
        self.tally.pinned += u64::from(self.is_pinned(session));
        Ok(())
    }

    /// Says it in both worlds.
    fn compare(&mut self, step: &Step) -> Result<(), Mismatch> {
        let role = &self.twins.direct.user;
        let direct = self.direct[step.session].say(step, role);
        let pooled = self.pooled[step.session].say(step, role);
        self.count(step, &direct);
        if direct == pooled { Ok(()) } else { Err(Mismatch { at: String::new(), pooled, direct }) }
    }

    /// What the session sees, and what it heard in between; it is over then.
    fn in_the_end(&mut self, session: usize) -> Result<(), Mismatch> {
        let mut looks: Vec<String> = IN_THE_END.map(|sql| format!("Q {sql}")).to_vec();
        looks.push(of_statement());
        if self.direct[session].status != b'I' {
            looks.insert(0, "Q ROLLBACK".to_owned());
        }
        for says in looks {
            let step = Step { session, says };
            self.compare(&step).map_err(|differ| differ.at(format!("the end of {step}")))?;
            self.settle(session);
        }
        let [direct, pooled] = [&self.direct, &self.pooled].map(|world| &world[session].asides);
        if direct != pooled {
            let told = |asides| format!("{asides:#?}").lines().map(str::to_owned).collect();
            let (pooled, direct) = (told(pooled), told(direct));
            return Err(Mismatch { at: format!("what {session} heard"), pooled, direct });
        }
        self.direct[session].leave();
        self.pooled[session].leave();
        self.settle(session);
        Ok(())
    }

    /// Whether it need not wait for another session.
    fn can_run(&self, step: &Step) -> bool {
        let knows = !step.says.contains("SELECT currval") || self.counting.contains(&step.session);
        let holds = self.holds(step.session);
        knows && (holds || self.counts().busy < POOL)
    }

    fn count(&mut self, step: &Step, direct: &[String]) {
        let failed = direct.iter().any(|answer| answer.starts_with("E "));
        if step.says.contains("nextval('two'), currval") && !failed {
            self.counting.insert(step.session);
        } else if step.says.contains("DISCARD") || step.is_new_session() {
            self.counting.remove(&step.session);
        }
    }

    fn holds(&self, session: usize) -> bool {
        self.direct[session].status != b'I' || self.is_pinned(session)
    }

    fn is_pinned(&self, session: usize) -> bool {
        let door = self.twins.stage.postern().door();
        let seats = door.roster.seats();
        let seat = seats.iter().find(|seat| seat.id == self.seats[session]);
        seat.is_some_and(|seat| !seat.pins().is_empty())
    }

    fn newest_seat(&self) -> u64 {
        let door = self.twins.stage.postern().door();
        door.roster.seats().iter().map(|seat| seat.id).max().unwrap()
    }

    fn counts(&self) -> postern::pool::ledger::Counts {
        self.twins.stage.postern().door().slots.counts()[0].counts
    }

    /// Waits until Postern has done what it does behind a statement of this
    /// session, so that what can run does not depend on who is faster.
    fn settle(&self, session: usize) {
        if self.is_pinned(session) {
            std::thread::sleep(SECOND_LOOK);
        }
        soon("every connection to be held or idle", || {
            let holding = (0..self.pooled.len()).filter(|session| self.holds(*session)).count();
            let counts = self.counts();
            counts.busy as usize == holding && counts.opening + counts.closing == 0
        });
    }

    /// The sessions are over, and so are the connections of the pool: nothing
    /// is left for the next program.
    pub fn leave(mut self) {
        for session in self.direct.iter_mut().chain(&mut self.pooled) {
            session.leave();
        }
        let door = self.twins.stage.postern().door();
        soon("every client to be gone", || door.roster.is_empty());
        soon("every connection to be closed", || {
            for (_, slots) in door.slots.by_service() {
                slots.close_idle(|_| true);
            }
            self.counts().used() == 0
        });
    }
}

/// Looks often: it is waited for thousands of times.
fn soon(what: &str, check: impl Fn() -> bool) {
    for _ in 0..100 {
        if check() {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    eventually(what, check);
}

impl Mismatch {
    fn at(mut self, at: String) -> Self {
        if self.at.is_empty() {
            self.at = at;
        }
        self
    }
}

//! What a client has sent and has no answer to, as far as it decides how the
//! literals of its statements are read.
//!
//! PostgreSQL reads a literal when its statement is prepared, and reports the
//! settings by which it does so with `ReadyForQuery`: behind whatever may have
//! changed them in between, nobody knows how (decision record 0021).

use std::sync::Arc;

use super::client_state::ClientState;
use crate::state::PinReason;
use crate::state::reports::Reports;

/// What decides how literals are read, and is not answered yet: before it is,
/// nobody knows how they are read behind it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unanswered {
    /// What is run.
    pub run: Running,
    /// Named statements with literals are prepared behind that.
    pub named_literals: bool,
    /// The unnamed one is, if it has any.
    pub unnamed_literals: bool,
}

/// What something that is run may do to how literals are read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Running {
    /// Nothing is run.
    #[default]
    Nothing,
    /// Nothing that is known before the server tells.
    Something,
    /// It may change that.
    ChangesReading,
}

impl ClientState {
    /// A statement is prepared that has literals. Where nobody knows how they
    /// are read, a named one holds the client to the connection that has read
    /// them; the unnamed one is not brought to another.
    pub fn prepares_literals(&mut self, is_named: bool) {
        let Unanswered { run, named_literals, unnamed_literals } = &mut self.unanswered;
        // What is run behind it changes nothing for it.
        let behind = *run > Running::Nothing;
        *(if is_named { named_literals } else { unnamed_literals }) |= behind;
        if *run == Running::ChangesReading {
            self.have_read_unseen();
        }
    }

    /// Something is run.
    pub fn runs(&mut self) {
        self.unanswered.run = self.unanswered.run.max(Running::Something);
    }

    /// The settings by which literals are read may have changed before those
    /// statements were prepared that are not answered.
    pub(super) fn have_read_unseen(&mut self) {
        if std::mem::take(&mut self.unanswered.named_literals) {
            self.pins.insert(PinReason::Unparsed);
        }
        if std::mem::take(&mut self.unanswered.unnamed_literals)
            && let Some(statement) = &mut self.statements.unnamed
        {
            *statement = Arc::new(statement.unseen());
        }
    }

    /// The settings by which its statements' literals are read, if anybody knows.
    #[must_use]
    pub fn reading(&self) -> Option<&Reports> {
        (self.unanswered.run < Running::ChangesReading).then_some(&self.reports)
    }
}

//! What a client of the transaction endpoint has, that decides what is sent
//! for it: its settings, its prepared statements, why it keeps its connection.

use std::sync::Arc;

use bytes::Bytes;

use super::unanswered::{Running, Unanswered};
use crate::state::audit::fingerprint;
use crate::state::reading::{Question, Reply, Unclear};
use crate::state::reports::Reports;
use crate::state::routines::catalog::Known;
use crate::state::schema::Change;
use crate::state::statements::{ClientStatements, Meaning, hash};
use crate::state::{
    Carried, Company, Look, PinReason, Pins, Sequences, Touched, look, wants_database_alone,
};
use crate::wire::request::split_string;

const APPLICATION_NAME: &str = "application_name";

/// Everything about the state of one client's session.
#[derive(Debug)]
pub struct ClientState {
    /// A number of its own.
    pub id: u64,
    /// Its named statements.
    pub statements: ClientStatements,
    /// How many unnamed statements it had before.
    pub unnamed_count: u64,
    /// The reported settings as it believes them.
    pub reports: Reports,
    /// The other settings that it has set, as of the last look at the server.
    pub carried: Carried,
    /// What may have changed since.
    pub doubts: Doubts,
    /// Why it keeps its connection.
    pub pins: Pins,
    /// The backends that it has had, by their process ids.
    pub servers: Company,
    /// What its connection knows of sequences.
    pub sequences: Sequences,
    /// The command that it has said, for which PostgreSQL wants a database to
    /// itself.
    pub wants_database: Option<Arc<[u8]>>,
    /// The group of a simple query that is DISCARD ALL and nothing else.
    pub discarding: Option<u64>,
    /// Names of its statements that are on the server because SQL speaks of
    /// them.
    pub borrowed: Vec<Bytes>,
    /// The same, where SQL may have the name itself: whether it was lent shows
    /// in the answer, and until then it is not taken back.
    pub perhaps_borrowed: Vec<Bytes>,
    /// What a run of the statements may do that SQL has prepared: nobody looks
    /// which of them it is.
    pub prepared: Option<Box<Look>>,
    /// The routines of its database that do something to the session, as of its
    /// last transaction; none: there are none.
    pub routines: Option<Arc<Known>>,
    /// What its statements mean.
    pub meaning: Meaning,
    /// The `application_name` that it began with, where that is not what its
    /// connections begin with.
    pub first_name: Option<Bytes>,
    /// What the service refuses.
    pub unwanted: Pins,
    /// What was refused since somebody looked.
    pub refused: Pins,
    /// The last text, in so many letters; none: no audit asks for it.
    pub fingerprint: Option<String>,
    /// PostgreSQL did not take the settings that it carries.
    pub is_refused: bool,
    /// `application_name` has gone back to what the connection began with.
    pub name_reset: bool,
    /// What it has sent and has no answer to.
    pub unanswered: Unanswered,
    /// Its transactions that ended since somebody counted them.
    pub transactions: u32,
}

/// What may have changed since the last look at the server.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Settings.
    pub touched: Touched,
    /// A pin has come, or may have gone.
    pub pins_moved: bool,
    /// Something failed or was rolled back.
    pub undone: bool,
    /// The schema, by a transaction that is not over.
    pub schema: Option<Change>,
}

impl ClientState {
    /// A client that has said nothing yet.
    #[must_use]
    pub fn new(id: u64) -> Self {
        let own = hash(&[b"client", &id.to_be_bytes()]);
        Self {
            id,
            statements: ClientStatements::default(),
            unnamed_count: 0,
            reports: Reports::default(),
            carried: Carried::default(),
            doubts: Doubts::default(),
            pins: Pins::NONE,
            servers: Company::default(),
            sequences: Sequences::Own,
            wants_database: None,
            discarding: None,
            borrowed: Vec::new(),
            perhaps_borrowed: Vec::new(),
            prepared: None,
            routines: None,
            meaning: Meaning { own, ..Meaning::default() },
            first_name: None,
            unwanted: Pins::NONE,
            refused: Pins::NONE,
            fingerprint: None,
            is_refused: false,
            name_reset: false,
            unanswered: Unanswered::default(),
            transactions: 0,
        }
    }

    /// What a text of this client may do. Where its bytes are not the
    /// characters that they look like, it may do anything.
    #[must_use]
    pub fn look(&self, text: &[u8]) -> Look {
        let mut found = look(text, self.reports.has_standard_strings());
        if !text.is_ascii() && self.reports.mixes_ascii() {
            found.pins.insert(PinReason::Unparsed);
        }
        if let Some(known) = &self.routines {
            known.routines.look(text, &mut found);
        }
        found
    }

    /// The text is about to be prepared or run: perhaps it wants a database to
    /// itself.
    pub fn note_database_command(&mut self, text: &[u8]) {
        if wants_database_alone(text) {
            self.wants_database = Some(text.into());
        }
    }

    /// Tells the routines by which texts are looked at from others.
    #[must_use]
    pub fn routines_version(&self) -> u128 {
        self.routines.as_ref().map_or(0, |known| known.routines.version())
    }

    /// What a statement does is looked at again where other routines were known
    /// when it was prepared.
    pub fn look_again(&mut self, name: &[u8]) {
        let version = self.routines_version();
        let statement = self.statements.find(name).filter(|found| found.routines != version);
        if let Some(statement) = statement.cloned() {
            let text = split_string(&statement.definition).map_or(&b""[..], |(text, _)| text);
            let look = self.look(text);
            let look = (!look.is_without_effect()).then(|| Box::new(look));
            self.statements.replace(name, statement.looked_at(look, version));
        }
    }

    /// SQL runs the statement of this name.
    pub fn expect_execute(&mut self, name: &[u8]) {
        self.look_again(name);
        let look = match self.statements.get(name) {
            Some(statement) => statement.look.clone(),
            None => self.prepared.clone(),
        };
        if let Some(run) = look {
            let mut look = Look::NOTHING;
            look.join(&run);
            self.expect(&look);
        }
    }

    /// A text is about to be run that may do this.
    pub fn expect(&mut self, look: &Look) {
        if look.pins.contains(PinReason::SqlPrepare) {
            self.prepared.get_or_insert_default().join(look);
        }
        if look.changes_reading {
            self.unanswered.run = Running::ChangesReading;
        }
        self.pins |= look.pins;
        self.doubts.pins_moved |= !look.pins.is_empty() || !look.ends.among(self.pins).is_empty();
        if !look.touched.is_nothing() {
            if !self.doubts.touched.extend(&look.touched) {
                self.pins.insert(PinReason::Setting);
            }
            self.meaning.is_unsettled = true;
            self.name_reset = look.touched.name_reset && self.first_name.is_some();
        }
    }

    /// The kind of state that a text would make and that the service refuses.
    pub fn refusal(&mut self, look: &Look) -> Option<PinReason> {
        let unwanted = look.pins.among(self.unwanted);
        self.refused |= unwanted;
        unwanted.iter().next()
    }

    /// A text is about to be run: its fingerprint is kept for an audit.
    pub fn note_text(&mut self, text: &[u8]) {
        if let Some(print) = &mut self.fingerprint {
            *print = fingerprint(text, self.reports.has_standard_strings());
        }
    }

    /// A setting of this name may change, if anybody knows the name.
    pub fn touch_named(&mut self, name: Option<&[u8]>) {
        let mut look = Look::NOTHING;
        match name {
            Some(name) => look.sets(name),
            None => look.pins.insert(PinReason::Setting),
        }
        self.expect(&look);
    }

    /// The reported settings have changed.
    pub fn reported(&mut self, reports: &Reports) {
        if reports.reading() != self.reports.reading() {
            self.have_read_unseen();
        }
        self.reports = reports.clone();
        let reading = reports.reading();
        let parts = reading.iter().flat_map(|value| [&value[..], b"\0"]).collect::<Vec<_>>();
        self.meaning.literals = hash(&parts);
    }

    /// Whether the server must be asked before the connection can go on to
    /// another client.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        self.doubts.pins_moved || self.pins.is_empty() && !self.doubts.touched.is_nothing()
    }

    /// What to ask.
    #[must_use]
    pub fn question(&self) -> Question {
        Question::new(&self.carried, &self.doubts.touched, self.pins, self.doubts.undone)
    }

    /// The server has answered by this row, or has not answered.
    pub fn settle(&mut self, question: &Question, row: Option<&[u8]>) {
        let nothing = Reply { carried: self.carried.clone(), pins: Pins::NONE };
        let reply = match row {
            Some(row) => question.reply(row, &self.carried),
            None if question.is_empty() => Ok(nothing),
            None => Err(Unclear),
        };
        let Ok(reply) = reply else {
            self.pins.insert(PinReason::Setting);
            self.doubts.pins_moved = false;
            return;
        };
        self.pins = self.pins.except(question.pins()) | reply.pins;
        if !self.pins.contains(PinReason::SqlPrepare) {
            self.prepared = None;
        }
        if self.doubts.touched.all_reset && !self.doubts.undone {
            // Whatever it was, it is as it began.
            self.pins = self.pins.except(PinReason::Setting.into());
        }
        self.carry(reply.carried);
        self.forget_doubts();
    }

    /// The connection is lost. What its last transactions did to settings went
    /// with them, or is as unknown as they are; only where the client was told
    /// that all went well is something lost that it relies on.
    pub fn lose_connection(&mut self, all_went_well: bool) {
        self.borrowed.clear();
        self.perhaps_borrowed.clear();
        self.unanswered = Unanswered::default();
        if all_went_well && !self.doubts.touched.is_nothing() {
            self.pins.insert(PinReason::Setting);
        }
        self.forget_doubts();
    }

    fn forget_doubts(&mut self) {
        self.doubts = Doubts::default();
        self.meaning.is_unsettled = self.pins.contains(PinReason::Setting);
    }

    /// The settings to make true for a client whose next message begins so:
    /// its own, and where PostgreSQL has refused those, what is left of them
    /// when the message itself gives others a value.
    #[must_use]
    pub fn wanted(&self, bytes: &[u8]) -> Carried {
        let text = bytes.get(5..).filter(|_| self.is_refused && bytes[0] == b'Q');
        let text = text.and_then(|text| text.iter().position(|b| *b == 0).map(|end| &text[..end]));
        let Some(text) = text else { return self.carried.clone() };
        self.carried.without(&self.look(text).touched)
    }

    /// The `application_name` to be put back: the client's own, where a reset
    /// has taken it to what the connection began with.
    pub fn lost_name(&mut self, began: &Reports) -> Option<Bytes> {
        let reset = std::mem::take(&mut self.name_reset);
        let is_lost = reset && self.reports.get(APPLICATION_NAME) == began.get(APPLICATION_NAME);
        self.first_name.clone().filter(|_| is_lost)
    }

    /// These are its settings now.
    pub fn carry(&mut self, carried: Carried) {
        let names = carried.meaning();
        self.meaning.names = if names.is_empty() { Default::default() } else { hash(&[&names]) };
        if makes_temporary(&carried) {
            self.pins.insert(PinReason::TemporaryObject);
        }
        self.carried = carried;
    }
}

/// Whether objects without a schema may be temporary ones, so that no text
/// tells when one is made.
fn makes_temporary(carried: &Carried) -> bool {
    let path = carried.value(b"search_path").map(|path| path.to_ascii_lowercase());
    path.is_some_and(|path| path.windows(7).any(|name| name == b"pg_temp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_whose_bytes_are_not_characters_pins() {
        // A character of SJIS whose second byte looks like a backslash.
        let text = b"SELECT '\x95\x5c', 'SET x = 1'";
        let mut client = ClientState::new(1);
        assert!(client.look(text).pins.is_empty());
        client.reports.set("client_encoding", Bytes::from_static(b"SJIS"));
        assert_eq!(client.look(text).pins, PinReason::Unparsed.into());
        assert!(client.look(b"SELECT 'ascii'").pins.is_empty());
    }
}

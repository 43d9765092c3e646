//! What the server still owes for the messages that were rewritten, added or
//! left out: so that the client hears exactly what it asked for.
//!
//! A Parse of a statement that the server has already is sent as a Close of
//! one that no server has: its answer comes at the right place, is skipped
//! after an error as the Parse's would have been, and is turned into
//! `ParseComplete` on its way to the client.
//!
//! Every entry belongs to the group of messages between two `ReadyForQuery`.
//! After an error the server skips the rest of the group, so what its entries
//! meant to do to the lists of statements has not happened, and is undone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::refusal::Answer;
use crate::state::schema::SchemaAge;
use crate::state::statements::{
    ClientStatements, ServerStatements, Statement, StatementId, Unnamed,
};

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The client hears it.
    Forward,
    /// The client did not ask.
    Swallow,
    /// The client hears `ParseComplete` for it.
    AsParsed,
}

/// One answer that is owed.
#[derive(Debug)]
pub enum Owed {
    /// `ParseComplete`.
    Parsed {
        /// What becomes of it.
        reply: Reply,
        /// The statement that is on the server with it.
        on_server: Option<StatementId>,
        /// The name that is the client's with it.
        named: Option<Bytes>,
        /// Whether it is about the unnamed statement.
        unnamed: bool,
    },
    /// `ParseComplete`, for a statement that is there under the client's own
    /// name for SQL to speak of, where SQL may have taken that name.
    Lent(Bytes),
    /// `ParseComplete`, for the client's own unnamed statement.
    Unnamed {
        /// Which message of a batch it is.
        number: u64,
        /// The one that it takes the place of, unless it is skipped.
        before: Option<Arc<Statement>>,
    },
    /// `CloseComplete`.
    Closed {
        /// What becomes of it.
        reply: Reply,
        /// The statement that is gone from the server with it.
        from_server: Option<StatementId>,
        /// The name that is the client's with it.
        named: Option<Bytes>,
        /// The name that is not the client's any more with it; that of the
        /// unnamed statement is empty.
        forgotten: Option<(Bytes, Arc<Statement>)>,
        /// Whether it is about the unnamed statement.
        unnamed: bool,
    },
    /// The answer to a Bind or an Execute that the client did not ask for.
    Aside {
        /// Which message of a batch it is.
        number: u64,
    },
    /// An error, in whose place the client hears this one.
    Error(Box<Answer>),
}

impl Owed {
    /// `ParseComplete` for what Postern prepares for a moment: the client hears
    /// nothing, and no list changes.
    pub const PARSED_ASIDE: Self =
        Self::Parsed { reply: Reply::Swallow, on_server: None, named: None, unnamed: false };

    /// `CloseComplete` for the same.
    pub const CLOSED_ASIDE: Self = Self::Closed {
        reply: Reply::Swallow,
        from_server: None,
        named: None,
        forgotten: None,
        unnamed: false,
    };
}

#[derive(Debug)]
struct Entry {
    group: u64,
    /// Where it stands among all that was pushed.
    number: u64,
    owed: Owed,
}

/// A group that the client did not ask for.
#[derive(Debug)]
struct Silent {
    group: u64,
    is_vital: bool,
}

/// All that is owed, in order.
#[derive(Debug, Default)]
pub struct Expected {
    entries: VecDeque<Entry>,
    /// Groups of which the client hears nothing.
    silent: VecDeque<Silent>,
    /// What SQL is about to take away.
    deallocated: VecDeque<Deallocated>,
    /// Groups in which SQL is about to take all statements off the server.
    emptied: VecDeque<u64>,
    /// Names under which nothing was lent after all.
    not_lent: Vec<Bytes>,
    /// How much was pushed so far.
    pushed: u64,
}

/// A statement of the protocol that is its client's no more once SQL has said
/// that it is gone.
#[derive(Debug)]
struct Deallocated {
    group: u64,
    number: u64,
    name: Bytes,
    statement: Arc<Statement>,
}

impl Expected {
    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.silent.is_empty()
    }

    /// Whether nothing is owed of which something else may depend.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.entries.is_empty() && self.deallocated.is_empty() && self.emptied.is_empty()
    }

    /// Something more is owed.
    pub fn push(&mut self, group: u64, owed: Owed) {
        let number = self.next_number();
        self.entries.push_back(Entry { group, number, owed });
    }

    fn next_number(&mut self) -> u64 {
        self.pushed += 1;
        self.pushed
    }

    /// A number for the next thing that is pushed, which nothing before had.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The names under which nothing was lent, because it was skipped or refused.
    pub fn take_not_lent(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.not_lent)
    }

    /// SQL of this group takes a statement away.
    pub fn deallocate(&mut self, group: u64, name: Bytes, statement: Arc<Statement>) {
        let number = self.next_number();
        self.deallocated.push_back(Deallocated { group, number, name, statement });
    }

    /// SQL of this group takes all statements off the server.
    pub fn empty(&mut self, group: u64) {
        self.emptied.push_back(group);
    }

    /// Whether it was foreseen that SQL of this group would do so.
    #[must_use]
    pub fn is_emptied(&self, answering: u64) -> bool {
        self.emptied.contains(&answering)
    }

    /// SQL of this group has taken a statement away.
    pub fn deallocated(&mut self, answering: u64) {
        let _ = self.next_deallocated(answering);
    }

    /// SQL of this group has taken all statements away.
    pub fn deallocated_all(&mut self, answering: u64) {
        while self.next_deallocated(answering).is_some() {}
    }

    fn next_deallocated(&mut self, answering: u64) -> Option<Deallocated> {
        pop_up_to(&mut self.deallocated, answering, |gone| gone.group)
    }

    /// The client hears nothing of this group.
    pub fn silence(&mut self, group: u64) {
        self.silent.push_back(Silent { group, is_vital: false });
    }

    /// The client hears nothing of this group, and what it sends behind it
    /// means something else if the group fails.
    pub fn silence_vital(&mut self, group: u64) {
        self.silent.push_back(Silent { group, is_vital: true });
    }

    /// Whether the group that is being answered must not fail.
    #[must_use]
    pub fn is_vital(&self) -> bool {
        self.silent.front().is_some_and(|silent| silent.is_vital)
    }

    /// Whether the client waits for the answer to this group.
    #[must_use]
    pub fn hears(&self, group: u64) -> bool {
        self.silent.iter().all(|silent| silent.group != group)
    }

    /// The connection is gone: what was still to be answered has not happened.
    pub fn break_off(&mut self, client: &mut ClientStatements) {
        let mut server = ServerStatements::new(1, SchemaAge::default());
        self.failed(u64::MAX, u64::MAX, client, &mut server);
        *self = Self::default();
    }

    /// Whether the client hears nothing of the group that is being answered.
    #[must_use]
    pub fn is_silent(&self, answering: u64) -> bool {
        self.silent.front().is_some_and(|silent| silent.group == answering)
    }

    /// `ParseComplete` or `CloseComplete` has come: what becomes of it.
    pub fn completed(&mut self) -> Reply {
        match self.entries.pop_front().map(|entry| entry.owed) {
            Some(Owed::Parsed { reply, .. } | Owed::Closed { reply, .. }) => reply,
            Some(Owed::Lent(_)) => Reply::Swallow,
            Some(Owed::Unnamed { .. } | Owed::Aside { .. } | Owed::Error(_)) | None => {
                Reply::Forward
            }
        }
    }

    /// A message of this type has come, that answers a Bind or an Execute or
    /// comes before its answer; the server answers this message of a batch next.
    /// Whether it is none of the client's.
    pub fn is_aside(&mut self, kind: u8, next: u64) -> bool {
        let Some(Entry { owed: Owed::Aside { number }, .. }) = self.entries.front() else {
            return false;
        };
        if matches!(kind, b'2' | b'C') {
            let is_answer = number + 1 == next;
            return is_answer && self.entries.pop_front().is_some();
        }
        matches!(kind, b'N' | b'S') && *number == next
    }

    /// Whether it is open, until an earlier group than this one is answered, if
    /// a statement of the client's is on the server: what was sent to bring it
    /// there may be skipped or refused, and then another's may be there, or one
    /// that the client has closed.
    #[must_use]
    pub fn is_open(&self, group: u64, name: &[u8], id: Option<&StatementId>) -> bool {
        let is_this = |other: Option<&Bytes>| other.is_some_and(|other| other == name);
        let concerns = |entry: &&Entry| match &entry.owed {
            Owed::Parsed { unnamed, .. } | Owed::Closed { unnamed, .. } if name.is_empty() => {
                *unnamed
            }
            Owed::Unnamed { .. } => name.is_empty(),
            // Where the client's own Parse fails, the server says of what is
            // bound behind it that it is not there, as it must.
            Owed::Parsed { on_server, named, .. } => {
                id.is_some() && named.is_none() && on_server.as_ref() == id
            }
            Owed::Closed { named, forgotten, .. } => {
                is_this(named.as_ref()) || is_this(forgotten.as_ref().map(|(name, _)| name))
            }
            Owed::Lent(_) | Owed::Aside { .. } | Owed::Error(_) => false,
        };
        let last = self.entries.iter().rev().find(concerns);
        last.is_some_and(|entry| entry.group < group)
            || !name.is_empty() && self.is_taken_away_before(group, name)
    }

    /// Whether it is open in the same way if a name is the client's.
    #[must_use]
    pub fn is_name_open(&self, group: u64, name: &[u8]) -> bool {
        let names = |entry: &&Entry| match &entry.owed {
            Owed::Parsed { named, .. } => named.as_ref().is_some_and(|named| named == name),
            _ => false,
        };
        let last = self.entries.iter().rev().find(names);
        last.is_some_and(|entry| entry.group < group) || self.is_open(group, name, None)
    }

    /// Whether SQL of an earlier group may have taken this name away.
    fn is_taken_away_before(&self, group: u64, name: &[u8]) -> bool {
        self.deallocated.iter().any(|gone| gone.group < group && gone.name == name)
            || self.emptied.iter().any(|emptied| *emptied < group)
    }

    /// An error has come, about this message of a batch: the rest of its group is
    /// skipped, and undone from its end. Returns the answer that takes its
    /// place, if there is one.
    pub fn failed(
        &mut self,
        answering: u64,
        message: u64,
        client: &mut ClientStatements,
        server: &mut ServerStatements,
    ) -> Option<Box<Answer>> {
        let mut skipped = Vec::new();
        while let Some(entry) = pop_up_to(&mut self.entries, answering, |entry| entry.group) {
            skipped.push(entry);
        }
        let mut kept = Vec::new();
        while let Some(gone) = self.next_deallocated(answering) {
            kept.push(gone);
        }
        let mut answer = None;
        while let Some(Entry { number, owed, .. }) = skipped.pop() {
            while let Some(gone) = kept.pop_if(|gone| gone.number > number) {
                gone.give_back(client);
            }
            match owed {
                Owed::Error(instead) if skipped.is_empty() => answer = Some(instead),
                // PostgreSQL throws the last one away before it looks at the text.
                Owed::Unnamed { number, .. } if number == message => {
                    server.unnamed = Some(SOMEBODYS);
                    client.unnamed = None;
                }
                Owed::Lent(name) => self.not_lent.push(name),
                owed => undo(owed, client, server),
            }
        }
        kept.into_iter().rev().for_each(|gone| gone.give_back(client));
        let was_emptied = pop_up_to(&mut self.emptied, answering, |group| *group).is_some();
        if was_emptied && self.emptied.is_empty() {
            server.trust_named();
        }
        answer
    }

    /// `ReadyForQuery` has come for a group. What SQL was to take away and has
    /// not, because it was not run, is still there.
    pub fn ready(&mut self, group: u64, client: &mut ClientStatements) {
        while let Some(gone) = self.next_deallocated(group) {
            gone.give_back(client);
        }
        while pop_up_to(&mut self.emptied, group, |emptied| *emptied).is_some() {}
        if self.is_silent(group) {
            self.silent.pop_front();
        }
    }

    /// The server has swallowed Syncs: groups behind the one being answered
    /// move up.
    pub fn move_up(&mut self, answering: u64, by: u64) {
        let groups = self.entries.iter_mut().map(|entry| &mut entry.group);
        let silent = self.silent.iter_mut().map(|silent| &mut silent.group);
        let deallocated = self.deallocated.iter_mut().map(|gone| &mut gone.group);
        for group in groups.chain(silent).chain(deallocated).chain(&mut self.emptied) {
            if *group > answering {
                *group = (*group - by).max(answering);
            }
        }
    }
}

/// Takes off the front what belongs to this group or to one before it.
fn pop_up_to<T>(queue: &mut VecDeque<T>, group: u64, group_of: fn(&T) -> u64) -> Option<T> {
    if group_of(queue.front()?) <= group { queue.pop_front() } else { None }
}

impl Deallocated {
    /// It is there after all.
    fn give_back(self, client: &mut ClientStatements) {
        if client.get(&self.name).is_none() {
            // It was there a moment ago, so there is room for it.
            let _ = client.insert(self.name, self.statement);
        }
    }
}

/// The unnamed statement on the server may be anybody's: nobody takes it for
/// his own.
const SOMEBODYS: Unnamed = (u64::MAX, u64::MAX);

fn undo(owed: Owed, client: &mut ClientStatements, server: &mut ServerStatements) {
    match owed {
        Owed::Unnamed { before, .. } => {
            server.unnamed = Some(SOMEBODYS);
            client.unnamed = before;
        }
        Owed::Parsed { on_server, named, unnamed, .. } => {
            if unnamed {
                server.unnamed = Some(SOMEBODYS);
            }
            if let Some(id) = on_server {
                server.remove(&id);
            }
            if let Some(name) = named {
                client.fail(name);
            }
        }
        Owed::Closed { from_server, named, forgotten, unnamed, .. } => {
            if unnamed {
                server.unnamed = Some(SOMEBODYS);
            }
            if let Some(id) = from_server {
                server.restore(id);
            }
            if let Some(name) = named {
                client.fail(name);
            }
            match forgotten {
                Some((name, statement)) if name.is_empty() => client.unnamed = Some(statement),
                Some((name, statement)) => {
                    // It was there a moment ago, so there is room for it.
                    let _ = client.insert(name, statement);
                }
                None => {}
            }
        }
        Owed::Lent(_) | Owed::Aside { .. } | Owed::Error(_) => {}
    }
}

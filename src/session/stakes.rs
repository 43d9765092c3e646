//! What is at stake in a conversation: what of that which was sent, and not
//! answered, may have been committed (decision 33).
//!
//! Every group of messages up to its `ReadyForQuery` is kept as a `Course`:
//! a table that says, for each state a transaction may be in when the group
//! begins, in which state it ends and whether something may have been
//! committed on the way. So the question is answered from the state that the
//! server last told, whatever the client sent ahead.
//!
//! Groups are numbered as [`Conversation`] numbers them. Statements that
//! control transactions are remembered by the names that they were prepared
//! under; hardly any client prepares one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::state::transactions::{Step, each_step};
use crate::wire::conversation::{Conversation, TransactionStatus};
use crate::wire::frame::{HEADER, Head, declared_length};
use TransactionStatus::{Failed, Idle, InBlock};

/// Groups that are kept apart; with more under way nothing is known of any.
const MAX_GROUPS: usize = 4096;
/// Names of prepared statements and portals that are remembered.
const MAX_NAMES: usize = 64;

/// What a group does to a transaction, by the state in which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course([Leg; 3]);

/// The same for one such state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leg {
    after: TransactionStatus,
    /// Something may be committed at once.
    commits: bool,
    /// Something may be committed when the group ends.
    commits_at_end: bool,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    number: u64,
    course: Course,
    /// A simple query of so many statements.
    statements: Option<u32>,
}

/// What is under way, from the group that the server is answering on.
#[derive(Debug, Default)]
pub struct Stakes {
    groups: VecDeque<Group>,
    /// More was sent than is kept apart.
    overflown: bool,
    /// `CommandComplete`s of the group that is being answered.
    completed: u32,
    /// Its error was read.
    failed: bool,
    statements: Names,
    portals: Names,
}

/// What statements or portals of these names do, where it is not
/// [`Step::Other`].
#[derive(Debug, Default)]
struct Names {
    known: Vec<(Bytes, Step)>,
    overflown: bool,
}

/// What would have become of everything under way if the connection were lost
/// now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    /// Something may have been committed that was not confirmed.
    pub unknown: bool,
    /// What is owed for each group whose end was sent.
    pub groups: Vec<Owing>,
    /// A batch was begun whose end was not sent: whether the client was told
    /// of an error in it.
    pub unsynced: Option<bool>,
    /// The state after all of it, as the client sees it.
    pub after: TransactionStatus,
}

/// What a client is owed for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owing {
    /// The group's number.
    pub number: u64,
    /// Its outcome was told, only `ReadyForQuery` was not.
    pub told: bool,
    /// The state that it would have ended in.
    pub after: TransactionStatus,
}

impl Stakes {
    /// The message that `bytes` begin with is sent as part of group `number`.
    #[inline]
    pub fn sent(&mut self, number: u64, bytes: &[u8]) {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return };
        let length = u32::try_from(declared_length(*header)).unwrap_or(u32::MAX);
        let head = Head { kind: header[0], length: length.saturating_sub(4), first: 0 };
        self.sent_with(number, head, &bytes[HEADER..]);
    }

    /// A message is sent as part of group `number`; `rest` is what is there
    /// behind its header.
    #[inline]
    pub fn sent_with(&mut self, number: u64, head: Head, rest: &[u8]) {
        if matches!(head.kind, b'Q' | b'P' | b'B' | b'E' | b'F') {
            let body = &rest[..rest.len().min(head.length as usize)];
            // Of a Bind or an Execute the names are enough.
            let is_seen = body.len() == head.length as usize || matches!(head.kind, b'B' | b'E');
            self.take(number, head.kind, is_seen.then_some(body));
        }
    }

    /// Another server connection is the client's, or none.
    pub fn begin(&mut self) {
        self.groups.clear();
        self.portals = Names::default();
        (self.overflown, self.completed, self.failed) = (false, 0, false);
    }

    fn take(&mut self, number: u64, kind: u8, body: Option<&[u8]>) {
        match kind {
            b'Q' => self.query(number, body),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'E' => {
                let step = self.portals.step(body.and_then(first_string));
                self.group(number).course.take(step);
            }
            b'F' => self.group(number).course.take(Step::Other),
            _ => {}
        }
    }

    /// The server has sent a message of this kind in its answer to group
    /// `number`; it has swallowed so many Syncs, and answers this group next.
    #[inline]
    pub fn heard(&mut self, number: u64, kind: u8, swallowed: u64, next: u64) {
        if swallowed > 0 {
            self.move_up(number, swallowed);
        }
        match kind {
            b'C' | b'I' => self.completed += 1,
            b'E' => self.failed = true,
            b'Z' => self.ready(next),
            _ => {}
        }
    }

    fn ready(&mut self, answering: u64) {
        (self.completed, self.failed) = (0, false);
        while self.groups.front().is_some_and(|group| group.number < answering) {
            self.groups.pop_front();
        }
        self.overflown &= !self.groups.is_empty();
    }

    /// Groups behind the one that is being answered move up.
    fn move_up(&mut self, answering: u64, by: u64) {
        for group in self.groups.iter_mut().filter(|group| group.number > answering) {
            group.number = group.number.saturating_sub(by).max(answering);
        }
    }

    /// What would be known if the connection were lost now.
    #[must_use]
    pub fn prospect(&self, conversation: &Conversation) -> Prospect {
        let (answering, sent) = (conversation.answering(), conversation.group());
        let mut prospect = Prospect {
            unknown: self.overflown,
            groups: Vec::new(),
            unsynced: None,
            after: conversation.status(),
        };
        for number in answering..sent {
            let told = number == answering && self.is_told(number);
            self.pass(number, told, true, &mut prospect);
            prospect.groups.push(Owing { number, told, after: prospect.after });
        }
        if conversation.is_unsynced() {
            let failed = sent == answering && self.failed;
            self.pass(sent, failed, false, &mut prospect);
            prospect.unsynced = Some(failed);
        }
        prospect
    }

    /// Whether the outcome of the group that is being answered was read.
    fn is_told(&self, number: u64) -> bool {
        let statements = self.at(number).map(|group| group.statements).next().flatten();
        self.failed || statements.is_some_and(|all| all > 0 && self.completed >= all)
    }

    fn pass(&self, number: u64, told: bool, ended: bool, prospect: &mut Prospect) {
        if told && self.failed {
            prospect.after = if prospect.after == Idle { Idle } else { Failed };
            return;
        }
        for group in self.at(number) {
            let leg = group.course.leg(prospect.after);
            prospect.unknown |= !told && (leg.commits || (ended && leg.commits_at_end));
            prospect.after = leg.after;
        }
    }

    fn at(&self, number: u64) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.number == number)
    }

    fn query(&mut self, number: u64, body: Option<&[u8]>) {
        let group = self.group(number);
        let first = group.statements.is_none() && group.course == Course::NONE;
        let mut statements = 0;
        match body.and_then(|body| body.strip_suffix(b"\0")) {
            Some(text) => each_step(text, |step| {
                group.course.take(step);
                statements += 1;
            }),
            None => group.course.take(Step::Unread),
        }
        group.statements = first.then_some(statements);
        // It ends the unnamed statement and every unnamed portal.
        self.statements.set(b"", Step::Other);
        self.portals.set(b"", Step::Other);
    }

    fn parse(&mut self, body: Option<&[u8]>) {
        let parts = body.and_then(|body| {
            let name = first_string(body)?;
            Some((name, first_string(&body[name.len() + 1..])?))
        });
        let Some((name, text)) = parts else {
            self.statements.overflown = true;
            return;
        };
        let mut step = Step::Other;
        each_step(text, |found| step = found);
        self.statements.set(name, step);
    }

    fn bind(&mut self, body: Option<&[u8]>) {
        let names = body.and_then(|body| {
            let portal = first_string(body)?;
            Some((portal, first_string(&body[portal.len() + 1..])?))
        });
        match names {
            Some((portal, statement)) => {
                let step = self.statements.step(Some(statement));
                self.portals.set(portal, step);
            }
            None => self.portals.overflown = true,
        }
    }

    /// The group of this number, which is the last.
    fn group(&mut self, number: u64) -> &mut Group {
        let known = self.groups.back().is_some_and(|last| last.number == number);
        self.overflown |= !known && self.groups.len() >= MAX_GROUPS;
        if !known && self.groups.len() < MAX_GROUPS {
            if self.groups.capacity() == 0 {
                // Few clients ever have two under way.
                self.groups.reserve_exact(1);
            }
            self.groups.push_back(Group { number, course: Course::NONE, statements: None });
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }
}

impl Names {
    fn step(&self, name: Option<&[u8]>) -> Step {
        let known = self.known.iter().find(|(known, _)| Some(&known[..]) == name);
        match known {
            Some((_, step)) => *step,
            None if self.overflown || name.is_none() => Step::Unread,
            None => Step::Other,
        }
    }

    fn set(&mut self, name: &[u8], step: Step) {
        self.known.retain(|(known, _)| known != name);
        if step == Step::Other {
            return;
        }
        self.overflown |= self.known.len() >= MAX_NAMES;
        if self.known.len() < MAX_NAMES {
            self.known.push((Bytes::copy_from_slice(name), step));
        }
    }
}

fn first_string(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(&bytes[..end])
}

impl Course {
    /// Nothing happens.
    const NONE: Self = Self([Leg::staying(Idle), Leg::staying(InBlock), Leg::staying(Failed)]);

    fn leg(&self, before: TransactionStatus) -> Leg {
        self.0[before as usize]
    }

    /// One more statement.
    fn take(&mut self, step: Step) {
        for leg in &mut self.0 {
            let next = Leg::of(step, leg.after);
            leg.after = next.after;
            leg.commits |= next.commits;
            leg.commits_at_end |= next.commits_at_end;
        }
    }
}

impl Leg {
    const fn staying(status: TransactionStatus) -> Self {
        Self { after: status, commits: false, commits_at_end: false }
    }

    /// What one statement does in this state.
    fn of(step: Step, before: TransactionStatus) -> Self {
        let to = |after| Self { after, ..Self::staying(before) };
        let commit = |after| Self { after, commits: true, ..Self::staying(before) };
        match (step, before) {
            (Step::Begin, Idle | InBlock)
            | (Step::RollbackToSavepoint | Step::RollbackAndChain, InBlock | Failed)
            | (Step::CommitAndChain, Failed)
            | (Step::Other | Step::Autonomous, InBlock) => to(InBlock),
            (Step::Commit | Step::PrepareTransaction, Idle | InBlock) => commit(Idle),
            (Step::CommitAndChain, InBlock) => commit(InBlock),
            (Step::Rollback, _) | (Step::Commit | Step::PrepareTransaction, Failed) => to(Idle),
            (Step::Autonomous, Idle) | (Step::Unread, _) => commit(before),
            (Step::Other, Idle) => Self { commits_at_end: true, ..Self::staying(Idle) },
            (Step::Other | Step::Autonomous | Step::Begin, Failed) => to(Failed),
            // Errors outside a block.
            (Step::CommitAndChain | Step::RollbackAndChain | Step::RollbackToSavepoint, Idle) => {
                to(Idle)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both directions, as a relay drives them.
    #[derive(Default)]
    struct Scene {
        conversation: Conversation,
        stakes: Stakes,
    }

    impl Scene {
        /// `Q text`, `P name text`, `B name`, `E`, `S`; from the server `<Z I`
        /// and the like.
        fn play(script: &[&str]) -> Self {
            let mut scene = Self::default();
            for line in script {
                match line.strip_prefix('<') {
                    Some(said) => scene.server(said.as_bytes()),
                    None => scene.client(line),
                }
            }
            scene
        }

        fn client(&mut self, line: &str) {
            let kind = line.as_bytes()[0];
            let rest = line[1..].strip_prefix(' ').unwrap_or_default();
            let body = match kind {
                b'Q' => format!("{rest}\0"),
                b'P' => format!("{}\0\0\0", rest.replacen(' ', "\0", 1)),
                b'B' => format!("\0{rest}\0\0\0\0\0\0\0"),
                b'E' => "\0\0\0\0\0".to_owned(),
                _ => String::new(),
            };
            let mut message = vec![kind];
            message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            message.extend(body.bytes());
            self.stakes.sent(self.conversation.group(), &message);
            self.conversation.from_client(kind);
        }

        fn server(&mut self, said: &[u8]) {
            let (kind, first) = (said[0], *said.last().unwrap());
            let answering = self.conversation.answering();
            let swallowed = self.conversation.from_server(Head { kind, length: 1, first });
            self.stakes.heard(answering, kind, swallowed, self.conversation.answering());
        }

        fn prospect(&self) -> Prospect {
            self.stakes.prospect(&self.conversation)
        }
    }

    /// Decision 33, row by row: the script, and whether its outcome is unknown.
    const ROWS: [(&[&str], bool); 34] = [
        // Nothing under way.
        (&[], false),
        (&["Q SELECT 1", "<C", "<Z I"], false),
        (&["Q BEGIN", "<C", "<Z T"], false),
        // A Query or Sync outside a block.
        (&["Q INSERT INTO t VALUES (1)"], true),
        (&["Q SELECT 1; SELECT 2"], true),
        (&["P  INSERT", "B ", "E", "S"], true),
        (&["P  INSERT", "B ", "E"], false),
        (&["P s INSERT", "S"], false),
        (&["F"], true),
        // It is known once its CommandComplete was read, if it is simple.
        (&["Q INSERT", "<C"], false),
        (&["Q INSERT; INSERT", "<C"], true),
        (&["P  INSERT", "B ", "E", "S", "<1", "<2", "<C"], true),
        // An error is an outcome.
        (&["Q INSERT", "<E"], false),
        (&["P  INSERT", "B ", "E", "S", "<E"], false),
        // A block.
        (&["Q BEGIN"], false),
        (&["Q BEGIN", "<C", "<Z T", "Q INSERT"], false),
        (&["Q BEGIN", "Q INSERT"], false),
        (&["P  BEGIN", "B ", "E", "P  INSERT", "B ", "E", "S"], false),
        (&["Q BEGIN; INSERT"], false),
        (&["Q BEGIN", "<C", "<Z T", "Q ROLLBACK"], false),
        (&["Q BEGIN", "<C", "<Z T", "Q CALL p()"], false),
        // Its end.
        (&["Q BEGIN", "<C", "<Z T", "Q COMMIT"], true),
        (&["Q BEGIN", "<C", "<Z T", "Q INSERT; end"], true),
        (&["Q BEGIN", "<C", "<Z T", "Q PREPARE TRANSACTION 'x'"], true),
        (&["Q BEGIN", "<C", "<Z T", "P  COMMIT", "B ", "E"], true),
        (&["P c COMMIT", "S", "<1", "<Z I", "Q BEGIN", "<C", "<Z T", "B c", "E", "S"], true),
        (&["Q BEGIN", "Q INSERT", "Q COMMIT"], true),
        (&["Q BEGIN", "<C", "<Z T", "Q COMMIT", "<C"], false),
        // In a failed block, COMMIT is ROLLBACK.
        (&["Q BEGIN", "<C", "<Z T", "Q BAD", "<E", "<Z E", "Q COMMIT"], false),
        (&["Q BEGIN", "<C", "<Z T", "Q BAD", "<E", "<Z E", "Q ROLLBACK TO a", "Q COMMIT"], true),
        // By themselves, outside a block.
        (&["Q COMMIT PREPARED 'x'"], true),
        (&["Q CALL p()"], true),
        (&["P  DO 'x'", "B ", "E"], true),
        // What was answered is not at stake any more.
        (&["Q COMMIT", "Q BEGIN", "Q INSERT", "<C", "<Z I", "<C", "<Z T"], false),
    ];

    #[test]
    fn what_may_have_been_committed_is_unknown_and_nothing_else() {
        for (script, unknown) in ROWS {
            assert_eq!(Scene::play(script).prospect().unknown, unknown, "{script:?}");
        }
    }

    #[test]
    fn every_group_is_owed_its_end() {
        let owed = |script: &[&str]| {
            let prospect = Scene::play(script).prospect();
            let groups = prospect.groups.iter().map(|group| (group.told, group.after));
            (groups.collect::<Vec<_>>(), prospect.unsynced, prospect.after)
        };
        assert_eq!(owed(&[]), (vec![], None, Idle));
        assert_eq!(
            owed(&["Q BEGIN", "<C", "<Z T", "Q A", "Q COMMIT", "P  X", "B ", "E"]),
            (vec![(false, InBlock), (false, Idle)], Some(false), Idle)
        );
        assert_eq!(owed(&["Q A", "<C", "Q B"]), (vec![(true, Idle), (false, Idle)], None, Idle));
        assert_eq!(
            owed(&["Q BEGIN", "<C", "<Z T", "P  X", "B ", "<E"]),
            (vec![], Some(true), Failed)
        );
    }

    #[test]
    fn a_message_that_is_not_seen_whole_may_do_anything() {
        for kind in [b'Q', b'P', b'B', b'E'] {
            let mut scene = Scene::play(&["Q BEGIN", "<C", "<Z T"]);
            scene.stakes.take(1, kind, None);
            scene.conversation.from_client(kind);
            for line in ["B ", "E", "S"] {
                scene.client(line);
            }
            assert!(scene.prospect().unknown, "{}", char::from(kind));
        }
    }

    #[test]
    fn more_than_is_kept_apart_is_unknown_until_all_of_it_is_answered() {
        let mut scene = Scene::play(&["Q BEGIN", "<C", "<Z T"]);
        for _ in 0..=MAX_GROUPS {
            scene.client("Q A");
        }
        assert!(scene.prospect().unknown);
        for _ in 0..=MAX_GROUPS {
            scene.server(b"C");
            scene.server(b"ZT");
        }
        scene.client("Q A");
        assert!(!scene.prospect().unknown);
    }

    #[test]
    fn names_that_control_transactions_are_bounded() {
        let mut scene = Scene::default();
        for n in 0..=MAX_NAMES {
            scene.client(&format!("P c{n} COMMIT"));
        }
        assert_eq!(scene.stakes.statements.known.len(), MAX_NAMES);
        assert_eq!(scene.stakes.statements.step(Some(b"unheard of")), Step::Unread);
    }
}

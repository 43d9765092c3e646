//! Prepared statements of the protocol: what a client has prepared, and what
//! is prepared on a server (decision 26).
//!
//! A named statement has one name on all servers, made from everything that
//! decides what it means; so a connection that has it once has it for all
//! clients of its pool. The unnamed statement belongs to its client: a server
//! remembers whose it has.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::literals::{are_read_at_once, may_be_there};
use super::look::Look;
use super::reports::Reports;
use super::schema::SchemaAge;

/// Begins every shared name.
pub const SHARED_PREFIX: &str = "postern_";
/// Names one client may have at most.
const MAX_NAMES: usize = 10_000;
/// Bytes of text that one client may have prepared at most.
const MAX_BYTES: usize = 16 << 20;

/// What a shared statement is known by.
pub type StatementId = [u8; 16];

/// A statement that a client has prepared.
#[derive(Debug)]
pub struct Statement {
    /// What it is known by where nothing but its text decides what it means.
    id: StatementId,
    /// The rest of its Parse message behind the name: text, parameter types.
    pub definition: Bytes,
    /// What a run of it may do to the session, if anything.
    pub look: Option<Box<Look>>,
    /// By which version of the routines that is known; as [`Self::new`] makes
    /// it, by none.
    pub routines: u128,
    /// The settings by which its literals were read when it was prepared; `None`
    /// if it has none.
    literals: Option<Reports>,
    /// Nobody knows that for certain.
    is_unseen: bool,
}

/// What decides what the statements of a client mean, besides their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meaning {
    /// How literals are read now, of which [`Reports::reading`] tells.
    pub literals: StatementId,
    /// How names are found now; nothing where all is as the connection began.
    pub names: StatementId,
    /// Sets the statements of one client apart from those of all others.
    pub own: StatementId,
    /// Nobody knows for certain how names are found now.
    pub is_unsettled: bool,
}

/// Whose a statement is on a server, besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Everybody's who has prepared the same.
    Everybody,
    /// One client's.
    Client,
    /// One client's, and none that it has prepared or will prepare is the same.
    Once(u64),
}

impl Statement {
    /// A statement with this definition, prepared while `meaning` holds, after
    /// so many changes of the schema; the owner sets it apart from equal ones of
    /// others for good.
    #[must_use]
    pub fn new(
        definition: &[u8],
        meaning: &Meaning,
        reports: &Reports,
        schema: u64,
        owner: Owner,
        look: Option<Box<Look>>,
    ) -> Self {
        let length = (definition.len() as u64).to_be_bytes();
        let literals = may_be_there(definition).then(|| reports.clone());
        let is_unseen = matches!(owner, Owner::Once(_));
        let owner = match owner {
            Owner::Everybody => StatementId::default(),
            Owner::Client => meaning.own,
            Owner::Once(number) => hash(&[&meaning.own, &number.to_be_bytes()]),
        };
        let read = if literals.is_some() { meaning.literals } else { StatementId::default() };
        let schema = schema.to_be_bytes();
        let id = hash(&[&length, definition, &read, &owner, &schema]);
        let definition = Bytes::copy_from_slice(definition);
        Self { id, definition, look, routines: 0, literals, is_unseen }
    }

    /// The same statement, of which another look says what it does.
    #[must_use]
    pub fn looked_at(&self, look: Option<Box<Look>>, routines: u128) -> Self {
        let (definition, literals) = (self.definition.clone(), self.literals.clone());
        Self { definition, look, routines, literals, ..*self }
    }

    /// The same statement, of which it turned out that nobody knows how its
    /// literals were read.
    #[must_use]
    pub fn unseen(&self) -> Self {
        Self { is_unseen: true, ..self.looked_at(self.look.clone(), self.routines) }
    }

    /// Whether nobody knows how its literals were read.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.is_unseen && self.has_literals()
    }

    /// What it is known by on a server now. Where it would be prepared with
    /// another meaning than the one that others expect under its name, it has
    /// a name of this client alone.
    #[must_use]
    pub fn id(&self, now: &Meaning) -> StatementId {
        let id = mixed(self.id, now.names);
        if now.is_unsettled { mixed(id, now.own) } else { id }
    }

    /// Whether there may be literals in it that are read when it is prepared.
    #[must_use]
    pub fn has_literals(&self) -> bool {
        self.literals.is_some() && are_read_at_once(&self.definition)
    }

    /// The settings by which its literals are to be read wherever it is prepared
    /// again, where those differ from the client's settings now or nobody knows
    /// these: PostgreSQL reads them once, and whoever has prepared it relies on
    /// that.
    #[must_use]
    pub fn read_by(&self, now: Option<&Reports>) -> Option<&Reports> {
        let differs = |then: &&Reports| now.is_none_or(|now| then.reading() != now.reading());
        self.literals.as_ref().filter(differs).filter(|_| self.has_literals())
    }
}

/// The first bytes of what the parts hash to.
///
/// # Panics
/// Never: SHA-256 has the bytes that are taken of it.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> StatementId {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref()[..16].try_into().expect("SHA-256 is longer")
}

/// Both are hashes, or nothing.
fn mixed(one: StatementId, other: StatementId) -> StatementId {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// The name of a shared statement.
#[must_use]
pub fn shared_name(id: &StatementId) -> String {
    use std::fmt::Write as _;
    let mut name = String::with_capacity(SHARED_PREFIX.len() + 32);
    name.push_str(SHARED_PREFIX);
    for byte in id {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The shared name that a message of the server's speaks of: where it stands,
/// and what it is the name of.
#[must_use]
pub fn find_shared_name(text: &[u8]) -> Option<(Range<usize>, StatementId)> {
    let prefix = SHARED_PREFIX.as_bytes();
    let start = text.windows(prefix.len()).position(|piece| piece == prefix)?;
    let end = start + prefix.len() + 2 * size_of::<StatementId>();
    let digits = std::str::from_utf8(text.get(start + prefix.len()..end)?).ok()?;
    let id = u128::from_str_radix(digits, 16).ok()?;
    Some((start..end, id.to_be_bytes()))
}

/// A client has prepared more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The statements that one client has prepared, by its own names.
#[derive(Debug, Default)]
pub struct ClientStatements {
    by_name: HashMap<Bytes, Arc<Statement>>,
    bytes: usize,
    /// The last that came to nothing: what was sent behind it speaks of it.
    failed: Option<(Bytes, Arc<Statement>)>,
    /// Its unnamed statement, if it has one.
    pub unnamed: Option<Arc<Statement>>,
}

impl ClientStatements {
    /// The statement of this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.by_name.get(name)
    }

    /// A name of what is known by this on a server now.
    #[must_use]
    pub fn name_of(&self, id: &StatementId, now: &Meaning) -> Option<&Bytes> {
        let failed = self.failed.iter().map(|(name, statement)| (name, statement));
        let mut named = self.by_name.iter().chain(failed);
        named.find(|(_, statement)| statement.id(now) == *id).map(|(name, _)| name)
    }

    /// A statement could not be prepared.
    pub fn fail(&mut self, name: Bytes) {
        self.failed = self.remove(&name).map(|statement| (name, statement));
    }

    /// The statement of this name, the unnamed one among them.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.get(name) }
    }

    /// Remembers a statement; the name must be free.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn insert(&mut self, name: Bytes, statement: Arc<Statement>) -> Result<(), TooMany> {
        let bytes = self.bytes + name.len() + statement.definition.len();
        if self.by_name.len() >= MAX_NAMES || bytes > MAX_BYTES {
            return Err(TooMany);
        }
        self.bytes = bytes;
        self.by_name.insert(name, statement);
        Ok(())
    }

    /// Something else is known now of the statement of this name.
    pub fn replace(&mut self, name: &[u8], statement: Statement) {
        let place =
            if name.is_empty() { self.unnamed.as_mut() } else { self.by_name.get_mut(name) };
        if let Some(place) = place {
            *place = Arc::new(statement);
        }
    }

    /// Forgets a statement.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.by_name.remove(name)?;
        self.bytes -= name.len() + statement.definition.len();
        if self.by_name.is_empty() {
            self.by_name = HashMap::new();
        }
        Some(statement)
    }

    /// Takes away all that have a name.
    pub fn take_named(&mut self) -> impl Iterator<Item = (Bytes, Arc<Statement>)> {
        self.bytes = 0;
        std::mem::take(&mut self.by_name).into_iter()
    }

    /// Forgets all that have a name.
    pub fn clear(&mut self) {
        drop(self.take_named());
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Whose unnamed statement a server has: a client's number, and how many it
/// had prepared before.
pub type Unnamed = (u64, u64);

/// The statements on one server connection.
#[derive(Debug)]
pub struct ServerStatements {
    there: HashMap<StatementId, Use>,
    uses: u64,
    most: usize,
    /// Whose unnamed statement is there.
    pub unnamed: Option<Unnamed>,
    /// How old the schema of its node is.
    pub schema: SchemaAge,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    /// When it was last used, in uses.
    at: u64,
    state: Fitness,
}

/// Whether a statement that is there can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Fit,
    /// Not before it is known whether SQL has thrown it away.
    Doubted,
    /// It must be prepared again before that.
    Stale,
}

impl ServerStatements {
    /// An empty connection that may keep this many, to a node whose schema is as
    /// old as this says.
    #[must_use]
    pub fn new(most: usize, schema: SchemaAge) -> Self {
        Self { there: HashMap::new(), uses: 0, most: most.max(1), unnamed: None, schema }
    }

    /// It may keep this many from now on.
    pub fn keep_at_most(&mut self, most: usize) {
        self.most = most.max(1);
    }

    /// Whether a statement is there to be used; counts as a use of it.
    pub fn uses(&mut self, id: &StatementId) -> bool {
        self.uses += 1;
        match self.there.get_mut(id) {
            Some(Use { at, state: Fitness::Fit }) => {
                *at = self.uses;
                true
            }
            _ => false,
        }
    }

    /// A statement is being prepared there.
    pub fn insert(&mut self, id: StatementId) {
        self.uses += 1;
        self.there.insert(id, Use { at: self.uses, state: Fitness::Fit });
    }

    /// A statement is there after all, in whatever state.
    pub fn restore(&mut self, id: StatementId) {
        self.there.insert(id, Use { at: self.uses, state: Fitness::Stale });
    }

    /// A statement is not there, or not any more. Says whether it was.
    pub fn remove(&mut self, id: &StatementId) -> bool {
        self.there.remove(id).is_some()
    }

    /// A statement to close before one more is prepared: the one that was not
    /// used for longest. To be asked until there is none.
    pub fn evict(&mut self) -> Option<StatementId> {
        if self.there.len() < self.most {
            return None;
        }
        let oldest = self.there.iter().min_by_key(|(_, last)| last.at).map(|(id, _)| *id)?;
        self.there.remove(&oldest);
        Some(oldest)
    }

    /// What is there under a name must be prepared again before it is used.
    pub fn spoil_named(&mut self) {
        self.there.values_mut().for_each(|last| last.state = Fitness::Stale);
    }

    /// SQL is about to throw away what is there under a name.
    pub fn doubt_named(&mut self) {
        self.change(Fitness::Fit, Fitness::Doubted);
    }

    /// It has not.
    pub fn trust_named(&mut self) {
        self.change(Fitness::Doubted, Fitness::Fit);
    }

    fn change(&mut self, from: Fitness, to: Fitness) {
        let those = self.there.values_mut().filter(|last| last.state == from);
        those.for_each(|last| last.state = to);
    }

    /// It has: nothing is there any more but what was prepared since.
    pub fn forget_doubted(&mut self) {
        self.there.retain(|_, last| last.state == Fitness::Fit);
    }

    /// Nothing is there any more.
    pub fn clear(&mut self) {
        self.there.clear();
        self.unnamed = None;
    }

    /// All that are there.
    pub fn ids(&self) -> impl Iterator<Item = &StatementId> {
        self.there.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.there.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A statement with this definition.
    fn named(definition: &[u8]) -> Statement {
        prepared(definition, &Meaning::default(), &Reports::default())
    }

    fn prepared(definition: &[u8], meaning: &Meaning, reports: &Reports) -> Statement {
        Statement::new(definition, meaning, reports, 0, Owner::Everybody, None)
    }

    #[test]
    fn a_shared_name_is_found_in_a_message() {
        let id = hash(&[b"x"]);
        let text = format!("statement \"{}\" requires 1", shared_name(&id));
        assert_eq!(find_shared_name(text.as_bytes()), Some((11..51, id)));
        for text in ["", "postern_", "postern_none", "postern_\"x\" and so on, for long enough"] {
            assert_eq!(find_shared_name(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn d11_equal_definitions_share_a_name_and_others_do_not() {
        let german = Meaning { literals: [1; 16], ..Meaning::default() };
        let other = Meaning { own: [2; 16], ..Meaning::default() };
        let id = |definition: &[u8], meaning: &Meaning, owner| {
            Statement::new(definition, meaning, &Reports::default(), 0, owner, None).id(meaning)
        };
        let (text, plain) = (b"SELECT $1, ''\0\0\x01\0\0\0\x17", &Meaning::default());
        assert_eq!(id(text, plain, Owner::Everybody), id(text, plain, Owner::Everybody));
        assert_eq!(id(text, plain, Owner::Everybody), id(text, &other, Owner::Everybody));
        assert_ne!(id(text, plain, Owner::Everybody), id(text, &german, Owner::Everybody));
        assert_ne!(
            id(text, plain, Owner::Everybody),
            id(b"SELECT $1, ''\0\0\x01\0\0\0\x19", plain, Owner::Everybody)
        );
        assert_ne!(id(text, plain, Owner::Everybody), id(text, &other, Owner::Client));
        assert_ne!(id(text, &other, Owner::Client), id(text, &other, Owner::Once(1)));
        assert_ne!(id(text, &other, Owner::Once(1)), id(text, &other, Owner::Once(2)));
    }

    #[test]
    fn d11_a_statement_follows_the_search_path_and_is_nobodys_while_it_is_open() {
        let plain = Meaning { own: [2; 16], ..Meaning::default() };
        let tenant = Meaning { names: [4; 16], ..plain };
        let open = Meaning { is_unsettled: true, ..plain };
        let german = Meaning { literals: [1; 16], ..plain };
        let statement = prepared(b"SELECT 'x'\0\0\0", &plain, &Reports::default());
        let ids = [plain, tenant, open].map(|meaning| statement.id(&meaning));
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
        assert_eq!(statement.id(&plain), statement.id(&german));
        assert_ne!(
            statement.id(&plain),
            prepared(b"SELECT 'x'\0\0\0", &german, &Reports::default()).id(&german)
        );
    }

    #[test]
    fn d11_literals_are_read_as_they_were_first() {
        let mut german = Reports::default();
        german.set("DateStyle", Bytes::from_static(b"German, DMY"));
        let mut named_otherwise = Reports::default();
        named_otherwise.set("application_name", Bytes::from_static(b"x"));
        let date = named(b"SELECT date '02/03/2024'\0\0\0");
        assert_eq!(date.read_by(Some(&german)), Some(&Reports::default()));
        assert_eq!(date.read_by(Some(&named_otherwise)), None);
        assert_eq!(named(b"SELECT 1\0\0\0").read_by(Some(&german)), None);
        let alone = named(b"CREATE INDEX CONCURRENTLY ON t (n) WHERE d < '02/03/2024'");
        assert_eq!(alone.read_by(Some(&german)), None);
    }

    #[test]
    fn d12_the_least_recently_used_is_evicted() {
        let mut server = ServerStatements::new(2, SchemaAge::default());
        let [a, b, c] = [[1; 16], [2; 16], [3; 16]];
        server.insert(a);
        server.insert(b);
        assert!(server.uses(&a));
        assert_eq!(server.evict(), Some(b));
        server.insert(c);
        assert!(server.uses(&a) && server.uses(&c) && !server.uses(&b));
    }

    #[test]
    fn a_clients_statements_are_bounded() {
        let mut client = ClientStatements::default();
        let statement = Arc::new(named(&vec![b'x'; 1 << 20]));
        for n in 0..15u8 {
            client.insert(Bytes::from(vec![n]), Arc::clone(&statement)).unwrap();
        }
        assert_eq!(client.insert(Bytes::from_static(b"p"), Arc::clone(&statement)), Err(TooMany));
        client.remove(&[0]);
        client.insert(Bytes::from_static(b"p"), statement).unwrap();
        client.clear();
        assert!(client.is_empty() && client.bytes == 0);
    }
}

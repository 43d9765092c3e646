//! Prepared statements of the protocol: what a client has prepared, and what
//! is prepared on a server (decision 26).
//!
//! A named statement has one name on all servers, made from everything that
//! decides what it means; so a connection that has it once has it for all
//! clients of its pool. The unnamed statement belongs to its client: a server
//! remembers whose it has.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

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
    /// What it is known by.
    pub id: StatementId,
    /// The rest of its Parse message behind the name: text, parameter types.
    pub definition: Bytes,
}

impl Statement {
    /// A statement with this definition, in this reading of literals; `owner`
    /// sets it apart from equal ones of other clients.
    ///
    /// # Panics
    /// Never: SHA-256 has the bytes that are taken of it.
    #[must_use]
    pub fn new(definition: &[u8], reading: &[u8], owner: Option<u64>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(definition.len() as u64).to_be_bytes());
        context.update(definition);
        context.update(reading);
        if let Some(owner) = owner {
            context.update(&owner.to_be_bytes());
        }
        let hash = context.finish();
        let id = hash.as_ref()[..16].try_into().expect("SHA-256 is longer");
        Self { id, definition: Bytes::copy_from_slice(definition) }
    }

    /// Its name on every server.
    #[must_use]
    pub fn shared_name(&self) -> String {
        shared_name(&self.id)
    }
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

/// A client has prepared more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The statements that one client has prepared, by its own names.
#[derive(Debug, Default)]
pub struct ClientStatements {
    by_name: HashMap<Bytes, Arc<Statement>>,
    bytes: usize,
    /// The rest of the Parse message of its unnamed statement, if it has one.
    pub unnamed: Option<Bytes>,
}

impl ClientStatements {
    /// The statement of this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.by_name.get(name)
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

    /// Forgets a statement.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.by_name.remove(name)?;
        self.bytes -= name.len() + statement.definition.len();
        if self.by_name.is_empty() {
            self.by_name = HashMap::new();
        }
        Some(statement)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
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
    /// When each was last used, in uses.
    used: HashMap<StatementId, u64>,
    uses: u64,
    most: usize,
    /// Whose unnamed statement is there.
    pub unnamed: Option<Unnamed>,
}

impl ServerStatements {
    /// An empty connection that may keep this many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { used: HashMap::new(), uses: 0, most: most.max(1), unnamed: None }
    }

    /// Whether a statement is there; counts as a use of it.
    pub fn uses(&mut self, id: &StatementId) -> bool {
        self.uses += 1;
        match self.used.get_mut(id) {
            Some(used) => {
                *used = self.uses;
                true
            }
            None => false,
        }
    }

    /// A statement is being prepared there.
    pub fn insert(&mut self, id: StatementId) {
        self.uses += 1;
        self.used.insert(id, self.uses);
    }

    /// A statement is not there, or not any more.
    pub fn remove(&mut self, id: &StatementId) {
        self.used.remove(id);
    }

    /// The statement to close before one more is prepared: the one that was
    /// not used for longest.
    pub fn evict(&mut self) -> Option<StatementId> {
        if self.used.len() < self.most {
            return None;
        }
        let oldest = self.used.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id)?;
        self.used.remove(&oldest);
        Some(oldest)
    }

    /// What is there under a name is of no use any more.
    pub fn clear_named(&mut self) {
        self.used.clear();
    }

    /// Nothing is there any more.
    pub fn clear(&mut self) {
        self.used.clear();
        self.unnamed = None;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_equal_definitions_share_a_name_and_others_do_not() {
        let id = |definition: &[u8], reading: &[u8], owner| {
            Statement::new(definition, reading, owner).id
        };
        let text = b"SELECT $1\0\0\x01\0\0\0\x17";
        assert_eq!(id(text, b"ISO", None), id(text, b"ISO", None));
        assert_ne!(id(text, b"ISO", None), id(text, b"German", None));
        assert_ne!(id(text, b"ISO", None), id(b"SELECT $1\0\0\x01\0\0\0\x19", b"ISO", None));
        assert_ne!(id(text, b"ISO", None), id(text, b"ISO", Some(1)));
    }

    #[test]
    fn d12_the_least_recently_used_is_evicted() {
        let mut server = ServerStatements::new(2);
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
        let statement = Arc::new(Statement::new(&vec![b'x'; 1 << 20], b"", None));
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

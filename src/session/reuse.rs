//! `session_reuse`: the connection of a session that has ended well serves the
//! next one with the same database, role, credential and startup parameters.
//!
//! ```text
//! login ─▶ likeness ─▶ session ─ Terminate ─▶ reset ─▶ the same? ─▶ idle
//!              ▲                  (kept back)            │ no
//!              └──────────── next session ◀──────────────┴─▶ the closer
//! ```
//!
//! What the reset does not end is looked for in the texts that the client sends
//! ([`outlasts_discard`](crate::state::Look::outlasts_discard)); whatever is not
//! seen whole counts as found. Such a connection, and one whose session ended in
//! any other way, is closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::attempt::{Attempt, Failure, Target};
use super::door::random;
use crate::auth::client::Keys;
use crate::auth::credential::Credential;
use crate::pool::keeper::is_silent;
use crate::pool::ledger::PoolId;
use crate::pool::slots::Grant;
use crate::pool::{Greeting, NodeSlots, Origin, PoolKey, PooledServer, ServerConnection};
use crate::state::look;
use crate::state::reports::Reports;
use crate::upstream::LoggedIn;
use crate::upstream::reset::Likeness;
use crate::wire::frame::Head;
use crate::wire::request::split_string;

/// How long a server may take for a reset, or to show itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A session's server connection.
#[allow(clippy::large_enum_variant, reason = "it stands in its session, which is boxed")]
pub enum Lent {
    /// It ends with the session.
    Own(ServerConnection),
    /// It may serve another session.
    Reusable(Box<PooledServer>),
}

impl Lent {
    /// The connection.
    pub fn server(&mut self) -> &mut ServerConnection {
        match self {
            Self::Own(server) => server,
            Self::Reusable(server) => server.server(),
        }
    }

    /// What has to be watched if it may serve another session.
    #[must_use]
    pub fn watch(&self) -> Option<Box<Watch>> {
        match self {
            Self::Own(_) => None,
            Self::Reusable(server) => Some(Box::new(Watch::new(server.first_reports.clone()))),
        }
    }

    /// The server has closed: its slot is free.
    pub fn closed(self) {
        match self {
            Self::Own(server) => server.closed(),
            Self::Reusable(server) => server.closed(),
        }
    }

    /// Resets it for the next session, without the one that has ended.
    pub fn recycle(self) {
        if let Self::Reusable(mut server) = self {
            server.slot().closing();
            tokio::spawn(restore(server));
        }
    }
}

/// Gives a connection back if nothing is left on it; otherwise the closer sees
/// to it.
async fn restore(mut server: Box<PooledServer>) {
    let tenure = Arc::clone(&server.server().lead().tenure);
    let Some((origin, connection)) = server.origin() else { return };
    let restoring = timeout(ANSWER_WITHIN, origin.likeness.restore(connection.connection()));
    let restored = tokio::select! {
        biased;
        () = tenure.ended() => return,
        restored = restoring => restored,
    };
    connection.set_busy(restored.is_err());
    if matches!(restored, Ok(Ok(true))) {
        server.slot().busy();
        server.give_back();
    }
}

/// A connection for a session, and what the server says to its client: one that
/// another session has had, if the service wants that and there is one.
///
/// # Errors
/// As those of [`Attempt::session_slot`] and [`Attempt::open`].
pub async fn obtain(
    attempt: &Attempt<'_>,
    keys: &Arc<Keys>,
    Target { service, lead, guarded }: Target,
) -> Result<(Lent, BytesMut), Failure> {
    let replicates = attempt.parameters.iter().any(|(name, _)| name == "replication");
    if replicates || !lead.node.pooling.session_reuse {
        let slot = attempt.session_slot(&service, &lead.node).await?;
        let (server, logged_in) = attempt.open(&lead, guarded, slot).await?;
        return Ok((Lent::Own(server), logged_in.greeting));
    }
    let slots = attempt.door.slots.of(&lead.node);
    let key = PoolKey::of_sessions(attempt.parameters, Credential::of_keys(keys)).guarded(guarded);
    let (pool, _keys) = slots.pool(&key, keys);
    loop {
        match attempt.session_grant(&service, &lead.node, pool).await? {
            Grant::Slot(slot) => {
                let opened = attempt.open(&lead, guarded, slot).await?;
                return Ok(examine(opened, &slots, pool).await);
            }
            Grant::Connection(server) => {
                if let Some(revived) = revive(server).await {
                    return Ok(revived);
                }
            }
        }
    }
}

/// Takes the likeness of a new connection, if it can be used again.
async fn examine(
    (mut server, LoggedIn { greeting, .. }): (ServerConnection, LoggedIn),
    slots: &NodeSlots,
    pool: PoolId,
) -> (Lent, BytesMut) {
    let taken = timeout(ANSWER_WITHIN, Likeness::take(server.connection(), &greeting)).await;
    let Ok(Ok(Some(likeness))) = taken else { return (Lent::Own(server), greeting) };
    let messages = greeting.clone().freeze();
    let reports = Reports::from_messages(&messages);
    let tenure = Arc::clone(&server.lead().tenure);
    slots.greeted(pool, Greeting { messages: messages.clone(), reports, tenure });
    let origin = Origin { greeting: messages, likeness };
    let [random] = random::<1>();
    let jitter = 1.0 - f64::from(random) / 2560.0;
    (Lent::Reusable(PooledServer::of_session(server, pool, origin, jitter)), greeting)
}

/// A connection that was idle, if a new login would be told the same.
async fn revive(mut server: Box<PooledServer>) -> Option<(Lent, BytesMut)> {
    if !is_silent(&mut server) {
        return None;
    }
    server.come_here();
    let (origin, connection) = server.origin()?;
    let compared = timeout(ANSWER_WITHIN, origin.likeness.is_true(connection.connection())).await;
    let greeting = BytesMut::from(&origin.greeting[..]);
    matches!(compared, Ok(Ok(true))).then_some((Lent::Reusable(server), greeting))
}

/// Watches a session for what the reset of its connection would leave.
#[derive(Debug)]
pub struct Watch {
    reports: Reports,
    stained: bool,
    left: bool,
}

impl Watch {
    fn new(reports: Reports) -> Self {
        Self { reports, stained: false, left: false }
    }

    /// Whether the client has said Terminate while nothing was open, and left
    /// nothing that stays.
    #[must_use]
    pub fn has_left_clean(&self) -> bool {
        self.left
    }

    /// The client says Terminate while nothing is open. Returns whether that is
    /// kept from the server.
    pub fn leave(&mut self) -> bool {
        self.left = !self.stained;
        self.left
    }

    /// The client sends a message; `rest` is what is there behind its header.
    pub fn sent(&mut self, head: Head, rest: &[u8]) {
        if !matches!(head.kind, b'Q' | b'P' | b'F') || self.stained {
            return;
        }
        let text = match (head.kind, rest.get(..head.length as usize)) {
            (b'Q', Some(body)) => split_string(body),
            (b'P', Some(body)) => split_string(body).and_then(|(_, rest)| split_string(rest)),
            _ => None,
        };
        self.stained = text.is_none_or(|(text, _)| self.stains(text));
    }

    /// The server sends a message.
    pub fn heard(&mut self, head: Head, rest: &[u8]) {
        if head.kind == b'S' {
            match rest.get(..head.length as usize) {
                Some(body) => _ = self.reports.take(body),
                None => self.stained = true,
            }
        }
    }

    fn stains(&self, text: &[u8]) -> bool {
        look(text, self.reports.has_standard_strings()).outlasts_discard()
            || !text.is_ascii() && self.reports.mixes_ascii()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn leaves(said: &[(u8, &[u8])]) -> bool {
        let mut watch = Watch::new(Reports::default());
        for (kind, body) in said {
            let length = u32::try_from(body.len()).unwrap();
            watch.sent(Head { kind: *kind, length, first: 0 }, body);
        }
        watch.leave()
    }

    #[test]
    fn what_the_reset_ends_does_not_stain() {
        assert!(leaves(&[
            (b'Q', b"SET TimeZone = 'UTC'; LISTEN a; PREPARE p AS SELECT 1\0"),
            (b'P', b"name\0SELECT pg_advisory_lock(1), currval('s')\0\0\0"),
            (b'B', b"anything"),
            (b'Q', b"SET ROLE other; SET LOCAL work_mem = '1MB'\0"),
            (b'Q', b"SELECT set_config('search_path', 'a', true)\0"),
        ]));
    }

    #[test]
    fn what_stays_stains_for_good() {
        let stains: [(u8, &[u8]); 12] = [
            (b'Q', b"LOAD 'auto_explain'\0"),
            (b'Q', b"SET my.tenant = 'a'\0"),
            (b'P', b"\0SELECT set_config('my.tenant', $1, false)\0\0\0"),
            (b'P', b"\0SELECT set_config($1, $2, false)\0\0\0"),
            (b'Q', b"SET LOCAL my.tenant = 'a'\0"),
            (b'Q', b"SELECT set_config('my.tenant', 'a', true)\0"),
            (b'Q', b"SELECT set_config(E'my\\056tenant', 'a', true)\0"),
            (b'Q', b"SELECT setseed(0.5)\0"),
            (b'Q', b"SELECT pg_replication_origin_session_setup('o')\0"),
            (b'Q', b"CREATE TEMP TABLE t ()\0"),
            (b'F', b"\0\0\0\0"),
            (b'Q', b"no end"),
        ];
        for stain in stains {
            let said = String::from_utf8_lossy(stain.1);
            assert!(!leaves(&[stain, (b'Q', b"SELECT 1\0")]), "{said}");
        }
        let mut watch = Watch::new(Reports::default());
        watch.sent(Head { kind: b'Q', length: 100, first: 0 }, b"SELECT half");
        assert!(!watch.leave());
    }

    #[test]
    fn texts_are_read_as_the_server_reads_them() {
        let text = b"SELECT 'a\\'; LOAD 'x'\0";
        let head =
            |kind, length: usize| Head { kind, length: length.try_into().unwrap(), first: 0 };
        for (value, clean) in [(&b"on"[..], false), (b"off", false)] {
            let mut watch = Watch::new(Reports::default());
            let body = [b"standard_conforming_strings\0", value, b"\0"].concat();
            watch.heard(head(b'S', body.len()), &body);
            watch.sent(head(b'Q', text.len()), text);
            assert_eq!(watch.leave(), clean);
        }
        let mut reports = Reports::default();
        reports.set("client_encoding", Bytes::from_static(b"SJIS"));
        let mut watch = Watch::new(reports);
        watch.sent(head(b'Q', 12), b"SELECT '\x83\x5c'\0");
        assert!(!watch.leave());
    }
}

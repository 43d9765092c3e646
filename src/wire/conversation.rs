//! What a client has asked for and the server has not finished answering.
//!
//! ```text
//! client:  Query ─┐  Parse Bind Execute Sync ─┐        Terminate
//! server:         └→ … ReadyForQuery          └→ … ReadyForQuery
//! ```
//!
//! Each Query, `FunctionCall` and Sync is answered by one `ReadyForQuery`, in
//! order; the exceptions are those of COPY FROM STDIN: from `CopyInResponse` to
//! the end of the data the server throws Syncs away, and it drops what is left
//! of the data after an error.
//!
//! Invariant: [`Conversation::is_idle`] is never true while the server still
//! owes an answer. The reverse may be late by one message, never wrong.

use std::collections::VecDeque;

use super::frame::Head;

/// The transaction status of the last `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    InBlock,
    /// In a transaction block that failed.
    Failed,
}

/// What the server answers with a `ReadyForQuery`, or what ends a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Messages of the extended protocol, each answered by one message.
    Batch,
    Query,
    Function,
    Sync,
    CopyEnd,
}

impl Request {
    /// Whether it is answered by a `ReadyForQuery`.
    fn is_group(self) -> bool {
        matches!(self, Self::Query | Self::Function | Self::Sync)
    }
}

/// How far a COPY has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Copy {
    #[default]
    No,
    /// The server waits for data, and swallows Syncs.
    In,
    /// Streaming replication: both directions carry data.
    Both { client_done: bool, server_done: bool },
}

/// Requests for which an idle conversation keeps the memory.
const KEPT: usize = 8;

/// Both directions of one session, looked at message by message.
#[derive(Debug, Default)]
pub struct Conversation {
    outstanding: VecDeque<(Request, u32)>,
    /// Messages of the extended protocol without a Sync behind them.
    unsynced: bool,
    /// The server throws everything away up to a Sync that is still to come.
    skipping: bool,
    copy: Copy,
    status: TransactionStatus,
    terminated: bool,
    /// Requests that were sent, but for those that were swallowed.
    sent: u64,
    /// Those of them that were answered.
    answered: u64,
    /// Messages of batches that were sent.
    batched: u64,
    /// Those of them that were answered or skipped.
    batched_before: u64,
    /// The one of them that the last error was about.
    failed: u64,
}

impl Conversation {
    /// A conversation whose server has just sent its first `ReadyForQuery`.
    #[must_use]
    pub fn after_login() -> Self {
        Self::default()
    }

    /// Begins anew, as [`after_login`](Self::after_login), with the memory that
    /// the last one needed, unless it was much.
    pub fn begin_again(&mut self) {
        let mut outstanding = std::mem::take(&mut self.outstanding);
        outstanding.clear();
        outstanding.shrink_to(KEPT);
        *self = Self { outstanding, ..Self::default() };
    }

    /// Nothing is owed, nothing is half asked, and no transaction is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_quiet() && self.status == TransactionStatus::Idle
    }

    /// Nothing is owed and nothing is half asked, perhaps inside a block.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.outstanding.is_empty() && !self.unsynced && self.copy == Copy::No
    }

    /// Whether the server takes the client's data, and nothing else of it.
    #[must_use]
    pub fn is_copying_in(&self) -> bool {
        self.copy == Copy::In
    }

    /// Whether the server may wait for more of the client, before it finishes
    /// what it has been asked for: the end of a batch, or of a COPY.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.copy == Copy::In || !self.outstanding.iter().any(|(request, _)| request.is_group())
    }

    /// The status of the last `ReadyForQuery`.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether a batch was begun and its Sync not sent.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// The number of requests sent so far, which is the number of the group
    /// that the next message belongs to.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.sent
    }

    /// The number of the group that the server is answering.
    #[must_use]
    pub fn answering(&self) -> u64 {
        self.answered
    }

    /// The number of the next message of a batch.
    #[must_use]
    pub fn next_batched(&self) -> u64 {
        self.batched
    }

    /// The number of the message of a batch that the server answers next.
    #[must_use]
    pub fn next_answered(&self) -> u64 {
        self.batched_before
    }

    /// The number of the message of a batch that the last error was about.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether the client has said Terminate.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// The client sends a message of this type.
    pub fn from_client(&mut self, kind: u8) {
        match kind {
            b'Q' | b'F' | b'P' | b'B' | b'E' | b'D' | b'C' | b'H' if self.skipping => {}
            b'Q' => self.expect(Request::Query),
            b'F' => self.expect(Request::Function),
            b'S' if self.copy == Copy::In => {}
            b'S' => {
                self.unsynced = false;
                self.skipping = false;
                self.expect(Request::Sync);
            }
            b'c' | b'f' => self.client_ends_copy(),
            b'P' | b'B' | b'E' | b'D' | b'C' => {
                self.unsynced = true;
                self.expect(Request::Batch);
            }
            b'H' => self.unsynced = true,
            b'X' => self.terminated = true,
            _ => {}
        }
    }

    /// The server sends a message. Returns how many Syncs it turns out to have
    /// swallowed: groups behind the current one move up by as many.
    pub fn from_server(&mut self, head: Head) -> u64 {
        let mut swallowed = 0;
        match head.kind {
            b'Z' => self.ready(head.first),
            b'G' => swallowed = self.copy_in_begins(),
            b'W' => self.copy = Copy::Both { client_done: false, server_done: false },
            b'c' => self.server_ends_copy(),
            b'E' => {
                self.copy = Copy::No;
                self.failed = self.batched_before;
                swallowed = self.skip_batch();
            }
            b'1' | b'2' | b'3' | b'n' | b'T' | b'C' | b'I' | b's' if self.answers_batch() => {
                self.batched_before += 1;
                self.pop();
            }
            _ => {}
        }
        swallowed
    }

    fn expect(&mut self, request: Request) {
        self.sent += u64::from(request.is_group());
        self.batched += u64::from(request == Request::Batch);
        match self.outstanding.back_mut() {
            Some((last, count)) if *last == request => *count += 1,
            _ => self.outstanding.push_back((request, 1)),
        }
    }

    fn ready(&mut self, status: u8) {
        self.status = match status {
            b'T' => TransactionStatus::InBlock,
            b'E' => TransactionStatus::Failed,
            _ => TransactionStatus::Idle,
        };
        self.copy = Copy::No;
        self.drop_leading(|request| !request.is_group());
        self.answered += u64::from(!self.outstanding.is_empty());
        self.pop();
        self.drop_leading(|request| request == Request::CopyEnd);
    }

    fn pop(&mut self) {
        if let Some((_, count)) = self.outstanding.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.outstanding.pop_front();
            }
        }
    }

    /// What is left of a batch, or of a copy that failed or was never begun,
    /// is thrown away.
    fn drop_leading(&mut self, dropped: impl Fn(Request) -> bool) {
        while let Some((request, count)) = self.outstanding.front()
            && dropped(*request)
        {
            self.batched_before += u64::from(*count) * u64::from(*request == Request::Batch);
            self.outstanding.pop_front();
        }
    }

    fn answers_batch(&self) -> bool {
        matches!(self.outstanding.front(), Some((Request::Batch, _)))
    }

    /// An error in a batch: the server skips everything up to the next Sync,
    /// simple queries among it. Returns how many groups are never answered.
    fn skip_batch(&mut self) -> u64 {
        if !self.answers_batch() {
            return 0;
        }
        let mut skipped = 0;
        while let Some((request, count)) = self.outstanding.front()
            && *request != Request::Sync
        {
            skipped += if request.is_group() { u64::from(*count) } else { 0 };
            self.batched_before += u64::from(*count) * u64::from(*request == Request::Batch);
            self.outstanding.pop_front();
        }
        self.sent -= skipped;
        self.skipping = self.outstanding.is_empty();
        skipped
    }

    /// The server begins to take data. The Syncs that were sent already,
    /// before the data's end, are swallowed as if they had never been sent; if
    /// that end was sent too, the copy is over as far as the client goes.
    fn copy_in_begins(&mut self) -> u64 {
        let asked_by_query = matches!(self.outstanding.front(), Some((Request::Query, _)));
        let first = usize::from(!self.outstanding.is_empty());
        if asked_by_query {
            self.split_front();
        }
        let mut swallowed = 0;
        while let Some((Request::Sync, count)) = self.outstanding.get(first) {
            swallowed += u64::from(*count);
            self.outstanding.remove(first);
        }
        self.sent -= swallowed;
        if let Some((Request::CopyEnd, count)) = self.outstanding.get_mut(first) {
            *count -= 1;
            if *count == 0 {
                self.outstanding.remove(first);
            }
        } else {
            self.copy = Copy::In;
            self.unsynced |= !asked_by_query;
        }
        swallowed
    }

    /// Makes the first entry stand for one request only.
    fn split_front(&mut self) {
        if let Some((request, count)) = self.outstanding.front_mut()
            && *count > 1
        {
            let request = *request;
            *count -= 1;
            self.outstanding.push_front((request, 1));
        }
    }

    fn client_ends_copy(&mut self) {
        match self.copy {
            Copy::In => self.copy = Copy::No,
            Copy::Both { server_done, .. } => self.both(true, server_done),
            Copy::No if self.outstanding.is_empty() && !self.unsynced => {}
            Copy::No => self.expect(Request::CopyEnd),
        }
    }

    fn server_ends_copy(&mut self) {
        if let Copy::Both { client_done, .. } = self.copy {
            self.both(client_done, true);
        }
    }

    fn both(&mut self, client_done: bool, server_done: bool) {
        self.copy = if client_done && server_done {
            Copy::No
        } else {
            Copy::Both { client_done, server_done }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(conversation: &mut Conversation, kinds: &[u8]) {
        for &kind in kinds {
            let (kind, first) = match kind {
                b'I' | b'T' => (b'Z', kind),
                other => (other, 0),
            };
            conversation.from_server(Head { kind, length: 1, first });
        }
    }

    fn client(conversation: &mut Conversation, kinds: &[u8]) {
        for kind in kinds {
            conversation.from_client(*kind);
        }
    }

    #[test]
    fn c21_a_pipeline_is_idle_only_after_its_last_answer() {
        let mut c = Conversation::after_login();
        client(&mut c, b"QPBESPBES");
        server(&mut c, b"DCI");
        assert!(!c.is_idle());
        server(&mut c, b"12CI");
        assert!(!c.is_idle());
        server(&mut c, b"12CI");
        assert!(c.is_idle());
    }

    #[test]
    fn a_batch_without_sync_is_not_idle() {
        let mut c = Conversation::after_login();
        client(&mut c, b"PDH");
        server(&mut c, b"1tT");
        assert!(!c.is_quiet());
        client(&mut c, b"S");
        server(&mut c, b"I");
        assert!(c.is_idle());
    }

    #[test]
    fn a_block_is_quiet_but_not_idle() {
        let mut c = Conversation::after_login();
        client(&mut c, b"Q");
        server(&mut c, b"CT");
        assert!(c.is_quiet() && !c.is_idle());
    }

    #[test]
    fn copy_in_by_query() {
        let mut c = Conversation::after_login();
        client(&mut c, b"Q");
        server(&mut c, b"G");
        client(&mut c, b"ddSdc");
        assert!(!c.is_idle());
        server(&mut c, b"CI");
        assert!(c.is_idle());
    }

    #[test]
    fn copy_in_swallows_the_sync_of_an_extended_batch() {
        let mut c = Conversation::after_login();
        client(&mut c, b"PBES");
        server(&mut c, b"12G");
        client(&mut c, b"dd");
        assert!(!c.is_idle());
        client(&mut c, b"cS");
        server(&mut c, b"C");
        assert!(!c.is_idle());
        server(&mut c, b"I");
        assert!(c.is_idle());
    }

    #[test]
    fn copy_in_sent_in_one_go() {
        let mut c = Conversation::after_login();
        client(&mut c, b"PBESddcS");
        server(&mut c, b"12GC");
        assert!(!c.is_idle());
        server(&mut c, b"I");
        assert!(c.is_idle());
        client(&mut c, b"QddcQ");
        server(&mut c, b"GC");
        server(&mut c, b"I");
        assert!(!c.is_idle());
        server(&mut c, b"CI");
        assert!(c.is_idle());
    }

    #[test]
    fn d01_a_failed_copy_leaves_nothing_behind() {
        let mut c = Conversation::after_login();
        client(&mut c, b"Q");
        server(&mut c, b"GEI");
        client(&mut c, b"ddc");
        assert!(c.is_idle());
        client(&mut c, b"Q");
        server(&mut c, b"CI");
        assert!(c.is_idle());
    }

    #[test]
    fn d01_a_copy_that_never_begins_drops_its_data() {
        let mut c = Conversation::after_login();
        client(&mut c, b"QddcQ");
        server(&mut c, b"EI");
        assert!(!c.is_idle());
        server(&mut c, b"CI");
        assert!(c.is_idle());
    }

    #[test]
    fn d01_a_copy_that_never_begins_leaves_the_session_idle() {
        let mut c = Conversation::after_login();
        client(&mut c, b"Qddc");
        server(&mut c, b"EI");
        assert!(c.is_idle());
    }

    #[test]
    fn d16_an_error_in_a_batch_skips_simple_queries_up_to_the_sync() {
        let mut c = Conversation::after_login();
        client(&mut c, b"PBEQS");
        server(&mut c, b"1E");
        assert!(!c.is_idle());
        server(&mut c, b"I");
        assert!(c.is_idle());
        client(&mut c, b"PBEQS");
        server(&mut c, b"12CDCI");
        assert!(!c.is_idle());
        server(&mut c, b"I");
        assert!(c.is_idle());
        client(&mut c, b"PBEQS");
        server(&mut c, b"12CEI");
        assert!(!c.is_idle(), "the error was the query's own");
        server(&mut c, b"I");
        assert!(c.is_idle());
        client(&mut c, b"PH");
        server(&mut c, b"E");
        client(&mut c, b"QQ");
        assert!(!c.is_idle());
        client(&mut c, b"S");
        server(&mut c, b"I");
        assert!(c.is_idle());
    }

    #[test]
    fn replication_streams_until_both_sides_are_done() {
        let mut c = Conversation::after_login();
        client(&mut c, b"Q");
        server(&mut c, b"Wdd");
        client(&mut c, b"dc");
        assert!(!c.is_idle());
        server(&mut c, b"cCI");
        assert!(c.is_idle());
    }
}

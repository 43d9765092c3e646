//! What a pooled client goes through whose server connection is lost
//! (decisions 33 and 34): it is answered for all that was under way, keeps its
//! session, and its next transaction gets another connection.
//!
//! ```text
//! lost ─▶ every group owed is answered ─▶ outside a block: as if nothing were
//!                │
//!                └─▶ inside a block that is no more
//!                      Untold: the next statement hears it
//!                      Told:   ROLLBACK, COMMIT, END, ABORT are answered here;
//!                              anything else gets a connection whose block has
//!                              been made to fail, so that PostgreSQL answers
//! ```

use bytes::BytesMut;

use super::Pooled;
use super::relay::{End, Relay};
use super::skipping::Skipping;
use crate::domain::Refusal;
use crate::domain::refusal::Aftermath;
use crate::session::FrontDoor;
use crate::session::farewell::statement_refused;
use crate::session::loss::{Fatal, Loss, Verdict, judge, outcome};
use crate::session::stakes::Prospect;
use crate::state::transactions::{Step, bare_end};
use crate::wire::answer;
use crate::wire::conversation::TransactionStatus;
use crate::wire::frame::{HEADER, declared_length};
use crate::wire::request::put_query;

/// Makes a block that fails at once. Nobody has a savepoint of this name, and
/// whoever finds it in the server's log is told what it is.
const FAILED_BLOCK: &[u8] =
    b"BEGIN; ROLLBACK TO SAVEPOINT \"the transaction was lost with its connection\"";

/// The block of a client whose connection was lost in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LostBlock {
    /// There is none.
    #[default]
    None,
    /// The client believes in it.
    Untold,
    /// The client has heard that it failed.
    Told,
}

impl LostBlock {
    /// Whether a message is answered without a server.
    pub(super) fn answers(self, bytes: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Untold => true,
            Self::Told => bare_end_of_block(bytes).is_some(),
        }
    }

    /// What `ReadyForQuery` says.
    pub(super) fn status(self) -> TransactionStatus {
        match self {
            Self::None => TransactionStatus::Idle,
            Self::Untold => TransactionStatus::InBlock,
            Self::Told => TransactionStatus::Failed,
        }
    }

    /// Appends what puts a new connection into the state that the client was
    /// told of. Returns whether there is anything.
    pub(super) fn put_replay(&mut self, out: &mut BytesMut) -> bool {
        let told = *self == Self::Told;
        if told {
            put_query(out, FAILED_BLOCK);
            *self = Self::None;
        }
        told
    }
}

/// `ROLLBACK`, `COMMIT` and so on, if that is the whole of the simple query at
/// the front.
fn bare_end_of_block(bytes: &[u8]) -> Option<Step> {
    let header = bytes.first_chunk::<HEADER>().filter(|header| header[0] == b'Q')?;
    bare_end(bytes.get(HEADER..=declared_length(*header))?.strip_suffix(b"\0")?)
}

impl Pooled {
    /// The server connection is lost: goes on without it if the rule says so.
    ///
    /// # Errors
    /// The end, if it is one.
    pub(super) async fn survive(
        &mut self,
        relay: &mut Relay,
        door: &FrontDoor,
        end: End,
    ) -> Result<(), End> {
        if !end.is_loss() || !relay.can_tell() {
            return Err(end);
        }
        let prospect = relay.prospect();
        let nothing_owed =
            outcome(&prospect).is_none() && prospect.after == TransactionStatus::Idle;
        self.member.state.lose_connection(nothing_owed);
        let Verdict::GoesOn(refusal) = judge(&self.loss(relay, &prospect)) else {
            return Err(end);
        };
        if let Some(outcome) = outcome(&prospect) {
            door.metrics.transaction_lost(&self.member.seat.occupant.endpoint.service, outcome);
        }
        relay.let_go(&mut self.member, &end);
        let unsent = relay.forget(&mut self.member);
        let mut out = BytesMut::new();
        let say = |out: &mut BytesMut| {
            if let Some(refusal) = &refusal {
                statement_refused(door, out, &self.member.seat, refusal);
            }
        };
        relay.block = answer_owed(&prospect, say, &mut out);
        let mut skipping = Skipping::discarding(unsent.discarded, prospect.unsynced.is_some());
        let later = std::mem::replace(&mut self.connection.input, unsent.input);
        self.connection.input.unsplit(later);
        if skipping.go_on(&mut self.connection.input) {
            answer::ready_in(&mut out, relay.block.status());
        }
        relay.skipping = Some(skipping).filter(Skipping::is_under_way);
        self.connection.send(&out).await.map_err(End::ClientLost)
    }

    /// How the connection was lost, if it is.
    pub(super) fn loss<'p>(&self, relay: &Relay, prospect: &'p Prospect) -> Loss<'p> {
        let fatal = relay.fatal().map(Fatal::of);
        let pins = self.member.state.pins;
        Loss { mode: self.member.seat.occupant.endpoint.mode, pins, prospect, fatal }
    }

    /// Answers the message at the front of the input for a block that is no
    /// more.
    ///
    /// # Errors
    /// The end, if the client leaves or is lost.
    pub(super) async fn answer_lost_block(
        &mut self,
        relay: &mut Relay,
        door: &FrontDoor,
    ) -> Result<(), End> {
        let input = &mut self.connection.input;
        let ending = bare_end_of_block(input);
        let mut skipping = Skipping::default();
        let ready = skipping.skip_group(input);
        relay.skipping = Some(skipping).filter(Skipping::is_under_way);
        let mut out = BytesMut::new();
        let untold = relay.block == LostBlock::Untold && ending != Some(Step::Rollback);
        if untold {
            let refusal = Refusal::TransactionLost(Aftermath::GoesOn);
            statement_refused(door, &mut out, &self.member.seat, &refusal);
        } else {
            answer::rolled_back(&mut out);
        }
        relay.block = if ending.is_some() { LostBlock::None } else { LostBlock::Told };
        if ready {
            answer::ready_in(&mut out, relay.block.status());
        }
        self.connection.send(&out).await.map_err(End::ClientLost)
    }
}

/// Answers everything that the client waits for. Returns what became of its
/// block.
fn answer_owed(prospect: &Prospect, say: impl Fn(&mut BytesMut), out: &mut BytesMut) -> LostBlock {
    let mut told = false;
    for group in &prospect.groups {
        let status = match (group.told, group.after) {
            (true, status) => status,
            (false, TransactionStatus::Idle) => TransactionStatus::Idle,
            (false, _) => TransactionStatus::Failed,
        };
        if !group.told {
            say(out);
            told = true;
        }
        answer::ready_in(out, status);
    }
    if prospect.unsynced == Some(false) {
        say(out);
        told = true;
    }
    match prospect.after {
        TransactionStatus::Idle => LostBlock::None,
        TransactionStatus::InBlock if !told => LostBlock::Untold,
        TransactionStatus::InBlock | TransactionStatus::Failed => LostBlock::Told,
    }
}

/// What a client has sent and no server has got.
pub(super) struct Unsent {
    /// The beginning of a message.
    pub(super) input: BytesMut,
    /// Bytes still to come of a message whose beginning a server has got.
    pub(super) discarded: usize,
}

impl End {
    /// Whether it is the loss of the server connection.
    fn is_loss(&self) -> bool {
        matches!(self, Self::Server | Self::ServerLost(_) | Self::Superseded)
    }
}

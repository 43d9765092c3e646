//! When a connection is given back, and what becomes of it if it is not.

use std::time::Duration;

use tokio::time::sleep;

use super::Relay;
use super::end::End;
use crate::session::pooled::Member;
use crate::session::pooled::aftermath::Unsent;
use crate::session::pooled::downward::Downward;
use crate::session::stakes::Prospect;
use crate::wire::frame::HEADER;
use crate::wire::login::error_field;

/// Between two looks at whether a cancel request is still under way.
const CANCEL_TICK: Duration = Duration::from_millis(2);

impl Relay {
    /// Whether everything is said and answered, perhaps inside a block, and the
    /// server does not go away.
    pub(super) fn is_at_rest(&self) -> bool {
        self.pending.conversation.is_quiet()
            && self.downward.fatal.is_none()
            && self.pending.errand.is_none()
            && !self.unprepared
            && self.pending.expected.is_empty()
            && self.upward.is_between_messages()
            && self.downward.is_between_messages()
            && !self.upward.is_garbled()
    }

    /// Whether a client that keeps its connection begins something new.
    pub(super) fn is_between_transactions(&self) -> bool {
        self.pending.conversation.is_idle() && self.is_at_rest()
    }

    /// Whether nothing of this client is left on the connection that the next
    /// would not be told of.
    pub(super) fn is_done(&self, member: &Member) -> bool {
        self.pending.conversation.is_idle() && self.is_at_rest() && member.state.pins.is_empty()
    }

    pub(super) fn give_back(&mut self, member: &mut Member) {
        let Some(mut server) = self.server.take() else { return };
        self.making_way = None;
        member.state.doubts.undone = false;
        if !member.state.doubts.touched.is_nothing() {
            server.carried = member.state.carried.spoiled(&member.state.doubts.touched);
        }
        if server.server().connection().has_unsent() {
            drop(server);
            return;
        }
        match member.target.aim_at_nothing() {
            None => server.give_back(),
            // The connection goes to nobody else while a cancel is under way.
            Some(backend) => {
                tokio::spawn(async move {
                    while backend.is_being_cancelled() {
                        sleep(CANCEL_TICK).await;
                    }
                    server.give_back();
                });
            }
        }
    }

    /// What was under way that the client waits for.
    pub(in crate::session::pooled) fn prospect(&self) -> Prospect {
        let mut prospect = self.pending.stakes.prospect(&self.pending.conversation);
        prospect.groups.retain(|group| self.pending.expected.hears(group.number));
        prospect
    }

    /// Whether the client is where it can hear an error.
    pub(in crate::session::pooled) fn can_tell(&self) -> bool {
        self.downward.is_between_messages() && !self.upward.is_garbled() && !self.client_closed
    }

    /// The SQLSTATE of the server's last words.
    pub(in crate::session::pooled) fn fatal(&self) -> Option<&[u8]> {
        let fatal = self.downward.fatal.as_deref()?;
        error_field(fatal.get(HEADER..)?, b'C')
    }

    /// Forgets the connection that was lost, and what was owed on it.
    pub(in crate::session::pooled) fn forget(&mut self, member: &mut Member) -> Unsent {
        let (input, discarded) = self.upward.break_off();
        self.pending.expected.break_off(&mut member.state.statements);
        self.pending.conversation.begin_again();
        self.pending.stakes.begin();
        self.downward = Downward::default();
        self.unprepared = false;
        self.pending.errand = None;
        Unsent { input, discarded }
    }

    /// The session is over, or goes on without this connection, which goes
    /// back if it is clean.
    pub(in crate::session::pooled) fn let_go(&mut self, member: &mut Member, end: &End) {
        let clean = self.pending.conversation.is_idle() && self.is_done(member);
        match (end, self.server.is_some()) {
            (End::Server, true) => {
                if let Some(server) = self.server.take() {
                    server.closed();
                }
            }
            (End::Client | End::ClientLost(_) | End::Ordered(_), true) if clean => {
                self.give_back(member);
            }
            _ => {
                let busy = !self.pending.conversation.is_quiet();
                let _ = member.target.aim_at_nothing();
                if let Some(mut server) = self.server.take() {
                    server.server().set_busy(busy);
                }
            }
        }
    }
}

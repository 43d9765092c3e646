//! With a server connection: one read from each side, translated and sent on.

use std::task::Poll;

use bytes::BytesMut;

use super::end::End;
use super::{Relay, Step, Turn, sent};
use crate::session::pooled::downward;
use crate::session::pooled::pending::Pending;
use crate::session::pooled::upward;
use crate::wire::conversation::TransactionStatus;

impl Relay {
    /// With a server connection: one read from each side.
    pub(super) fn exchange(
        &mut self,
        turn: &mut Turn<'_, '_>,
        scratch: &mut [u8],
    ) -> Result<bool, Step> {
        if self.server.as_ref().is_some_and(|server| server.is_superseded()) {
            return Err(Step::End(End::Superseded));
        }
        let down = self.down(turn, scratch).map_err(Step::End)?;
        // Whoever has had his answer is looked at next without the connection,
        // and need not be twice.
        let answered = down && self.pending.conversation.is_quiet();
        let up = !answered && self.up(turn, scratch).map_err(Step::End)?;
        if self.downward.preparation_failed {
            return Err(Step::End(End::Preparation));
        }
        self.finish(turn.member, turn.door, turn.out)?;
        if !turn.out.is_empty() {
            self.push_up(turn).map_err(Step::End)?;
        }
        if turn.member.seat.pins() != turn.member.state.pins
            || !turn.member.state.refused.is_empty()
        {
            Self::note_pins(turn.member, turn.door);
        }
        let conversation = &self.pending.conversation;
        let ended = conversation.is_terminated() || self.client_closed;
        // Who has said Terminate finishes nothing any more.
        if ended && conversation.is_quiet() && !self.upward.holds()
            || conversation.is_terminated() && conversation.is_unfinished()
        {
            return Err(Step::End(End::Client));
        }
        if !self.is_at_rest() {
            return Ok(up || down);
        }
        if !turn.member.state.perhaps_borrowed.is_empty() {
            let (state, Pending { conversation, expected, .. }) =
                (&mut turn.member.state, &mut self.pending);
            if upward::settle_names(state, expected) {
                upward::return_names(state, conversation, expected, turn.out);
                self.push_up(turn).map_err(Step::End)?;
                return Ok(true);
            }
        }
        if self.ask(turn.member, turn.out) {
            self.push_up(turn).map_err(Step::End)?;
            return Ok(true);
        }
        if !self.is_done(turn.member) {
            return Ok(up || down);
        }
        if self.audit(turn.out) {
            self.push_up(turn).map_err(Step::End)?;
        } else {
            self.give_back(turn.member);
        }
        Ok(true)
    }

    fn up(&mut self, turn: &mut Turn<'_, '_>, scratch: &mut [u8]) -> Result<bool, End> {
        let Some(server) = &mut self.server else { return Ok(false) };
        let connection = server.server().connection();
        if connection.has_unsent()
            && !sent(connection.poll_send(turn.cx)).map_err(End::ServerLost)?
        {
            return Ok(false);
        }
        if self.pending.conversation.is_terminated() || self.pending.errand.is_some() {
            return Ok(false);
        }
        // Behind a FATAL nothing is run any more: the answer is what was said.
        if self.downward.fatal.is_some() {
            return Ok(false);
        }
        if self.upward.is_held(&self.pending.conversation) {
            return self.watch(turn, scratch);
        }
        if self.client_closed && !self.upward.holds() {
            return Ok(false);
        }
        let early = std::mem::take(&mut turn.client.input);
        let bytes: &[u8] = if early.is_empty() {
            if self.upward.holds() {
                self.send_up(turn, &[])?;
                return Ok(true);
            }
            match turn.client.poll_fill(turn.cx, scratch) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => {
                    self.client_closed = true;
                    return Ok(true);
                }
                Poll::Ready(Ok(read)) => &scratch[..read],
                Poll::Ready(Err(error)) => return Err(End::ClientLost(error)),
            }
        } else {
            &early
        };
        if std::mem::take(&mut self.unprepared) {
            self.send_first(turn, bytes)?;
        } else if self.is_between_transactions()
            && self.ask_for_routines(turn.member, bytes, turn.out)
        {
            self.await_errand(turn, bytes)?;
        } else {
            self.send_up(turn, bytes)?;
        }
        Ok(true)
    }

    /// While something of the client's is held: whether it is still there.
    fn watch(&mut self, turn: &mut Turn<'_, '_>, scratch: &mut [u8]) -> Result<bool, End> {
        if self.client_closed || !turn.client.input.is_empty() {
            return Ok(false);
        }
        match turn.client.poll_fill(turn.cx, scratch) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(read)) => {
                self.client_closed = read == 0;
                turn.client.input.extend_from_slice(&scratch[..read]);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(End::ClientLost(error)),
        }
    }

    /// Sends the first bytes of a client on a connection, which is made the
    /// client's first; what takes an answer of the server holds them back.
    pub(super) fn send_first(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Result<(), End> {
        if self.ask_for_routines(turn.member, bytes, turn.out) {
            self.unprepared = true;
            return self.await_errand(turn, bytes);
        }
        self.prepare(turn.member, bytes, turn.out);
        if self.pending.errand.is_none() {
            return self.send_up(turn, bytes);
        }
        self.await_errand(turn, bytes)
    }

    /// Sends an errand; the bytes of the client wait for its end.
    fn await_errand(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Result<(), End> {
        turn.client.input.unsplit(BytesMut::from(bytes));
        self.push_up(turn)
    }

    fn send_up(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let Turn { cx, member, out, .. } = turn;
        member.seat.add_received(bytes.len());
        if self.block.put_replay(out) {
            self.pending.expected.silence(self.pending.conversation.group());
            self.pending.conversation.from_client(b'Q');
        }
        let mut exchange = self.pending.between(&mut member.state, server);
        let prepared = !out.is_empty();
        let mut sending = self.upward.translate(bytes, &mut exchange, out);
        if !member.state.borrowed.is_empty()
            && self.upward.is_between_messages()
            && !self.pending.conversation.is_unsynced()
        {
            if let upward::Sending::AsTheyCame(length) = sending {
                out.extend_from_slice(&bytes[..length]);
                sending = upward::Sending::Rewritten;
            }
            let Pending { conversation, expected, .. } = &mut self.pending;
            upward::return_names(&mut member.state, conversation, expected, out);
        }
        if !member.state.pins.is_empty() {
            server.set_pinned(true);
        }
        if let Some(command) = member.state.wants_database.take() {
            server.slot().node().make_way(&command);
            self.making_way = Some(command);
        }
        let connection = server.server().connection();
        let pushed = match sending {
            upward::Sending::AsTheyCame(length) if !prepared => {
                connection.push(cx, &bytes[..length])
            }
            upward::Sending::AsTheyCame(length) => {
                out.extend_from_slice(&bytes[..length]);
                connection.push(cx, out)
            }
            upward::Sending::Rewritten => connection.push(cx, out),
        };
        out.clear();
        pushed.map_err(End::ServerLost)
    }

    /// Sends what is Postern's own.
    fn push_up(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let pushed = server.server().connection().push(turn.cx, turn.out);
        turn.out.clear();
        pushed.map_err(End::ServerLost)
    }

    fn down(&mut self, turn: &mut Turn<'_, '_>, scratch: &mut [u8]) -> Result<bool, End> {
        if !turn.flush_client().map_err(End::ClientLost)? {
            return Ok(false);
        }
        let Some(server) = &mut self.server else { return Ok(false) };
        let Turn { cx, client, member, out, .. } = turn;
        let read = match server.server().connection().poll_fill(cx, scratch) {
            Poll::Pending => {
                self.bulk.wait(cx, server.server().connection());
                return Ok(false);
            }
            Poll::Ready(Ok(0)) => return Err(End::Server),
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => return Err(End::ServerLost(error)),
        };
        let answered = self.pending.conversation.answering();
        let mut exchange = self.pending.between(&mut member.state, server);
        let sending = self.downward.translate(&scratch[..read], &mut exchange, out);
        let bytes = match sending {
            downward::Sending::AsTheyCame => &scratch[..read],
            downward::Sending::Rewritten => &out[..],
        };
        let is_over = self.pending.conversation.is_quiet();
        self.bulk.came(read, is_over, server.server().connection());
        member.seat.add_sent(bytes.len());
        if self.pending.conversation.answering() != answered {
            member.seat.answered(self.pending.conversation.status() == TransactionStatus::Idle);
            let over = std::mem::take(&mut member.state.transactions);
            member.seat.add_transactions(over, !member.state.pins.is_empty());
        }
        let pushed = client.push(cx, bytes);
        out.clear();
        pushed.map_err(End::ClientLost)?;
        Ok(true)
    }
}

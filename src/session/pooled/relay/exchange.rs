//! With a server connection: one read from each side, translated and sent on.

use std::task::{Context, Poll};

use bytes::BytesMut;

use super::end::End;
use super::{Buffers, Relay, Step, sent};
use crate::net::Connection;
use crate::session::FrontDoor;
use crate::session::pooled::Member;
use crate::session::pooled::downward::{self};
use crate::session::pooled::upward::{self};
use crate::wire::conversation::TransactionStatus;

impl Relay {
    /// With a server connection: one read from each side.
    pub(super) fn exchange(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        door: &FrontDoor,
        buffers: &mut Buffers,
    ) -> Result<bool, Step> {
        if self.server.as_ref().is_some_and(|server| server.is_superseded()) {
            return Err(Step::End(End::Superseded));
        }
        let up = self.up(cx, client, member, buffers).map_err(Step::End)?;
        let down = self.down(cx, client, member, buffers).map_err(Step::End)?;
        if self.downward.preparation_failed {
            return Err(Step::End(End::Preparation));
        }
        self.finish(member, door)?;
        if member.seat.pins() != member.state.pins || !member.state.refused.is_empty() {
            Self::note_pins(member, door);
        }
        let ended = self.conversation.is_terminated() || self.client_closed;
        if ended && self.conversation.is_quiet() {
            return Err(Step::End(End::Client));
        }
        if !self.is_at_rest() {
            return Ok(up || down);
        }
        if self.ask(member, &mut buffers.out) {
            self.push_up(cx, &mut buffers.out).map_err(Step::End)?;
            return Ok(true);
        }
        if !self.is_done(member) {
            return Ok(up || down);
        }
        if self.audit(&mut buffers.out) {
            self.push_up(cx, &mut buffers.out).map_err(Step::End)?;
        } else {
            self.give_back(member);
        }
        Ok(true)
    }

    pub(super) fn up(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        buffers: &mut Buffers,
    ) -> Result<bool, End> {
        let Some(server) = &mut self.server else { return Ok(false) };
        let connection = server.server().connection();
        if connection.has_unsent() && !sent(connection.poll_send(cx)).map_err(End::ServerLost)? {
            return Ok(false);
        }
        if self.client_closed || self.conversation.is_terminated() || self.errand.is_some() {
            return Ok(false);
        }
        let Buffers { scratch, out } = buffers;
        let early = std::mem::take(&mut client.input);
        let bytes: &[u8] = if early.is_empty() {
            match client.poll_fill(cx, scratch) {
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
            self.prepare(member, bytes, out);
            if self.errand.is_some() {
                client.input.unsplit(BytesMut::from(bytes));
                self.push_up(cx, out)?;
                return Ok(true);
            }
        }
        member.seat.add_received(bytes.len());
        self.send_up(cx, member, bytes, out)?;
        Ok(true)
    }

    pub(super) fn send_up(
        &mut self,
        cx: &mut Context<'_>,
        member: &mut Member,
        bytes: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        if self.block.put_replay(out) {
            self.expected.silence(self.conversation.group());
            self.conversation.from_client(b'Q');
        }
        let mut exchange = upward::Exchange {
            client: &mut member.state,
            server: &mut server.statements,
            conversation: &mut self.conversation,
            expected: &mut self.expected,
            stakes: &mut self.stakes,
        };
        let prepared = !out.is_empty();
        let mut sending = self.upward.translate(bytes, &mut exchange, out);
        if !member.state.borrowed.is_empty()
            && self.upward.is_between_messages()
            && !self.conversation.is_unsynced()
        {
            if let upward::Sending::AsTheyCame(length) = sending {
                out.extend_from_slice(&bytes[..length]);
                sending = upward::Sending::Rewritten;
            }
            let (conversation, expected) = (&mut self.conversation, &mut self.expected);
            upward::return_names(&mut member.state, conversation, expected, out);
        }
        if !member.state.pins.is_empty() {
            server.set_pinned(true);
        }
        if std::mem::take(&mut member.state.wants_database) {
            // They are gone within the time that PostgreSQL waits for them.
            server.slot().node().close_idle(|_| true);
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
    pub(super) fn push_up(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let pushed = server.server().connection().push(cx, out);
        out.clear();
        pushed.map_err(End::ServerLost)
    }

    pub(super) fn down(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        buffers: &mut Buffers,
    ) -> Result<bool, End> {
        if client.has_unsent() {
            if !sent(client.poll_send(cx)).map_err(End::ClientLost)? {
                return Ok(false);
            }
            member.seat.unstalled();
        }
        let Some(server) = &mut self.server else { return Ok(false) };
        let Buffers { scratch, out } = buffers;
        let read = match server.server().connection().poll_fill(cx, scratch) {
            Poll::Pending => {
                self.bulk.wait(cx, server.server().connection());
                return Ok(false);
            }
            Poll::Ready(Ok(0)) => return Err(End::Server),
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => return Err(End::ServerLost(error)),
        };
        let answered = self.conversation.answering();
        let mut exchange = downward::Exchange {
            client: &mut member.state,
            statements: &mut server.statements,
            reports: &mut server.reports,
            conversation: &mut self.conversation,
            expected: &mut self.expected,
            errand: self.errand.as_deref_mut(),
            stakes: &mut self.stakes,
        };
        let sending = self.downward.translate(&scratch[..read], &mut exchange, out);
        let bytes = match sending {
            downward::Sending::AsTheyCame => &scratch[..read],
            downward::Sending::Rewritten => &out[..],
        };
        let is_over = self.conversation.is_quiet();
        self.bulk.came(read, is_over, server.server().connection());
        member.seat.add_sent(bytes.len());
        if self.conversation.answering() != answered {
            member.seat.answered(self.conversation.status() == TransactionStatus::Idle);
        }
        let pushed = client.push(cx, bytes);
        out.clear();
        pushed.map_err(End::ClientLost)?;
        Ok(true)
    }
}

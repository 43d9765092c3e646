//! Without a server connection: the client is read, and waits in its pool's
//! queue when it has said something.

use std::task::{Context, Poll};

use bytes::BytesMut;

use super::end::End;
use super::{Buffers, Relay, Step, sent};
use crate::directory::roster::Order;
use crate::net::Connection;
use crate::pool::keeper::is_silent;
use crate::session::FrontDoor;
use crate::session::authenticate::MAX_EARLY_INPUT;
use crate::session::pooled::Member;
use crate::session::pooled::skipping::Skipping;
use crate::wire::answer;
use crate::wire::frame::{HEADER, declared_length};

/// The longest message that is awaited whole before a connection is leased.
const LONGEST_AWAITED: usize = 16 * 1024;

impl Relay {
    /// Without a server connection: reads the client, and leases one when it
    /// has said something. Returns whether anything was done.
    pub(super) fn listen(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        door: &FrontDoor,
        buffers: &mut Buffers,
    ) -> Result<bool, Step> {
        let lost = |error| Step::End(End::ClientLost(error));
        if client.has_unsent() {
            if !sent(client.poll_send(cx)).map_err(lost)? {
                return Ok(false);
            }
            member.seat.unstalled();
        }
        if member.seat.order() != Order::None {
            // Between two transactions is the time to leave.
            return Ok(false);
        }
        let Buffers { scratch, out } = buffers;
        // An idle client owns no buffer.
        let early = std::mem::take(&mut client.input);
        let bytes: &[u8] = if self.is_worth_a_lease(&early) {
            &early
        } else {
            let read = match client.poll_fill(cx, scratch) {
                Poll::Pending => {
                    if !early.is_empty() {
                        client.input = early;
                    }
                    return Ok(false);
                }
                Poll::Ready(Ok(0)) => return Err(Step::End(End::Client)),
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => return Err(lost(error)),
            };
            if !early.is_empty() || !self.is_worth_a_lease(&scratch[..read]) {
                client.input.unsplit(early);
                client.input.extend_from_slice(&scratch[..read]);
                self.skip(client);
                return Ok(true);
            }
            &scratch[..read]
        };
        if bytes[0] == b'X' {
            return Err(Step::End(End::Client));
        }
        if matches!(bytes[0], b'd' | b'c' | b'f') {
            // What is left of a copy that failed: PostgreSQL ignores it, too.
            client.input.unsplit(BytesMut::from(bytes));
            self.skipping = Some(Skipping::discarding(message_length(&client.input), false));
            self.skip(client);
            return Ok(true);
        }
        if self.block.answers(bytes) {
            client.input.unsplit(BytesMut::from(bytes));
            return Err(Step::LostBlock);
        }
        let Some(server) = member.lease_now(door) else {
            client.input.unsplit(BytesMut::from(bytes));
            self.waiting = member.queue(door);
            return if self.waiting.is_some() { Ok(true) } else { Err(Step::NeedsServer) };
        };
        self.begin(server);
        self.prepare(member, bytes, out);
        if self.errand.is_some() {
            client.input.unsplit(BytesMut::from(bytes));
            self.push_up(cx, out).map_err(Step::End)?;
            return Ok(true);
        }
        member.seat.add_received(bytes.len());
        self.send_up(cx, member, bytes, out).map_err(Step::End)?;
        Ok(true)
    }

    /// In the pool's queue: takes the connection that is handed over, and
    /// notices if the client goes. Returns whether anything was done.
    pub(super) fn wait(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        buffers: &mut Buffers,
    ) -> Result<bool, Step> {
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        let Poll::Ready(server) = waiting.poll_connection(cx) else {
            if member.target.poll_cancelled(cx).is_ready() {
                return Err(Step::NeedsServer);
            }
            return read_ahead(cx, client, &mut buffers.scratch);
        };
        let Some(mut server) = server else { return Err(Step::NeedsServer) };
        self.waiting = None;
        if !is_silent(&mut server) {
            return Err(Step::NeedsServer);
        }
        let out = &mut buffers.out;
        self.begin(server);
        self.prepare(member, &client.input, out);
        if self.errand.is_some() {
            self.push_up(cx, out).map_err(Step::End)?;
            return Ok(true);
        }
        let bytes = std::mem::take(&mut client.input);
        member.seat.add_received(bytes.len());
        self.send_up(cx, member, &bytes, out).map_err(Step::End)?;
        Ok(true)
    }

    /// Whether a message has come whole, or the beginning of a long one.
    pub(super) fn is_worth_a_lease(&self, bytes: &[u8]) -> bool {
        self.skipping.is_none()
            && bytes.len() >= HEADER
            && bytes.len() >= message_length(bytes).min(LONGEST_AWAITED)
    }

    /// Throws away what belongs to a batch that was refused.
    pub(super) fn skip(&mut self, client: &mut Connection) {
        let Some(skipping) = &mut self.skipping else { return };
        let mut out = BytesMut::new();
        if skipping.go_on(&mut client.input) {
            answer::ready_in(&mut out, self.block.status());
        }
        if !skipping.is_under_way() {
            self.skipping = None;
        }
        client.queue(&out);
    }
}

/// What a client that waits for a connection sends meanwhile is kept, within
/// bounds. Returns whether there was any.
fn read_ahead(
    cx: &mut Context<'_>,
    client: &mut Connection,
    scratch: &mut [u8],
) -> Result<bool, Step> {
    if client.input.len() >= MAX_EARLY_INPUT {
        return Ok(false);
    }
    match client.poll_fill(cx, scratch) {
        Poll::Pending => Ok(false),
        Poll::Ready(Ok(0)) => Err(Step::End(End::Client)),
        Poll::Ready(Ok(read)) => {
            client.input.extend_from_slice(&scratch[..read]);
            Ok(true)
        }
        Poll::Ready(Err(error)) => Err(Step::End(End::ClientLost(error))),
    }
}

/// The length of the message whose header these bytes begin with.
fn message_length(bytes: &[u8]) -> usize {
    let header = bytes.first_chunk::<HEADER>().copied().unwrap_or_default();
    1 + declared_length(header)
}

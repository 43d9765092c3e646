//! Without a server connection: the client is read, and waits in its pool's
//! queue when it has said something.

use std::task::Poll;

use bytes::BytesMut;

use super::end::End;
use super::{Relay, Step, Turn};
use crate::directory::roster::Order;
use crate::net::Connection;
use crate::pool::keeper::is_silent;
use crate::session::authenticate::MAX_EARLY_INPUT;
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
        turn: &mut Turn<'_, '_>,
        scratch: &mut [u8],
    ) -> Result<bool, Step> {
        let lost = |error| Step::End(End::ClientLost(error));
        if !turn.flush_client().map_err(lost)? {
            return Ok(false);
        }
        if turn.member.seat.order() != Order::None {
            // Between two transactions is the time to leave.
            return Ok(false);
        }
        // An idle client owns no buffer.
        let early = std::mem::take(&mut turn.client.input);
        let bytes: &[u8] = if self.is_worth_a_lease(&early) {
            &early
        } else {
            let read = match turn.client.poll_fill(turn.cx, scratch) {
                Poll::Pending => {
                    if !early.is_empty() {
                        turn.client.input = early;
                    }
                    return Ok(false);
                }
                Poll::Ready(Ok(0)) => return Err(Step::End(End::Client)),
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => return Err(lost(error)),
            };
            if !early.is_empty() || !self.is_worth_a_lease(&scratch[..read]) {
                turn.client.input.unsplit(early);
                turn.client.input.extend_from_slice(&scratch[..read]);
                self.skip(turn.client);
                return Ok(true);
            }
            &scratch[..read]
        };
        match bytes[0] {
            b'X' => return Err(Step::End(End::Client)),
            b'd' | b'c' | b'f' => {
                // What is left of a copy that failed: PostgreSQL ignores it, too.
                turn.client.input.unsplit(BytesMut::from(bytes));
                self.skipping = Some(Skipping::discarding(message_length(bytes), false));
                self.skip(turn.client);
                return Ok(true);
            }
            _ => {}
        }
        if self.block.answers(bytes) {
            turn.client.input.unsplit(BytesMut::from(bytes));
            return Err(Step::LostBlock);
        }
        let Some(server) = turn.member.lease_now(turn.door) else {
            turn.client.input.unsplit(BytesMut::from(bytes));
            self.waiting = turn.member.queue(turn.door);
            return if self.waiting.is_some() { Ok(true) } else { Err(Step::NeedsServer) };
        };
        self.begin(server);
        self.send_first(turn, bytes).map_err(Step::End)?;
        Ok(true)
    }

    /// In the pool's queue: takes the connection that is handed over, and
    /// notices if the client goes. Returns whether anything was done.
    pub(super) fn wait(
        &mut self,
        turn: &mut Turn<'_, '_>,
        scratch: &mut [u8],
    ) -> Result<bool, Step> {
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        let Poll::Ready(server) = waiting.poll_connection(turn.cx) else {
            if turn.member.target.poll_cancelled(turn.cx).is_ready() {
                return Err(Step::NeedsServer);
            }
            return read_ahead(turn, scratch);
        };
        let Some(mut server) = server else { return Err(Step::NeedsServer) };
        self.waiting = None;
        if !is_silent(&mut server) {
            return Err(Step::NeedsServer);
        }
        self.begin(server);
        let bytes = std::mem::take(&mut turn.client.input);
        self.send_first(turn, &bytes).map_err(Step::End)?;
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
fn read_ahead(turn: &mut Turn<'_, '_>, scratch: &mut [u8]) -> Result<bool, Step> {
    if turn.client.input.len() >= MAX_EARLY_INPUT {
        return Ok(false);
    }
    match turn.client.poll_fill(turn.cx, scratch) {
        Poll::Pending => Ok(false),
        Poll::Ready(Ok(0)) => Err(Step::End(End::Client)),
        Poll::Ready(Ok(read)) => {
            turn.client.input.extend_from_slice(&scratch[..read]);
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

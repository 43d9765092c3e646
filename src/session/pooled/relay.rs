//! The relay of a pooled client: one poll function over its connection and,
//! while it has one, its server connection.
//!
//! ```text
//! serving: login to end, and what takes awaiting
//!    └─ poll ─┬─ listening: no server connection yet
//!             └─ exchange: one read from each side
//!                   errands: what Postern itself says on the connection
//!                   giving_back: when the connection is another's again
//! ```

mod end;
mod errands;
mod exchange;
mod giving_back;
mod listening;
mod serving;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Sleep, sleep};

use super::Member;
use super::aftermath::LostBlock;
use super::downward::Downward;
use super::pending::Pending;
use super::skipping::Skipping;
use super::upward::Upward;
use crate::directory::roster::{Activity, Order};
use crate::domain::Refusal;
use crate::domain::refusal::Overdue;
use crate::net::Connection;
use crate::pool::PooledServer;
use crate::pool::slots::Waiting;
use crate::session::FrontDoor;
use crate::session::bulk::Bulk;
use crate::wire::conversation::TransactionStatus;
pub(super) use end::End;

/// Bytes moved at a time.
const SCRATCH: usize = 64 * 1024;
/// Reads in one poll before others get their turn.
const READS_PER_POLL: usize = 16;
/// How long a query may go on whose client has closed its side.
const ABANDONED_QUERY: Duration = Duration::from_secs(2);

/// What a worker thread lends to the poll that runs on it.
struct Buffers {
    scratch: Box<[u8]>,
    out: BytesMut,
}

/// What one poll works with. What is read goes into a buffer of its own, since
/// it is still looked at while the rest of this changes.
struct Turn<'a, 'cx> {
    cx: &'a mut Context<'cx>,
    client: &'a mut Connection,
    member: &'a mut Member,
    door: &'a FrontDoor,
    /// What goes to the server, or to the client, in the place of what came.
    out: &'a mut BytesMut,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { scratch: vec![0; SCRATCH].into(), out: BytesMut::new() });
}

/// What the poll function comes back with.
enum Step {
    /// The client has said something and has no connection.
    NeedsServer,
    /// The client's settings cannot be had any more: what the server says of
    /// them is its answer.
    NotReplayed(Bytes),
    /// The client has said something in a block that is no more.
    LostBlock,
    /// The session is over.
    End(End),
}

#[derive(Default)]
pub(super) struct Relay {
    server: Option<Box<PooledServer>>,
    /// Its place in the pool's queue, while it has neither a connection nor
    /// deadlines to watch.
    waiting: Option<Waiting>,
    pending: Pending,
    upward: Upward,
    downward: Downward,
    bulk: Bulk,
    /// The block of which the connection was lost.
    pub(super) block: LostBlock,
    /// Set while what the client sent is thrown away up to its Sync.
    pub(super) skipping: Option<Skipping>,
    client_closed: bool,
    /// The connection was waited for: what the client believes of its settings
    /// is not yet made true on it.
    unprepared: bool,
    abandoned: Option<Pin<Box<Sleep>>>,
    /// The command that wants a database to itself, while it is run.
    making_way: Option<Arc<[u8]>>,
}

impl Relay {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        door: &FrontDoor,
    ) -> Poll<Step> {
        member.seat.listen(cx.waker());
        let moved = BUFFERS.with_borrow_mut(|Buffers { scratch, out }| {
            let mut turn = Turn { cx, client, member, door, out };
            let moved = self.shuttle(&mut turn, scratch);
            out.clear();
            moved
        });
        self.note_activity(member);
        if client.has_unsent() {
            member.seat.stalled();
        }
        match moved {
            Err(step) => Poll::Ready(step),
            Ok(()) => match self.ordered(member) {
                Some(end) => Poll::Ready(Step::End(end)),
                None => self.poll_abandoned(cx),
            },
        }
    }

    fn shuttle(&mut self, turn: &mut Turn<'_, '_>, scratch: &mut [u8]) -> Result<(), Step> {
        for _ in 0..READS_PER_POLL {
            let moved = if self.server.is_some() {
                self.exchange(turn, scratch)?
            } else if self.waiting.is_some() {
                self.wait(turn, scratch)?
            } else {
                self.listen(turn, scratch)?
            };
            if !moved {
                return Ok(());
            }
        }
        turn.cx.waker().wake_by_ref();
        Ok(())
    }

    fn note_activity(&self, member: &Member) {
        let activity = match self.pending.conversation.status() {
            _ if self.waiting.is_some() => Activity::Waiting,
            _ if self.server.is_none() => Activity::Idle,
            _ if !self.pending.conversation.is_quiet() => Activity::Active,
            TransactionStatus::Idle => Activity::Idle,
            TransactionStatus::InBlock | TransactionStatus::Failed => Activity::IdleInTransaction,
        };
        member.seat.set_activity(activity);
    }

    fn ordered(&self, member: &Member) -> Option<End> {
        match member.seat.overdue() {
            None => {}
            Some(Overdue::Write) => return Some(End::Stalled),
            Some(overdue) => return Some(End::Ordered(Refusal::Overdue(overdue))),
        }
        let order = member.seat.order();
        let now = match order {
            Order::None => false,
            Order::Drain => self.server.is_none() || self.pending.conversation.is_idle(),
            Order::Leave | Order::NotPermitted => true,
        };
        order.refusal().filter(|_| now).map(End::Ordered)
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if !self.client_closed {
            return Poll::Pending;
        }
        let timer = self.abandoned.get_or_insert_with(|| Box::pin(sleep(ABANDONED_QUERY)));
        timer.as_mut().poll(cx).map(|()| Step::End(End::Abandoned))
    }
}

impl Turn<'_, '_> {
    /// Sends what the client has not taken yet. Returns whether it has all of
    /// it.
    fn flush_client(&mut self) -> io::Result<bool> {
        if self.client.has_unsent() {
            if !sent(self.client.poll_send(self.cx))? {
                return Ok(false);
            }
            self.member.seat.unstalled();
        }
        Ok(true)
    }
}

fn sent(poll: Poll<io::Result<()>>) -> io::Result<bool> {
    match poll {
        Poll::Ready(Ok(())) => Ok(true),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(false),
    }
}

//! The relay of a session: one poll function over both sockets (decisions
//! 15 to 18).
//!
//! ```text
//! client ──fill──▶ scratch ──scan──▶ push ──▶ server      and the reverse
//! ```
//!
//! Bytes are forwarded as they come; only message headers are looked at, to
//! know whether anything is under way. One side is not read while the other
//! has anything unsent, so memory is bounded by one scratch a direction. The
//! scratch belongs to the worker thread and is empty between polls, so an idle
//! session owns no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep, sleep};

use super::FrontDoor;
use super::bulk::Bulk;
use super::farewell::{Ending, close, count_stalled, end_session, log_end};
use super::login::Established;
use super::loss::{Fatal, Loss, Verdict, Words, judge};
use super::reuse::Watch;
use super::stakes::Stakes;
use crate::directory::cancel_keys::Registration;
use crate::directory::roster::{Activity, Order, Seat};
use crate::domain::refusal::Overdue;
use crate::domain::{PoolMode, Refusal};
use crate::net::Connection;
use crate::pool::ServerConnection;
use crate::state::{Pins, wants_database_alone};
use crate::upstream::cancel::cancel;
use crate::wire::conversation::{Conversation, TransactionStatus};
use crate::wire::frame::{HEADER, Head, Scanner};
use crate::wire::login::{error_field, is_fatal};

/// Bytes moved at a time.
const SCRATCH: usize = 64 * 1024;
/// Reads in one poll before others get their turn.
const READS_PER_POLL: usize = 16;
/// How long a query may go on whose client has closed its side. PostgreSQL
/// itself would let it run to its end.
const ABANDONED_QUERY: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// The client said Terminate, or closed, and the server has closed too.
    Client,
    /// The server closed.
    Server,
    /// The client's connection broke.
    ClientLost(io::Error),
    /// The server's connection broke.
    ServerLost(io::Error),
    /// The server is not the primary any more, or was a standby and is it now.
    Superseded,
    /// Postern ended it.
    Ordered(Refusal),
    /// The client does not read.
    Stalled,
    /// The client has closed and its query goes on: it is to be cancelled.
    Abandoned,
    /// The client has said something for which PostgreSQL wants a database to
    /// itself.
    WantsDatabase,
    /// The client has said goodbye: its slot will soon be free.
    Leaving,
    /// The client has gone; the server has not closed yet.
    Left,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Client | Self::Abandoned | Self::WantsDatabase | Self::Leaving | Self::Left => {
                "client closed"
            }
            Self::Server => "server closed",
            Self::ClientLost(_) => "client lost",
            Self::ServerLost(_) => "server lost",
            Self::Superseded => "another primary",
            Self::Ordered(_) => "ended by the proxy",
            Self::Stalled => "client does not read",
        }
    }

    fn error(&self) -> Option<&io::Error> {
        match self {
            Self::ClientLost(error) | Self::ServerLost(error) => Some(error),
            Self::Client
            | Self::Server
            | Self::Superseded
            | Self::Ordered(_)
            | Self::Stalled
            | Self::Abandoned
            | Self::WantsDatabase
            | Self::Leaving
            | Self::Left => None,
        }
    }
}

impl Established {
    /// Relays until either side ends, and tells the client if it was not its
    /// own doing.
    pub async fn relay(mut self: Box<Self>, door: &FrontDoor) {
        let began = Instant::now();
        let mut relay = Relay::new(&self.seat, self.server.watch());
        let end = loop {
            let (client, server) = (&mut self.client, self.server.server());
            match poll_fn(|cx| relay.poll(cx, client, server)).await {
                End::Abandoned => Box::pin(Self::cancel_abandoned(server, door)).await,
                End::Leaving => self.server.server().slot().closing(),
                End::WantsDatabase => {
                    if let Some(command) = &relay.making_way {
                        server.slot().node().make_way(command);
                    }
                }
                end => break end,
            }
        };
        self.server.server().set_busy(!relay.conversation.is_quiet());
        let reusable = matches!(end, End::Left) && relay.leaves_clean() && self.may_be_reused(door);
        let words = relay.last_words(&end);
        let mut said = BytesMut::new();
        match &words {
            Some(Words::Ours(refusal)) => end_session(door, &mut said, &self.seat, refusal),
            Some(Words::TheServers) => said.extend_from_slice(&relay.fatal),
            None => {}
        }
        let told = match words {
            Some(Words::Ours(refusal)) => Some(refusal),
            Some(Words::TheServers) | None => None,
        };
        if matches!(end, End::Stalled) {
            count_stalled(door, &self.seat);
        }
        let tell_client = !matches!(end, End::ClientLost(_) | End::Stalled);
        let Self { mut client, server, seat, cancel } = *self;
        drop(cancel);
        match &end {
            End::Client | End::Server => server.closed(),
            End::Left if reusable => server.recycle(),
            End::ClientLost(_)
            | End::ServerLost(_)
            | End::Superseded
            | End::Ordered(_)
            | End::Stalled
            | End::Abandoned
            | End::WantsDatabase
            | End::Leaving
            | End::Left => {
                drop(server);
            }
        }
        if tell_client {
            Box::pin(close(&mut client, &said)).await;
        }
        let ending = Ending { reason: end.reason(), error: end.error(), told: told.as_ref() };
        log_end(&seat, began.elapsed(), &ending);
    }

    /// Whether the service still wants connections to be used again, and no
    /// cancel request is on its way to this one.
    fn may_be_reused(&self, door: &FrontDoor) -> bool {
        let service = door.directory.service(&self.seat.occupant.endpoint.service);
        let wanted = service.is_some_and(|service| {
            service.nodes.first().is_some_and(|node| node.pooling.session_reuse)
        });
        let target = self.cancel.as_ref().map(Registration::target);
        wanted && target.is_none_or(|target| target.aim_at_nothing().is_none())
    }

    async fn cancel_abandoned(server: &ServerConnection, door: &FrontDoor) {
        if let Some(backend) = server.backend().filter(|_| !server.is_superseded()) {
            let deadline = Instant::now() + ABANDONED_QUERY;
            let _ = cancel(&door.dialer, backend, deadline).await;
        }
    }
}

/// What one session's relay remembers between two polls.
struct Relay<'a> {
    seat: &'a Seat,
    conversation: Conversation,
    /// What may have been committed.
    stakes: Stakes,
    /// What the server said before it closed.
    fatal: Vec<u8>,
    /// Of a connection that may be used again.
    watch: Option<Box<Watch>>,
    from_client: Direction,
    from_server: Direction,
    client_side: ClientSide,
    bulk: Bulk,
    server_told: bool,
    leaving: bool,
    wants_database: bool,
    /// The command that wants a database to itself, while it is run.
    making_way: Option<Arc<[u8]>>,
}

/// Whether the client may still send.
enum ClientSide {
    Open,
    /// The client has closed it. The timer runs while a query goes on.
    Closed {
        timer: Option<Pin<Box<Sleep>>>,
        cancelled: bool,
    },
}

impl ClientSide {
    fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

/// One direction's message boundaries.
#[derive(Default)]
struct Direction {
    scanner: Scanner,
    /// The stream stopped making sense; whoever receives it will say so.
    garbled: bool,
}

impl<'a> Relay<'a> {
    fn new(seat: &'a Seat, watch: Option<Box<Watch>>) -> Self {
        Self {
            seat,
            conversation: Conversation::after_login(),
            stakes: Stakes::default(),
            fatal: Vec::new(),
            watch,
            from_client: Direction::default(),
            from_server: Direction::default(),
            client_side: ClientSide::Open,
            bulk: Bulk::default(),
            server_told: false,
            leaving: false,
            wants_database: false,
            making_way: None,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        server: &mut ServerConnection,
    ) -> Poll<End> {
        self.seat.listen(cx.waker());
        let moved =
            SCRATCH_BUFFER.with_borrow_mut(|scratch| self.shuttle(cx, client, server, scratch));
        self.note_activity();
        if client.has_unsent() {
            self.seat.stalled();
        }
        match moved {
            Err(end) => Poll::Ready(end),
            Ok(()) if std::mem::take(&mut self.wants_database) => Poll::Ready(End::WantsDatabase),
            Ok(()) if self.is_left_to_the_closer(client) => Poll::Ready(End::Left),
            Ok(()) if self.begins_to_leave() => Poll::Ready(End::Leaving),
            Ok(()) => match self.ordered() {
                Some(end) => Poll::Ready(end),
                None => self.poll_abandoned(cx),
            },
        }
    }

    /// Moves bytes both ways until neither side has any, or others should get
    /// their turn.
    fn shuttle(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        server: &mut ServerConnection,
        scratch: &mut [u8],
    ) -> Result<(), End> {
        for _ in 0..READS_PER_POLL {
            if server.is_superseded() {
                return Err(End::Superseded);
            }
            let server = server.connection();
            // The server first: what it said before it closed is the answer to
            // what the client says now.
            let down = self.feed_client(cx, client, server, scratch)?;
            let up = self.feed_server(cx, client, server, scratch)?;
            if !up && !down {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One read from the client; whether anything was moved.
    fn feed_server(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        server: &mut Connection,
        scratch: &mut [u8],
    ) -> Result<bool, End> {
        if server.has_unsent() && !sent(server.poll_send(cx)).map_err(End::ServerLost)? {
            return Ok(false);
        }
        if self.watch.as_ref().is_some_and(|watch| watch.has_left_clean()) {
            return Ok(false);
        }
        // Behind a FATAL nothing is run any more: the answer is what was said.
        if !self.fatal.is_empty() {
            return Ok(false);
        }
        if self.client_side.is_closed() {
            return self.tell_server(cx, server);
        }
        if !client.input.is_empty() {
            let early = std::mem::take(&mut client.input);
            self.forward_to_server(cx, client, server, &early)?;
            return Ok(true);
        }
        match client.poll_fill(cx, scratch) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.client_side = ClientSide::Closed { timer: None, cancelled: false };
                Ok(true)
            }
            Poll::Ready(Ok(read)) => {
                self.forward_to_server(cx, client, server, &scratch[..read])?;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(End::ClientLost(error)),
        }
    }

    fn forward_to_server(
        &mut self,
        cx: &mut Context<'_>,
        client: &Connection,
        server: &mut Connection,
        bytes: &[u8],
    ) -> Result<(), End> {
        self.seat.add_received(bytes.len());
        if self.from_client.is_fresh() && begins_with_database_command(bytes) {
            self.wants_database = true;
            self.making_way = Some(bytes.into());
        }
        let (conversation, stakes) = (&mut self.conversation, &mut self.stakes);
        let (watch, mut forwarded) = (&mut self.watch, bytes.len());
        self.from_client.scan(bytes, |head, rest| {
            if let Some(watch) = watch {
                if watch.has_left_clean() {
                    return;
                }
                // Terminate is kept back where the server is still needed.
                let at = (bytes.len() - rest.len()).checked_sub(HEADER);
                let ends = head.kind == b'X' && head.length == 0 && conversation.is_idle();
                if let Some(at) = at.filter(|_| ends && !client.has_unsent() && watch.leave()) {
                    forwarded = at;
                }
                watch.sent(head, rest);
            }
            stakes.sent_with(conversation.group(), head, rest);
            conversation.from_client(head.kind);
        });
        server.push(cx, &bytes[..forwarded]).map_err(End::ServerLost)
    }

    /// Passes the client's FIN on, once everything before it is sent.
    fn tell_server(&mut self, cx: &mut Context<'_>, server: &mut Connection) -> Result<bool, End> {
        if !self.server_told {
            match server.poll_close(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(closed) => closed.map_err(End::ServerLost)?,
            }
            self.server_told = true;
        }
        Ok(false)
    }

    /// One read from the server; whether anything was moved.
    fn feed_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        server: &mut Connection,
        scratch: &mut [u8],
    ) -> Result<bool, End> {
        if client.has_unsent() {
            if !sent(client.poll_send(cx)).map_err(End::ClientLost)? {
                return Ok(false);
            }
            self.seat.unstalled();
        }
        if !server.input.is_empty() {
            let early = std::mem::take(&mut server.input);
            self.forward_to_client(cx, client, &early)?;
            return Ok(true);
        }
        match server.poll_fill(cx, scratch) {
            Poll::Pending => {
                self.bulk.wait(cx, server);
                Ok(false)
            }
            Poll::Ready(Ok(0)) => Err(self.server_closed()),
            Poll::Ready(Ok(read)) => {
                self.forward_to_client(cx, client, &scratch[..read])?;
                self.bulk.came(read, self.conversation.is_quiet(), server);
                Ok(true)
            }
            // A reset may come from anything in between: only the closer finds
            // out whether the backend is gone.
            Poll::Ready(Err(error)) if self.has_left() => Err(End::ClientLost(error)),
            Poll::Ready(Err(error)) => Err(End::ServerLost(error)),
        }
    }

    fn server_closed(&self) -> End {
        if self.has_left() { End::Client } else { End::Server }
    }

    /// Whether the client has said that it goes.
    fn has_left(&self) -> bool {
        self.conversation.is_terminated() || self.client_side.is_closed()
    }

    fn forward_to_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        bytes: &[u8],
    ) -> Result<(), End> {
        let answered = self.conversation.answering();
        let (conversation, stakes) = (&mut self.conversation, &mut self.stakes);
        let (watch, mut fatal) = (&mut self.watch, None);
        self.from_server.scan(bytes, |head, rest| {
            if head.kind == b'E' && is_fatal(rest) {
                fatal = (bytes.len() - rest.len()).checked_sub(HEADER);
            }
            if let Some(watch) = watch {
                watch.heard(head, rest);
            }
            if fatal.is_none() {
                let answering = conversation.answering();
                let swallowed = conversation.from_server(head);
                stakes.heard(answering, head.kind, swallowed, conversation.answering());
            }
        });
        if self.conversation.answering() != answered {
            self.seat.answered(self.conversation.status() == TransactionStatus::Idle);
            self.making_way = None;
        }
        // What the server says before it closes waits until it has closed.
        let (bytes, last) = bytes.split_at(fatal.unwrap_or(bytes.len()));
        self.fatal.extend_from_slice(last);
        self.seat.add_sent(bytes.len());
        client.push(cx, bytes).map_err(End::ClientLost)
    }

    fn note_activity(&self) {
        let activity = match (self.conversation.is_quiet(), self.conversation.status()) {
            (false, _) => Activity::Active,
            (true, TransactionStatus::Idle) => Activity::Idle,
            (true, _) => Activity::IdleInTransaction,
        };
        self.seat.set_activity(activity);
    }

    /// Whether the session has been told to leave, and now is the time.
    fn ordered(&self) -> Option<End> {
        match self.seat.overdue() {
            None => {}
            Some(Overdue::Write) => return Some(End::Stalled),
            Some(overdue) => return Some(End::Ordered(Refusal::Overdue(overdue))),
        }
        let order = self.seat.order();
        let now = match order {
            Order::Drain => self.is_idle(),
            Order::None => false,
            Order::Leave | Order::NotPermitted => true,
        };
        order.refusal().filter(|_| now).map(End::Ordered)
    }

    /// The client has gone and is owed nothing: what is left of the connection
    /// is the closer's work, which does not wait for ever (decision 8).
    fn is_left_to_the_closer(&self, client: &Connection) -> bool {
        self.has_left() && self.conversation.is_quiet() && !client.has_unsent()
    }

    /// Whether its connection is fit for another session, once it is reset.
    fn leaves_clean(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.has_left_clean())
            && self.fatal.is_empty()
            && self.from_server.is_fresh()
    }

    /// True once: when the client has said Terminate or closed.
    fn begins_to_leave(&mut self) -> bool {
        let leaves = self.has_left();
        leaves && !std::mem::replace(&mut self.leaving, leaves)
    }

    fn is_idle(&self) -> bool {
        self.conversation.is_idle()
            && !self.from_client.garbled
            && self.from_client.scanner.at_boundary()
    }

    /// A query whose client has closed may go on for a moment, and is cancelled
    /// then; what came behind it, for another moment.
    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let ClientSide::Closed { timer, cancelled } = &mut self.client_side else {
            return Poll::Pending;
        };
        if self.conversation.is_quiet() || self.conversation.is_terminated() {
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(ABANDONED_QUERY)));
        match timer.as_mut().poll(cx) {
            // It was cancelled and goes on: the closer insists.
            Poll::Ready(()) if *cancelled => Poll::Ready(End::Left),
            Poll::Ready(()) => {
                *cancelled = true;
                timer.as_mut().reset(Instant::now() + ABANDONED_QUERY);
                Poll::Ready(End::Abandoned)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the client is told that did not end the session itself, unless the
    /// server has told it, or is in the middle of a message.
    fn last_words(&self, end: &End) -> Option<Words> {
        let can_tell = self.from_server.scanner.at_boundary()
            && !self.from_server.garbled
            // PostgreSQL says nothing to who breaks the protocol.
            && !self.from_client.garbled
            && !self.client_side.is_closed();
        let refusal = match end {
            End::Client
            | End::ClientLost(_)
            | End::Stalled
            | End::Abandoned
            | End::WantsDatabase
            | End::Leaving
            | End::Left => None,
            End::Ordered(refusal) => Some(Words::Ours(refusal.clone())),
            End::Server | End::ServerLost(_) | End::Superseded => return self.loss(can_tell),
        };
        refusal.filter(|_| can_tell)
    }

    fn loss(&self, can_tell: bool) -> Option<Words> {
        let prospect = self.stakes.prospect(&self.conversation);
        let sqlstate = self.fatal.get(HEADER..).and_then(|body| error_field(body, b'C'));
        let fatal = sqlstate.map(Fatal::of);
        let loss = Loss { mode: PoolMode::Session, pins: Pins::NONE, prospect: &prospect, fatal };
        match judge(&loss) {
            Verdict::Ends(words) => Some(words).filter(|_| can_tell),
            Verdict::GoesOn(_) => None,
        }
    }
}

impl Direction {
    /// Whether a message begins with the next byte.
    fn is_fresh(&self) -> bool {
        !self.garbled && self.scanner.at_boundary()
    }

    #[inline]
    fn scan(&mut self, bytes: &[u8], found: impl FnMut(Head, &[u8])) {
        if !self.garbled {
            self.garbled = self.scanner.scan_bodies(bytes, found).is_err();
        }
    }
}

/// Whether a Query, or a Parse of an unnamed statement, that wants a database to
/// itself stands at the front.
fn begins_with_database_command(bytes: &[u8]) -> bool {
    match bytes {
        [b'Q', _, _, _, _, text @ ..] | [b'P', _, _, _, _, 0, text @ ..] => {
            wants_database_alone(text)
        }
        _ => false,
    }
}

/// Whether everything is sent.
fn sent(poll: Poll<io::Result<()>>) -> io::Result<bool> {
    match poll {
        Poll::Ready(Ok(())) => Ok(true),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(false),
    }
}

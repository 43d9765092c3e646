//! The relay of a pooled client: one poll function over its connection and,
//! while it has one, its server connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::aftermath::{LostBlock, Unsent};
use super::downward::{self, Downward};
use super::errand::{Errand, Underway};
use super::expected::Expected;
use super::upward::{self, Skipping, Upward};
use super::{Member, Pooled};
use crate::directory::roster::{Activity, Order};
use crate::domain::Refusal;
use crate::domain::refusal::{Overdue, ServerLoginFailure};
use crate::net::Connection;
use crate::pool::PooledServer;
use crate::pool::keeper::is_silent;
use crate::pool::slots::Waiting;
use crate::session::authenticate::{MAX_EARLY_INPUT, unless_gone};
use crate::session::bulk::Bulk;
use crate::session::farewell::{
    Ending, LAST_WORDS, count_stalled, end_session, log_end, statement_refused,
};
use crate::session::loss::{Verdict, Words, judge};
use crate::session::stakes::{Prospect, Stakes};
use crate::session::{Departure, FrontDoor};
use crate::state::audit::{self, Belief};
use crate::state::carried::put_literal;
use crate::wire::answer;
use crate::wire::conversation::{Conversation, TransactionStatus};
use crate::wire::frame::HEADER;
use crate::wire::login::error_field;

const SCRATCH: usize = 64 * 1024;
const READS_PER_POLL: usize = 16;
/// How long a query may go on whose client has closed its side.
const ABANDONED_QUERY: Duration = Duration::from_secs(2);
/// Between two looks at whether a cancel request is still under way.
const CANCEL_TICK: Duration = Duration::from_millis(2);
/// The longest message that is awaited whole before a connection is leased.
const LONGEST_AWAITED: usize = 16 * 1024;

/// What a worker thread lends to the poll that runs on it.
struct Buffers {
    scratch: Box<[u8]>,
    out: BytesMut,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { scratch: vec![0; SCRATCH].into(), out: BytesMut::new() });
}

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    Client,
    Abandoned,
    ClientLost(io::Error),
    Server,
    ServerLost(io::Error),
    Superseded,
    Preparation,
    Ordered(Refusal),
    Stalled,
    Answered(Bytes),
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
    conversation: Conversation,
    expected: Expected,
    upward: Upward,
    downward: Downward,
    bulk: Bulk,
    /// What may have been committed.
    stakes: Stakes,
    /// The block of which the connection was lost.
    pub(super) block: LostBlock,
    /// Set while what the client sent is thrown away up to its Sync.
    pub(super) skipping: Option<Skipping>,
    client_closed: bool,
    /// The connection was waited for: what the client believes of its settings
    /// is not yet made true on it.
    unprepared: bool,
    /// What Postern has asked for itself: until it is answered nothing of the
    /// client is sent.
    errand: Option<Box<Underway>>,
    abandoned: Option<Pin<Box<Sleep>>>,
}

impl Pooled {
    /// Serves the client until it goes or is sent away.
    pub async fn serve(mut self, door: &FrontDoor) {
        let began = Instant::now();
        let mut relay = Relay::default();
        let end = loop {
            let step =
                poll_fn(|cx| relay.poll(cx, &mut self.connection, &mut self.member, door)).await;
            match step {
                Step::End(end) => {
                    if let Err(end) = Box::pin(self.survive(&mut relay, door, end)).await {
                        break end;
                    }
                }
                Step::LostBlock => {
                    if let Err(end) = Box::pin(self.answer_lost_block(&mut relay, door)).await {
                        break end;
                    }
                }
                Step::NeedsServer => {
                    if let Err(end) = Box::pin(self.bring_server(&mut relay, door)).await {
                        break end;
                    }
                }
                Step::NotReplayed(error) => {
                    relay.give_back(&mut self.member);
                    let say = |out: &mut BytesMut| out.extend_from_slice(&error);
                    if let Err(error) =
                        Box::pin(answer_all(&mut self.connection, &mut relay, say)).await
                    {
                        break End::ClientLost(error);
                    }
                }
            }
        };
        // What is rare is boxed: every idle client pays for the size of this.
        Box::pin(self.farewell(relay, door, end, began)).await;
    }

    /// Leases a connection for what the client has said; a refusal is its
    /// answer, and its session goes on (decision 29).
    async fn bring_server(&mut self, relay: &mut Relay, door: &FrontDoor) -> Result<(), End> {
        self.member.seat.set_activity(Activity::Waiting);
        let Ok(leased) = self.lease(door, relay.waiting.take()).await else {
            return Err(End::Client);
        };
        let _ = self.member.target.aim_at_nothing();
        match leased {
            Ok(server) => {
                let mut reports = BytesMut::new();
                self.member.put_standing(&mut reports);
                self.connection.queue(&reports);
                relay.begin(server);
                relay.unprepared = true;
                Ok(())
            }
            Err(Departure::Refused(refusal)) if keeps_session(&refusal) => {
                self.refuse(relay, door, &refusal).await.map_err(End::ClientLost)
            }
            Err(Departure::Refused(refusal)) => Err(End::Ordered(refusal)),
            Err(Departure::Answered(messages)) => Err(End::Answered(messages)),
            Err(Departure::Silent(_)) => Err(End::Client),
        }
    }

    /// Waits for a connection, which the client is told if it takes long. Fails
    /// if the client goes.
    async fn lease(
        &mut self,
        door: &FrontDoor,
        queued: Option<Waiting>,
    ) -> Result<Result<Box<PooledServer>, Departure>, Departure> {
        let notify = self.member.notify_after(door);
        let connection = &mut self.connection;
        let mut leased = pin!(self.member.lease(door, queued));
        let soon = unless_gone(connection, timeout(notify, &mut leased)).await?;
        if let Ok(leased) = soon {
            return Ok(leased);
        }
        tell_of_the_wait(connection).await;
        unless_gone(connection, leased).await
    }

    async fn refuse(
        &mut self,
        relay: &mut Relay,
        door: &FrontDoor,
        refusal: &Refusal,
    ) -> io::Result<()> {
        let seat = &self.member.seat;
        let say = |out: &mut BytesMut| statement_refused(door, out, seat, refusal);
        answer_all(&mut self.connection, relay, say).await
    }

    async fn farewell(self, mut relay: Relay, door: &FrontDoor, end: End, began: Instant) {
        let words = self.last_words(&relay, &end);
        let Self { mut connection, mut member, registration } = self;
        drop(registration);
        let told = match &words {
            Some(Words::Ours(refusal)) => Some(refusal.clone()),
            Some(Words::TheServers) | None => None,
        };
        relay.let_go(&mut member, &end);
        let mut said = BytesMut::new();
        match (&end, &told) {
            (End::Stalled, _) => count_stalled(door, &member.seat),
            (End::Answered(messages), _) => said.extend_from_slice(messages),
            _ if words == Some(Words::TheServers) => {
                said.extend_from_slice(relay.downward.fatal.as_deref().unwrap_or_default());
            }
            (_, Some(refusal)) => end_session(door, &mut said, &member.seat, refusal),
            _ => {}
        }
        if !matches!(end, End::ClientLost(_) | End::Stalled) {
            let close = async {
                connection.send(&said).await?;
                connection.close().await
            };
            let _ = timeout(LAST_WORDS, close).await;
        }
        let ending = Ending { reason: end.reason(), error: end.error(), told: told.as_ref() };
        log_end(&member.seat, began.elapsed(), &ending);
    }
}

/// Tells a client that it waits, as far as its socket takes that at once; the
/// relay sends the rest.
async fn tell_of_the_wait(connection: &mut Connection) {
    let mut out = BytesMut::new();
    answer::notice(&mut out, "waiting for a server connection: all of them are in use");
    connection.queue(&out);
    poll_fn(|cx| {
        let _ = connection.poll_send(cx);
        Poll::Ready(())
    })
    .await;
}

/// Answers every group that the client has sent by what `say` says (decision
/// 29).
async fn answer_all(
    connection: &mut Connection,
    relay: &mut Relay,
    say: impl Fn(&mut BytesMut),
) -> io::Result<()> {
    let mut skipping = Skipping::default();
    let groups = skipping.skip(&mut connection.input);
    let mut out = BytesMut::new();
    for _ in 0..groups {
        say(&mut out);
        answer::ready_in(&mut out, relay.block.status());
    }
    if skipping.awaits_sync() {
        say(&mut out);
    }
    relay.skipping = Some(skipping).filter(Skipping::is_under_way);
    connection.send(&out).await
}

/// Whether the client may try again in the same session.
fn keeps_session(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::QueueTimeout { .. } | Refusal::CanceledWhileWaiting | Refusal::NoPrimary { .. }
    )
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Client | Self::Abandoned => "client closed",
            Self::ClientLost(_) => "client lost",
            Self::Server => "server closed",
            Self::ServerLost(_) | Self::Preparation => "server lost",
            Self::Superseded => "another primary",
            Self::Ordered(_) => "ended by the proxy",
            Self::Stalled => "client does not read",
            Self::Answered(_) => "refused by the server",
        }
    }

    fn error(&self) -> Option<&io::Error> {
        match self {
            Self::ClientLost(error) | Self::ServerLost(error) => Some(error),
            _ => None,
        }
    }
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
        let moved = BUFFERS.with_borrow_mut(|buffers| {
            let moved = self.shuttle(cx, client, member, door, buffers);
            buffers.out.clear();
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

    fn shuttle(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        member: &mut Member,
        door: &FrontDoor,
        buffers: &mut Buffers,
    ) -> Result<(), Step> {
        for _ in 0..READS_PER_POLL {
            let moved = if self.server.is_some() {
                self.exchange(cx, client, member, door, buffers)?
            } else if self.waiting.is_some() {
                self.wait(cx, client, member, buffers)?
            } else {
                self.listen(cx, client, member, door, buffers)?
            };
            if !moved {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Without a server connection: reads the client, and leases one when it
    /// has said something. Returns whether anything was done.
    fn listen(
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
    fn wait(
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
    fn is_worth_a_lease(&self, bytes: &[u8]) -> bool {
        self.skipping.is_none()
            && bytes.len() >= HEADER
            && bytes.len() >= message_length(bytes).min(LONGEST_AWAITED)
    }

    /// Throws away what belongs to a batch that was refused.
    fn skip(&mut self, client: &mut Connection) {
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

    fn begin(&mut self, mut server: Box<PooledServer>) {
        self.conversation = Conversation::after_login();
        self.stakes.begin();
        server.lend();
        self.server = Some(server);
    }

    /// A connection is the client's now: what it believes of its settings is
    /// made true ahead of its first message, which `bytes` begin with.
    fn prepare(&mut self, member: &mut Member, bytes: &[u8], out: &mut BytesMut) {
        let Some(server) = &mut self.server else { return };
        member.target.aim_at(server.server().backend());
        let pooling = &server.server().node().pooling;
        let state = &mut member.state;
        state.unwanted = pooling.refused_pins;
        if pooling.audit_every.is_some() != state.fingerprint.is_some() {
            state.fingerprint = pooling.audit_every.map(|_| String::new());
        }
        if state.reports.replay(&server.reports, out) {
            server.statements.unnamed = None;
            self.expected.silence_vital(self.conversation.group());
            self.conversation.from_client(b'Q');
        }
        if state.carried.is_same(&server.carried) {
            return;
        }
        let wanted = state.wanted(bytes);
        let mut sql = BytesMut::new();
        if wanted.replay(&server.carried, &mut sql) {
            self.send(Errand::Replay(wanted), &sql, out);
        } else {
            server.carried = wanted;
        }
    }

    /// Asks what has become of the session, if its transaction is over and
    /// may have changed it; or puts back what has no other way. Returns
    /// whether there is an errand now.
    fn ask(&mut self, member: &mut Member, out: &mut BytesMut) -> bool {
        let Some(server) = &self.server else { return false };
        let state = &mut member.state;
        let mut sql = BytesMut::new();
        let errand = if let Some(name) = state.lost_name(&server.first_reports) {
            put_name(&name, &mut sql);
            Errand::Name
        } else if self.conversation.is_idle() && state.has_questions() {
            let question = state.question();
            question.put_sql(&mut sql);
            Errand::Reading(question)
        } else {
            return false;
        };
        if sql.is_empty() {
            self.settle(member, &errand, None);
            return false;
        }
        self.send(errand, &sql, out);
        true
    }

    /// An errand is over: what it says holds from now on.
    fn finish(&mut self, member: &mut Member, door: &FrontDoor) -> Result<(), Step> {
        let Some(done) = self.errand.take_if(|errand| errand.is_over()) else { return Ok(()) };
        let Underway { errand, row, error, .. } = *done;
        match (errand, error) {
            (Errand::Replay(_), Some(error)) => {
                member.state.is_refused = true;
                return Err(Step::NotReplayed(error));
            }
            (Errand::Replay(wanted), None) => {
                member.state.is_refused = false;
                member.state.carry(wanted.clone());
                if let Some(server) = &mut self.server {
                    server.carried = wanted;
                }
            }
            (Errand::Audit, _) => self.judge(member, door, row.as_deref()),
            (errand, _) => self.settle(member, &errand, row.as_deref()),
        }
        Ok(())
    }

    /// Sends a query of Postern's own. It puts an end to the unnamed statement,
    /// as every simple query does.
    fn send(&mut self, errand: Errand, sql: &[u8], out: &mut BytesMut) {
        let (conversation, expected) = (&mut self.conversation, &mut self.expected);
        self.errand = Some(Underway::send(errand, sql, conversation, expected, out));
        if let Some(server) = &mut self.server {
            server.statements.unnamed = None;
        }
    }

    fn settle(&mut self, member: &mut Member, errand: &Errand, row: Option<&[u8]>) {
        let (Errand::Reading(question), Some(server)) = (errand, &mut self.server) else { return };
        member.state.settle(question, row);
        server.carried = member.state.carried.clone();
    }

    /// With a server connection: one read from each side.
    fn exchange(
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

    /// Asks what is really left on the connection, if it is its turn. Returns
    /// whether there is an errand now.
    fn audit(&mut self, out: &mut BytesMut) -> bool {
        let Some(server) = &mut self.server else { return false };
        if std::mem::take(&mut server.audit_due) {
            let mut sql = BytesMut::new();
            audit::put_sql(&mut sql);
            self.send(Errand::Audit, &sql, out);
        }
        self.errand.is_some()
    }

    /// The server has answered an audit: a connection that is not as it is
    /// believed to be goes to nobody.
    fn judge(&mut self, member: &Member, door: &FrontDoor, row: Option<&[u8]>) {
        let Some(server) = &self.server else { return };
        let service = &member.seat.occupant.endpoint.service;
        let (carried, statements) = (&server.carried, &server.statements);
        let login = member.seat.occupant.role.as_bytes();
        let belief = Belief { login, carried, statements };
        let Some(row) = row else {
            // Cancelled, or a setting of the client's kept it from running.
            return;
        };
        let differences = audit::differences(row, &belief);
        door.metrics.audited(service, differences.is_empty());
        if !differences.is_empty() {
            tracing::warn!(
                %service, differences = differences.join(", "),
                statement = member.state.fingerprint.as_deref(),
                "a server connection was not as it was believed to be, and is closed",
            );
            let _ = member.target.aim_at_nothing();
            self.server = None;
        }
    }

    /// Tells of what keeps the connection, and of what was refused, since the
    /// last time.
    fn note_pins(member: &mut Member, door: &FrontDoor) {
        let service = &member.seat.occupant.endpoint.service;
        let pins = member.state.pins;
        for reason in pins.except(member.seat.pins()).iter() {
            door.metrics.pinned(service, reason);
        }
        member.seat.set_pins(pins);
        for reason in std::mem::take(&mut member.state.refused).iter() {
            door.metrics.refused(Some(service), Refusal::StateRefused { reason }.answer().label);
        }
    }

    fn up(
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

    fn send_up(
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
    fn push_up(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let pushed = server.server().connection().push(cx, out);
        out.clear();
        pushed.map_err(End::ServerLost)
    }

    fn down(
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

    /// Whether everything is said and answered, perhaps inside a block.
    fn is_at_rest(&self) -> bool {
        self.conversation.is_quiet()
            && self.errand.is_none()
            && !self.unprepared
            && self.expected.is_empty()
            && self.upward.is_between_messages()
            && self.downward.is_between_messages()
            && !self.upward.is_garbled()
    }

    /// Whether nothing of this client is left on the connection that the next
    /// would not be told of.
    fn is_done(&self, member: &Member) -> bool {
        self.conversation.is_idle() && self.is_at_rest() && member.state.pins.is_empty()
    }

    fn give_back(&mut self, member: &mut Member) {
        let Some(mut server) = self.server.take() else { return };
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
    pub(super) fn prospect(&self) -> Prospect {
        let mut prospect = self.stakes.prospect(&self.conversation);
        prospect.groups.retain(|group| self.expected.hears(group.number));
        prospect
    }

    /// Whether the client is where it can hear an error.
    pub(super) fn can_tell(&self) -> bool {
        self.downward.is_between_messages() && !self.upward.is_garbled() && !self.client_closed
    }

    /// The SQLSTATE of the server's last words.
    pub(super) fn fatal(&self) -> Option<&[u8]> {
        let fatal = self.downward.fatal.as_deref()?;
        error_field(fatal.get(HEADER..)?, b'C')
    }

    /// Forgets the connection that was lost, and what was owed on it.
    pub(super) fn forget(&mut self, member: &mut Member) -> Unsent {
        let (input, discarded) = self.upward.break_off();
        self.expected.break_off(&mut member.state.statements);
        self.conversation = Conversation::after_login();
        self.stakes.begin();
        self.downward = Downward::default();
        self.unprepared = false;
        self.errand = None;
        Unsent { input, discarded }
    }

    /// The session is over, or goes on without this connection, which goes
    /// back if it is clean.
    pub(super) fn let_go(&mut self, member: &mut Member, end: &End) {
        let clean = self.conversation.is_idle() && self.is_done(member);
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
                let busy = !self.conversation.is_quiet();
                let _ = member.target.aim_at_nothing();
                if let Some(mut server) = self.server.take() {
                    server.server().set_busy(busy);
                }
            }
        }
    }

    fn note_activity(&self, member: &Member) {
        let activity = match self.conversation.status() {
            _ if self.waiting.is_some() => Activity::Waiting,
            _ if self.server.is_none() => Activity::Idle,
            _ if !self.conversation.is_quiet() => Activity::Active,
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
            Order::Drain => self.server.is_none() || self.conversation.is_idle(),
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

impl Pooled {
    fn last_words(&self, relay: &Relay, end: &End) -> Option<Words> {
        let words = match end {
            End::Client | End::Abandoned | End::ClientLost(_) | End::Stalled | End::Answered(_) => {
                return None;
            }
            End::Ordered(refusal) => Words::Ours(refusal.clone()),
            End::Preparation => Words::Ours(Refusal::ServerLogin(ServerLoginFailure::Broken)),
            End::Server | End::ServerLost(_) | End::Superseded => {
                let prospect = relay.prospect();
                match judge(&self.loss(relay, &prospect)) {
                    Verdict::Ends(words) => words,
                    Verdict::GoesOn(_) => return None,
                }
            }
        };
        Some(words).filter(|_| relay.can_tell())
    }
}

/// The statement that gives a client its own `application_name` back.
fn put_name(name: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"SET application_name TO ");
    put_literal(out, name);
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
    1 + u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

fn sent(poll: Poll<io::Result<()>>) -> io::Result<bool> {
    match poll {
        Poll::Ready(Ok(())) => Ok(true),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(false),
    }
}

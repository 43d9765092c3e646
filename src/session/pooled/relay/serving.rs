//! A pooled client from its login to its end: what its relay cannot do in a
//! poll function is done here.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};

use super::end::End;
use super::{Relay, Step};
use crate::directory::roster::{Activity, Seated};
use crate::domain::Refusal;
use crate::domain::refusal::ServerLoginFailure;
use crate::net::Connection;
use crate::pool::PooledServer;
use crate::pool::slots::Waiting;
use crate::session::authenticate::unless_gone;
use crate::session::farewell::{
    Ending, close, count_stalled, end_session, log_end, statement_refused,
};
use crate::session::loss::{Verdict, Words, judge};
use crate::session::pooled::Pooled;
use crate::session::pooled::skipping::Skipping;
use crate::session::{Departure, FrontDoor};
use crate::wire::answer;

/// What is left of a client at its end.
struct Parting {
    connection: Connection,
    seat: Seated,
    /// What it is still to hear.
    said: BytesMut,
    told: Option<Refusal>,
}

impl Parting {
    async fn conclude(self, end: End, began: Instant) {
        let Self { mut connection, seat, said, told } = self;
        if !matches!(end, End::ClientLost(_) | End::Stalled) {
            close(&mut connection, &said).await;
        }
        let ending = Ending { reason: end.reason(), error: end.error(), told: told.as_ref() };
        log_end(&seat, began.elapsed(), &ending);
    }
}

impl Pooled {
    /// Serves the client until it goes or is sent away.
    pub async fn serve(mut self: Box<Self>, door: &FrontDoor) {
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
        let parting = self.part(relay, door, &end);
        // What is rare is boxed: every idle client pays for the size of this.
        Box::pin(parting.conclude(end, began)).await;
    }

    /// Leases a connection for what the client has said; a refusal is its
    /// answer, and its session goes on (decision 29).
    pub(super) async fn bring_server(
        &mut self,
        relay: &mut Relay,
        door: &FrontDoor,
    ) -> Result<(), End> {
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
    pub(super) async fn lease(
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

    pub(super) async fn refuse(
        &mut self,
        relay: &mut Relay,
        door: &FrontDoor,
        refusal: &Refusal,
    ) -> io::Result<()> {
        let seat = &self.member.seat;
        let say = |out: &mut BytesMut| statement_refused(door, out, seat, refusal);
        answer_all(&mut self.connection, relay, say).await
    }

    /// Gives back whatever the client has, but its connection and its seat: it
    /// is there until it has heard the last.
    fn part(self: Box<Self>, mut relay: Relay, door: &FrontDoor, end: &End) -> Parting {
        let words = self.last_words(&relay, end);
        let Self { connection, mut member, registration } = *self;
        drop(registration);
        relay.let_go(&mut member, end);
        let mut said = BytesMut::new();
        let mut told = None;
        match (end, words) {
            (End::Stalled, _) => count_stalled(door, &member.seat),
            (End::Answered(messages), _) => said.extend_from_slice(messages),
            (_, Some(Words::TheServers)) => {
                said.extend_from_slice(relay.downward.fatal.as_deref().unwrap_or_default());
            }
            (_, Some(Words::Ours(refusal))) => {
                end_session(door, &mut said, &member.seat, &refusal);
                told = Some(refusal);
            }
            _ => {}
        }
        Parting { connection, seat: member.seat, said, told }
    }

    pub(super) fn last_words(&self, relay: &Relay, end: &End) -> Option<Words> {
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

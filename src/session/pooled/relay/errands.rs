//! What Postern itself says on a lent connection, before the client's first
//! message and after its last: settings made true and read back, audits.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Relay, Step};
use crate::domain::Refusal;
use crate::pool::PooledServer;
use crate::session::FrontDoor;
use crate::session::pooled::Member;
use crate::session::pooled::errand::{Errand, Underway};
use crate::session::pooled::pending::Pending;
use crate::state::Sequences;
use crate::state::audit::{self, Belief};
use crate::state::carried::put_literal;
use crate::state::reading::Unclear;
use crate::state::routines;
use crate::state::routines::catalog::Next;
use crate::state::routines::known::Asking;
use crate::wire::frame::HEADER;
use crate::wire::login::error_field;

impl Relay {
    pub(super) fn begin(&mut self, mut server: Box<PooledServer>) {
        self.pending.conversation.begin_again();
        self.pending.stakes.begin();
        server.come_here();
        server.lend();
        self.server = Some(server);
    }

    /// A connection is the client's now: what it believes of its settings is
    /// made true ahead of its first message, which `bytes` begin with.
    pub(super) fn prepare(&mut self, member: &mut Member, bytes: &[u8], out: &mut BytesMut) {
        let Some(server) = &mut self.server else { return };
        member.target.aim_at(server.server().backend());
        let state = &mut member.state;
        let process_id = u64::from(server.server().process_id());
        let only_each_other = server.clients.meet(state.id) & state.servers.meet(process_id);
        state.sequences = if only_each_other { Sequences::Own } else { Sequences::Strange };
        let pooling = server.pooling();
        state.unwanted = pooling.refused_pins;
        if pooling.audit_every.is_some() != state.fingerprint.is_some() {
            state.fingerprint = pooling.audit_every.map(|_| String::new());
        }
        if state.reports.replay(&server.reports, out) {
            server.statements.unnamed = None;
            self.pending.expected.silence_vital(self.pending.conversation.group());
            self.pending.conversation.from_client(b'Q');
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
    pub(super) fn ask(&mut self, member: &mut Member, out: &mut BytesMut) -> bool {
        let Some(server) = &self.server else { return false };
        let state = &mut member.state;
        let mut sql = BytesMut::new();
        let errand = if let Some(name) = state.lost_name(&server.first_reports) {
            put_name(&name, &mut sql);
            Errand::Name
        } else if self.pending.conversation.is_idle() && state.has_questions() {
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

    /// Before a transaction, which `bytes` begin: takes what is known of the
    /// routines that it may call, or asks for it. Returns whether there is an
    /// errand now.
    pub(super) fn ask_for_routines(
        &mut self,
        member: &mut Member,
        bytes: &[u8],
        out: &mut BytesMut,
    ) -> bool {
        let Some(server) = &self.server else { return false };
        // A script of definitions need not ask behind each of them.
        let asking = server.routines.ask().filter(|_| !defines_routine(bytes));
        let Some(asking) = asking else {
            member.state.routines = server.routines.current();
            return false;
        };
        self.send_asking(asking, out);
        true
    }

    fn send_asking(&mut self, asking: Asking, out: &mut BytesMut) {
        let mut sql = BytesMut::new();
        asking.inquiry.put_sql(&mut sql);
        self.send(Errand::Routines(asking), &sql, out);
    }

    /// An errand is over: what it says holds from now on. What follows it is
    /// put into `out`.
    pub(super) fn finish(
        &mut self,
        member: &mut Member,
        door: &FrontDoor,
        out: &mut BytesMut,
    ) -> Result<(), Step> {
        let Some(done) = self.pending.errand.take_if(|errand| errand.is_over()) else {
            return Ok(());
        };
        let Underway { errand, rows, error, .. } = *done;
        let row = rows.first();
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
            (Errand::Audit, _) => self.judge(member, door, row.map(|row| &**row)),
            (Errand::Routines(asking), error) => {
                self.hear_of_routines(member, asking, &rows, error.as_ref(), out);
            }
            (errand, _) => self.settle(member, &errand, row.map(|row| &**row)),
        }
        Ok(())
    }

    /// The server has told of routines: perhaps it must be asked who calls them.
    /// Where it does not tell, what was known before holds.
    fn hear_of_routines(
        &mut self,
        member: &Member,
        asking: Asking,
        rows: &[Bytes],
        error: Option<&Bytes>,
        out: &mut BytesMut,
    ) {
        let Some(server) = &self.server else { return };
        let ages = asking.ages();
        let next = asking.inquiry.hear(rows.iter().map(|row| &**row));
        let (known, trouble) = match next {
            _ if error.is_some() => (None, Some("PostgreSQL does not tell their sources")),
            Err(Unclear) => (None, Some("PostgreSQL's answer is not understood")),
            Ok(Next::Ask(inquiry)) => {
                return self.send_asking(Asking::again(inquiry, ages), out);
            }
            Ok(Next::Same) => (None, None),
            Ok(Next::Known(known, 0)) => (Some(known), None),
            Ok(Next::Known(known, _)) => (Some(known), Some("their sources are too many")),
        };
        if let Some(reason) = trouble
            && server.routines.is_first_trouble()
        {
            let service = &member.seat.occupant.endpoint.service;
            let answer = error.and_then(|error| error_field(error.get(HEADER..)?, b'M'));
            let answer = answer.map(String::from_utf8_lossy);
            tracing::warn!(
                %service, reason, answer = answer.as_deref(),
                "what some routines of a database leave on a connection is not seen",
            );
        }
        server.routines.answered(ages, known, Instant::now());
    }

    /// Sends a query of Postern's own. It puts an end to the unnamed statement,
    /// as every simple query does.
    pub(super) fn send(&mut self, errand: Errand, sql: &[u8], out: &mut BytesMut) {
        let Pending { conversation, expected, .. } = &mut self.pending;
        self.pending.errand = Some(Underway::send(errand, sql, conversation, expected, out));
        if let Some(server) = &mut self.server {
            server.statements.unnamed = None;
        }
    }

    pub(super) fn settle(&mut self, member: &mut Member, errand: &Errand, row: Option<&[u8]>) {
        let (Errand::Reading(question), Some(server)) = (errand, &mut self.server) else { return };
        member.state.settle(question, row);
        server.carried = member.state.carried.clone();
    }

    /// Asks what is really left on the connection, if it is its turn. Returns
    /// whether there is an errand now.
    pub(super) fn audit(&mut self, out: &mut BytesMut) -> bool {
        let Some(server) = &mut self.server else { return false };
        if std::mem::take(&mut server.audit_due) {
            let mut sql = BytesMut::new();
            audit::put_sql(&mut sql);
            self.send(Errand::Audit, &sql, out);
        }
        self.pending.errand.is_some()
    }

    /// The server has answered an audit: a connection that is not as it is
    /// believed to be goes to nobody.
    pub(super) fn judge(&mut self, member: &Member, door: &FrontDoor, row: Option<&[u8]>) {
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
    pub(super) fn note_pins(member: &mut Member, door: &FrontDoor) {
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
}

/// Whether a simple query with these first bytes defines a routine.
fn defines_routine(bytes: &[u8]) -> bool {
    let text = bytes.get(HEADER..).filter(|_| bytes[0] == b'Q');
    text.is_some_and(routines::defines_one)
}

/// The statement that gives a client its own `application_name` back.
fn put_name(name: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"SET application_name TO ");
    put_literal(out, name);
}

//! Before a client first asks what sequences have done on its connection:
//! nobody is told what others have done, nor what is out of date.

use super::run::Run;
use crate::session::pooled::pending::Exchange;
use crate::state::{Look, PinReason, Sequences};
use crate::wire::conversation::TransactionStatus;
use crate::wire::request::put_query;

/// Has PostgreSQL forget it, unless the client and the connection have had only
/// each other. Inside a transaction what that has done itself must stay, so
/// everything does.
pub(super) fn forget_sequences(look: &Look, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let Exchange { client, conversation, expected, .. } = exchange;
    let mut under_way = conversation.answering()..conversation.group();
    let asks = look.pins.contains(PinReason::Sequence) && client.sequences == Sequences::Strange;
    if asks
        && conversation.status() == TransactionStatus::Idle
        && !conversation.is_unsynced()
        && !under_way.any(|group| expected.hears(group))
    {
        client.sequences = Sequences::Own;
        expected.silence_vital(conversation.group());
        put_query(run.insert(), b"DISCARD SEQUENCES");
        conversation.from_client(b'Q');
        exchange.statements.unnamed = None;
    }
}

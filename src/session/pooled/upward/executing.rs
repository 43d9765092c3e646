//! SQL's `EXECUTE` of a statement that the protocol has prepared: such a one may
//! be any command, also another `EXECUTE`, or a `DEALLOCATE` of itself.

use bytes::Bytes;

use super::run::Run;
use super::texts::{Moment, follow, make_real, take_away};
use crate::session::pooled::client_state::ClientState;
use crate::session::pooled::pending::Exchange;
use crate::state::{Look, PinReason, StatementCommand};

/// Statements that run one another are followed so far.
const LONGEST_CHAIN: usize = 16;

/// SQL runs a statement, which may run another in turn. Each can only be
/// prepared where the one is that it runs.
pub(super) fn execute(name: &[u8], moment: Moment, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let names = chain(name, exchange.client);
    for name in names.iter().rev() {
        if moment != Moment::Before {
            exchange.client.expect_execute(name);
        }
        make_real(name, moment, exchange, run);
    }
    for command in commands_of(names.last(), exchange.client) {
        follow(&command, moment, exchange, run);
    }
}

/// A statement is bound that is what it looks: takes away what it will.
pub(super) fn take_bound(look: &Look, exchange: &mut Exchange<'_>) {
    for command in &look.statements {
        take_away(command, exchange);
        if let StatementCommand::Execute(name) = command {
            let names = chain(name.as_bytes(), exchange.client);
            for command in commands_of(names.last(), exchange.client) {
                take_away(&command, exchange);
            }
        }
    }
}

/// What the statement of this name says of others.
fn commands_of(name: Option<&Bytes>, client: &ClientState) -> Vec<StatementCommand> {
    let statement = name.and_then(|name| client.statements.get(name));
    let look = statement.and_then(|statement| statement.look.as_ref());
    look.map(|look| look.statements.clone()).unwrap_or_default()
}

/// The statements that an `EXECUTE` of this name runs, the one by the other.
fn chain(name: &[u8], client: &mut ClientState) -> Vec<Bytes> {
    let mut names = Vec::new();
    let mut next = Some(Bytes::copy_from_slice(name));
    // PostgreSQL itself goes in circles until its stack is full.
    while let Some(name) = next.filter(|name| !names.contains(name)) {
        if names.len() >= LONGEST_CHAIN {
            client.pins.insert(PinReason::Unparsed);
            break;
        }
        next = executed_by(&name, client).map(Bytes::copy_from_slice);
        names.push(name);
    }
    names
}

/// The statement that the one of this name runs, if that is what it does.
fn executed_by<'c>(name: &[u8], client: &'c ClientState) -> Option<&'c [u8]> {
    match &*client.statements.get(name)?.look.as_ref()?.statements {
        [StatementCommand::Execute(next)] => Some(next.as_bytes()),
        _ => None,
    }
}

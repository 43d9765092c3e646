//! SQL's `EXECUTE` of a statement that the protocol has prepared: such a one may
//! be any command, also another `EXECUTE`, or a `DEALLOCATE` of itself.

use bytes::Bytes;

use super::run::Run;
use super::texts::{follow, make_real};
use crate::session::pooled::client_state::ClientState;
use crate::session::pooled::pending::Exchange;
use crate::state::{PinReason, StatementCommand};

/// Statements that run one another are followed so far.
const LONGEST_CHAIN: usize = 16;

/// SQL runs a statement, which may run another in turn. Each can only be
/// prepared where the one is that it runs.
pub(super) fn execute(
    name: &[u8],
    simple: bool,
    run_now: bool,
    exchange: &mut Exchange<'_>,
    run: &mut Run<'_>,
) {
    let names = chain(name, exchange.client);
    for name in names.iter().rev() {
        if run_now {
            exchange.client.expect_execute(name);
        }
        make_real(name, simple, exchange, run);
    }
    let last = names.last().and_then(|name| exchange.client.statements.get(name)).cloned();
    let look = last.as_ref().and_then(|statement| statement.look.as_ref());
    for command in look.into_iter().flat_map(|look| &look.statements) {
        follow(command, simple, run_now, exchange, run);
    }
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

//! Makes the server fail in the place of a message that it must not get, so
//! that the rest of the batch is skipped as PostgreSQL skips it.

use crate::domain::SqlState;
use crate::domain::refusal::Answer;
use crate::session::pooled::expected::Owed;
use crate::session::pooled::pending::Exchange;
use crate::wire::request::put_describe;

use super::NOBODY;
use super::run::Run;

/// Makes the server fail at this place, and the client hear why.
pub(super) fn fail(answer: Answer, message: usize, exchange: &mut Exchange<'_>, run: &mut Run<'_>) {
    let group = exchange.conversation.group();
    let out = run.replace(message);
    put_describe(out, NOBODY);
    exchange.conversation.from_client(b'D');
    exchange.expected.push(group, Owed::Error(Box::new(answer)));
}

pub(super) fn already_exists(name: &[u8]) -> Answer {
    let name = String::from_utf8_lossy(name);
    plain(SqlState::DUPLICATE_STATEMENT, format!("prepared statement \"{name}\" already exists"))
}

pub(super) fn too_many_statements() -> Answer {
    let text = "this session has prepared more statements than it may";
    let mut answer = plain(SqlState::CONFIGURATION_LIMIT, text.to_owned());
    answer.hint = Some("Close statements that are not needed any more.".to_owned());
    answer
}

pub(super) fn plain(sqlstate: SqlState, message: String) -> Answer {
    Answer { sqlstate, message, detail: None, hint: None, label: "statement" }
}

//! PostgreSQL's own functions that leave something on the connection.
//!
//! A name counts whatever schema it is qualified with: who hides
//! `pg_advisory_lock` behind a function of his own is pinned in vain. What
//! functions of users do is found in their sources ([`routines`](super::routines)).
//!
//! Deliberately absent: the `_xact_` locks, which end with the transaction;
//! and `nextval`, `setval`, which matter only once `currval` or `lastval` asks.

use super::lexer::Token;
use crate::domain::PinReason;

/// The function that does what `SET` does; its arguments decide.
pub const SET_CONFIG: &str = "set_config";

/// Every other function, and the state that a call of it leaves.
const FUNCTIONS: [(&str, PinReason); 15] = [
    ("currval", PinReason::Sequence),
    ("lastval", PinReason::Sequence),
    ("pg_advisory_lock", PinReason::AdvisoryLock),
    ("pg_advisory_lock_shared", PinReason::AdvisoryLock),
    ("pg_try_advisory_lock", PinReason::AdvisoryLock),
    ("pg_try_advisory_lock_shared", PinReason::AdvisoryLock),
    ("pg_backup_start", PinReason::Backup),
    ("pg_start_backup", PinReason::Backup),
    // Their argument `temporary` makes a slot that ends with the session.
    ("pg_create_physical_replication_slot", PinReason::TemporaryObject),
    ("pg_create_logical_replication_slot", PinReason::TemporaryObject),
    ("pg_copy_physical_replication_slot", PinReason::TemporaryObject),
    ("pg_copy_logical_replication_slot", PinReason::TemporaryObject),
    ("pg_replication_origin_session_setup", PinReason::ReplicationOrigin),
    ("setseed", PinReason::Setting),
    (SET_CONFIG, PinReason::Setting),
];

/// Functions behind which such state may be gone.
const ENDS: [(&str, PinReason); 5] = [
    ("pg_advisory_unlock", PinReason::AdvisoryLock),
    ("pg_advisory_unlock_all", PinReason::AdvisoryLock),
    ("pg_advisory_unlock_shared", PinReason::AdvisoryLock),
    ("pg_drop_replication_slot", PinReason::TemporaryObject),
    ("pg_replication_origin_session_reset", PinReason::ReplicationOrigin),
];

/// What a call of the function leaves that this identifier means.
#[must_use]
pub fn pin_of_call(identifier: &Token) -> Option<PinReason> {
    FUNCTIONS.iter().find(|(name, _)| identifier.names(name)).map(|(_, reason)| *reason)
}

/// What a call of the function `word` leaves, in whatever case it is written.
#[must_use]
pub fn pin_of_word(word: &[u8]) -> Option<PinReason> {
    let found = FUNCTIONS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
    found.map(|(_, reason)| *reason)
}

/// What may be gone behind a call of the function that this identifier means.
#[must_use]
pub fn end_of_call(identifier: &Token) -> Option<PinReason> {
    ENDS.iter().find(|(name, _)| identifier.names(name)).map(|(_, reason)| *reason)
}

/// Whether a function `word`, in whatever case it is written, may end what it
/// or another has left.
#[must_use]
pub fn is_end(word: &[u8]) -> bool {
    ENDS.iter().any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
}

/// The names of them all.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().chain(&ENDS).map(|(name, _)| *name)
}

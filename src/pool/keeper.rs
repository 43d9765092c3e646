//! Looks after idle connections (decision 17): takes what servers say unasked,
//! drops those that have closed, and closes those that were idle or alive for
//! too long, or whose node has lost its role.
//!
//! One task for all nodes looks once a tick. It reads sockets only where the
//! runtime says that there is something to read, so a tick over connections
//! that are silent costs no system call; a lease looks the same way.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::ledger::PoolId;
use super::pooled::PooledServer;
use super::slots::Slots;
use super::spares::{Opener, replenish};
use crate::directory::{Directory, Roster};
use crate::wire::frame::Scanner;

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);
/// The most that a connection may say that should be silent.
const MOST_SAID: usize = 64 * 1024;

/// Looks after the idle connections of all nodes until it is dropped.
pub async fn keep(slots: Slots, directory: Arc<Directory>, opener: Opener) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        for node in slots.all() {
            let deserted = node.deserted();
            node.close_idle(|server| !is_usable(server, now, &deserted));
            node.forget_unused();
            node.age_routines(now);
            if let Some(since) = now.checked_sub(TICK) {
                node.remind_waiting(since);
            }
        }
        replenish(&slots, &directory, &opener);
    }
}

/// Acts on every succession until it is dropped: idle connections to nodes that
/// have lost their role are closed at once, and sessions that hold one look
/// again, whatever they were waiting for.
pub async fn follow_successions(directory: Arc<Directory>, roster: Roster, slots: Slots) {
    loop {
        let services = directory.successions().await;
        for seat in services.iter().flat_map(|service| roster.seats_of(service)) {
            seat.wake();
        }
        for node in slots.all() {
            node.close_idle(|server| server.is_superseded());
            node.remind_waiting(Instant::now());
        }
    }
}

/// Whether an idle connection may be used: alive, and not too old.
fn is_usable(server: &mut PooledServer, now: Instant, deserted: &HashSet<PoolId>) -> bool {
    server.follow();
    let expired = server.has_expired(now);
    let most = server.pooling().server_idle_timeout;
    let unused = most.is_some_and(|most| now - server.idle_since >= most);
    let unwanted =
        expired || (unused && (server.is_dispensable() || deserted.contains(&server.pool())));
    !unwanted && is_silent(server)
}

/// Whether the server has said nothing, or nothing that matters: notices and
/// notifications are thrown away, reports are remembered. An error or the end
/// of the stream ends the connection, and so does the end of its node's role.
pub fn is_silent(server: &mut PooledServer) -> bool {
    if server.is_superseded() {
        return false;
    }
    // Nearly always there is nothing, and nothing is to be cleared for it.
    let mut first = [0; 64];
    match server.server().connection().fill_at_once(&mut first) {
        Poll::Pending => true,
        Poll::Ready(Ok(read @ 1..)) => said_little(server, &first[..read]),
        Poll::Ready(_) => false,
    }
}

/// Whether what an idle server has said, of which this is the beginning, does
/// not matter.
#[cold]
fn said_little(server: &mut PooledServer, first: &[u8]) -> bool {
    let mut said = Vec::from(first);
    let mut scratch = vec![0; MOST_SAID];
    loop {
        match server.server().connection().fill_at_once(&mut scratch) {
            Poll::Pending => return takes(server, &said),
            Poll::Ready(Ok(read @ 1..)) if said.len() + read <= MOST_SAID => {
                said.extend_from_slice(&scratch[..read]);
            }
            Poll::Ready(_) => return false,
        }
    }
}

/// Takes unasked messages that came whole; anything else ends the connection.
fn takes(server: &mut PooledServer, bytes: &[u8]) -> bool {
    let mut harmless = true;
    let mut scanner = Scanner::default();
    let legible = scanner.scan(bytes, |head| harmless &= matches!(head.kind, b'N' | b'A' | b'S'));
    if legible.is_err() || !harmless || !scanner.at_boundary() {
        return false;
    }
    server.reports.take_messages(bytes);
    true
}

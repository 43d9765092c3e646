//! The drain: readiness first, then the idle clients, then, at the deadline,
//! everybody.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::directory::roster::Order;
use crate::session::FrontDoor;
use crate::shutdown::Phase;

/// How often those are told who were on their way in when the drain began.
const TICK: Duration = Duration::from_millis(50);
/// How long clients that were told to leave may take to hear it.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Sends everybody away: idle ones at once, busy ones when they are done or at
/// the deadline. Returns when nobody is left.
pub(super) async fn drain(door: &FrontDoor, deadline: Instant) {
    door.shutdown.advance(Phase::Draining);
    tracing::info!(clients = door.roster.len(), "draining");
    tell_until_empty(door, Order::Drain, deadline).await;
    let left = door.roster.len();
    if left > 0 {
        tracing::warn!(
            clients = left,
            "the drain timeout has passed: ending the sessions that are left"
        );
        leave(door).await;
    }
}

/// Sends everybody away at once, and waits until the servers have let go.
pub(super) async fn leave(door: &FrontDoor) {
    door.shutdown.advance(Phase::Draining);
    tell_until_empty(door, Order::Leave, Instant::now() + LEAVE_WITHIN).await;
}

/// Waits until no server connection is being closed any more.
pub(super) async fn wait_for_servers(door: &FrontDoor, within: Duration) {
    for node in door.slots.all() {
        node.close_idle(|_| true);
    }
    let deadline = Instant::now() + within;
    let in_use = || door.slots.counts().iter().any(|s| s.counts.used() > 0);
    while in_use() && Instant::now() < deadline {
        sleep(TICK).await;
    }
}

async fn tell_until_empty(door: &FrontDoor, order: Order, deadline: Instant) {
    while !door.roster.is_empty() && Instant::now() < deadline {
        for seat in door.roster.seats() {
            seat.tell(order);
        }
        sleep(TICK).await;
    }
}

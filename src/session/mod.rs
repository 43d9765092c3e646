//! A client's way through Postern. Each phase is a type that only the one
//! before can become:
//!
//! ```text
//! Arrived ─ PROXY header ─▶ Present ─ TLS, startup ─▶ Introduced ─ service,
//!    allowlist ─▶ Admitted ─ SCRAM ─▶ Known ─ seat, slot, server login ─▶
//!    Established ─ relay ─▶ the end
//! ```
//!
//! [`serve`] tells the whole story. Whoever is turned away hears a
//! [`Refusal`], or nothing where PostgreSQL says nothing either.

pub mod accept;
pub mod attempt;
pub mod authenticate;
pub mod bulk;
pub mod cancel;
pub mod door;
pub mod farewell;
pub mod introduce;
pub mod login;
pub mod loss;
pub mod pooled;
pub mod relay;
pub mod reuse;
pub mod stakes;
pub mod standing;
pub mod sweep;
pub mod workers;

use std::sync::Arc;

use crate::admission::Stranger;
use crate::domain::{ClientAddress, PoolMode, Refusal};
use crate::net::Socket;

pub use door::{FrontDoor, Policy};

/// A connection that was accepted and has not been looked at.
#[derive(Debug)]
pub struct Arrived {
    /// The socket.
    pub socket: Socket,
    /// The peer's own address, before any PROXY header.
    pub peer: ClientAddress,
    /// What the listener is for.
    pub listener: PoolMode,
    /// Its permit to be a stranger.
    pub stranger: Stranger,
}

/// Why a client does not get any further.
#[derive(Debug)]
pub enum Departure {
    /// It is told why.
    Refused(Refusal),
    /// It is told what the server said: whole messages.
    Answered(bytes::Bytes),
    /// It is gone, or is told nothing; for the log.
    Silent(&'static str),
}

impl From<Refusal> for Departure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<std::io::Error> for Departure {
    fn from(_: std::io::Error) -> Self {
        Self::Silent("the client's connection was lost")
    }
}

/// Serves one client from its arrival to its end.
pub async fn serve(door: Arc<FrontDoor>, arrived: Arrived) {
    // The way in needs far more memory than the relay; each part of it is boxed,
    // and gone when the next begins.
    let Some(known) = Box::pin(let_in(&door, arrived)).await else { return };
    if known.is_pooled() {
        if let Some(session) = Box::pin(known.join_pool(&door)).await {
            session.serve(&door).await;
        }
    } else if let Some(session) = Box::pin(known.log_in(&door)).await {
        session.relay(&door).await;
    }
}

/// Everything up to the proof of who it is; `None` if it did not come so far.
async fn let_in(door: &FrontDoor, arrived: Arrived) -> Option<Box<authenticate::Known>> {
    let present = introduce::present(door, arrived).await?;
    let introduced = match introduce::introduce(door, present).await? {
        introduce::Introduction::Cancel(request) => {
            Box::pin(cancel::handle(door, request)).await;
            return None;
        }
        introduce::Introduction::Startup(introduced) => introduced,
    };
    let admitted = introduced.admit(door).await?;
    admitted.authenticate(door).await.map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn an_idle_sessions_task_is_small() {
        let bytes = size_of_future(serve);
        println!("a session's task: {bytes} bytes");
        assert!(bytes < 1_000, "{bytes} bytes for every client");
    }
}

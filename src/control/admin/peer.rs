//! Who may speak to the admin socket.

use tokio::net::UnixStream;

/// A user's number, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uid(u32);

const ROOT: Uid = Uid(0);

impl Uid {
    /// The one that this process acts as.
    pub(super) fn ours() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Whether the other side of this socket may give us orders. The mode of
    /// the file says the same, but can be changed behind our back.
    pub(super) fn obeys(self, stream: &UnixStream) -> bool {
        let peer = stream.peer_cred().ok().map(|cred| Self(cred.uid()));
        self.obeys_user(peer)
    }

    fn obeys_user(self, peer: Option<Self>) -> bool {
        peer.is_some_and(|peer| peer == self || peer == ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_our_own_user_give_orders() {
        let ours = Uid(1000);
        assert!(ours.obeys_user(Some(Uid(1000))));
        assert!(ours.obeys_user(Some(ROOT)));
        assert!(!ours.obeys_user(Some(Uid(1001))));
        assert!(!ours.obeys_user(None));
        assert!(!ROOT.obeys_user(Some(Uid(1000))));
    }
}

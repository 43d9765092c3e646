//! How the session of a pooled client ends.

use std::io;

use bytes::Bytes;

use crate::domain::Refusal;

/// How a session ended.
#[derive(Debug)]
pub(in crate::session::pooled) enum End {
    Client,
    Abandoned,
    ClientLost(io::Error),
    Server,
    ServerLost(io::Error),
    Superseded,
    Preparation,
    Ordered(Refusal),
    Stalled,
    Answered(Bytes),
}

impl End {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Client | Self::Abandoned => "client closed",
            Self::ClientLost(_) => "client lost",
            Self::Server => "server closed",
            Self::ServerLost(_) | Self::Preparation => "server lost",
            Self::Superseded => "another primary",
            Self::Ordered(_) => "ended by the proxy",
            Self::Stalled => "client does not read",
            Self::Answered(_) => "refused by the server",
        }
    }

    pub(super) fn error(&self) -> Option<&io::Error> {
        match self {
            Self::ClientLost(error) | Self::ServerLost(error) => Some(error),
            _ => None,
        }
    }
}

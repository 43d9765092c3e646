//! Where the demo listens. A port is held from its choice until Postern takes
//! it, so that two demos started at once do not choose the same.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use crate::app::Failure;
use crate::app::cli::DemoOptions;

/// The ports taken if they are free.
const SESSION: u16 = 15432;
const TRANSACTION: u16 = 16432;
const METRICS: u16 = 9127;
/// How often a free port of IPv4 may turn out to be taken on IPv6.
const TRIES: u32 = 20;

/// The numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) session: u16,
    pub(super) transaction: u16,
    pub(super) metrics: u16,
}

/// The numbers, and nobody else can listen there before this is dropped.
pub(super) struct Reserved {
    pub(super) numbers: Ports,
    _held: [Held; 3],
}

impl Reserved {
    /// A port that was asked for must be free; of the others, the preferred
    /// one if it is.
    pub(super) fn choose(options: &DemoOptions) -> Result<Self, Failure> {
        let held = [
            choose(options.session_port, SESSION)?,
            choose(options.transaction_port, TRANSACTION)?,
            choose(None, METRICS)?,
        ];
        let [session, transaction, metrics] = held.each_ref().map(|held| held.port);
        Ok(Self { numbers: Ports { session, transaction, metrics }, _held: held })
    }
}

/// One port on every address of the loopback.
struct Held {
    port: u16,
    _listeners: (TcpListener, Option<TcpListener>),
}

impl Held {
    fn take(port: u16) -> io::Result<Self> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = v4.local_addr()?.port();
        let v6 = has_ipv6().then(|| TcpListener::bind((Ipv6Addr::LOCALHOST, port))).transpose()?;
        Ok(Self { port, _listeners: (v4, v6) })
    }

    fn take_any() -> io::Result<Self> {
        let mut taken = Self::take(0);
        for _ in 1..TRIES {
            if taken.is_ok() {
                break;
            }
            taken = Self::take(0);
        }
        taken
    }
}

fn choose(asked: Option<u16>, preferred: u16) -> Result<Held, Failure> {
    match asked {
        Some(port) => Held::take(port)
            .map_err(|error| Failure::new(format!("port {port} cannot be used: {error}"))),
        None => Ok(Held::take(preferred).or_else(|_| Held::take_any())?),
    }
}

/// Whether this host's loopback has an address of IPv6.
pub(super) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

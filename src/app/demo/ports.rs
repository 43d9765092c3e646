//! Where the demo listens. A port is held from its choice until Postern takes
//! it, so that two demos started at once do not choose the same.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::app::Failure;
use crate::app::cli::DemoOptions;

/// The ports taken if they are free.
const SESSION: u16 = 15432;
const TRANSACTION: u16 = 16432;
const METRICS: u16 = 9127;
/// How often a free port of IPv4 may turn out to be taken on IPv6.
const TRIES: u32 = 20;
/// The name by which demos take turns. An abstract one belongs to the network
/// namespace, as the ports do, to every user alike, and nothing of it is left.
const TURN: &[u8] = b"postern-demo-ports";
/// Longer than a turn takes. Whoever holds the name for longer is no demo: it
/// may delay this one, not stop it.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// The numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) session: u16,
    pub(super) transaction: u16,
    pub(super) metrics: u16,
}

/// While it lives no other demo chooses ports or lets go of those it holds.
pub(super) struct Turn {
    _name: Option<UnixListener>,
}

impl Turn {
    fn wait() -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(TURN)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self { _name: Some(listener) }),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Err(_) if Instant::now() > until => return Ok(Self { _name: None }),
                Err(_) => thread::sleep(BETWEEN_TRIES),
            }
        }
    }
}

/// The numbers, and nobody else can listen there before they are let go.
pub(super) struct Reserved {
    pub(super) numbers: Ports,
    held: [Held; 3],
}

impl Reserved {
    /// A port that was asked for must be free; of the others, the preferred
    /// one if it is.
    pub(super) fn choose(options: &DemoOptions) -> Result<Self, Failure> {
        let _turn = Turn::wait()?;
        let held = [
            choose(options.session_port, SESSION)?,
            choose(options.transaction_port, TRANSACTION)?,
            choose(None, METRICS)?,
        ];
        let [session, transaction, metrics] = held.each_ref().map(|held| held.port);
        Ok(Self { numbers: Ports { session, transaction, metrics }, held })
    }

    /// Frees the ports for Postern: no other demo takes one before the turn
    /// that is returned is over.
    pub(super) fn let_go(self) -> Result<Turn, Failure> {
        let turn = Turn::wait()?;
        drop(self.held);
        Ok(turn)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_were_let_go_are_not_chosen_by_another_demo() {
        let choose = || {
            let none = DemoOptions {
                session_port: None,
                transaction_port: None,
                failover: false,
                command: Vec::new(),
            };
            Reserved::choose(&none).map_err(|error| error.to_string()).unwrap()
        };
        let first = choose();
        let ports = first.numbers;
        let turn = first.let_go().map_err(|error| error.to_string()).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| choose().numbers);
            thread::sleep(10 * BETWEEN_TRIES);
            // As Postern listens there.
            let listeners = [ports.session, ports.transaction, ports.metrics]
                .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
            drop(turn);
            let second = second.join().unwrap();
            assert_ne!(second.session, ports.session);
            assert_ne!(second.transaction, ports.transaction);
            assert_ne!(second.metrics, ports.metrics);
            drop(listeners);
        });
    }
}

//! A port for a new cluster.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

/// Below the range that the system takes for outgoing connections (32768 and
/// up): a stopped server's port is still free when the server starts again.
const FIRST: u16 = 17_000;
const COUNT: u16 = 15_000;

/// A port that nobody listened on a moment ago. Somebody may be faster: the
/// server's start is what decides.
pub(super) fn pick(random: impl Fn() -> u16) -> u16 {
    let tries = std::iter::repeat_with(|| FIRST + random() % COUNT).take(100);
    let mut last = FIRST;
    for port in tries {
        last = port;
        if is_free(port) {
            break;
        }
    }
    last
}

fn is_free(port: u16) -> bool {
    // A host without IPv6 refuses that address for another reason.
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
    let six = six.map_or_else(|error| error.kind() != std::io::ErrorKind::AddrInUse, |_| true);
    six && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let next = Cell::new(5_000_u16);
        let random = || next.replace(next.get().wrapping_add(1));
        let taken = pick(random);
        let _holder = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        next.set(taken - FIRST);
        assert_ne!(pick(random), taken);
    }
}

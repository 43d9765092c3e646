//! The addresses a customer lets in (promise 2).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::address::ClientAddress;

/// IP addresses and CIDR blocks, and the word `local` for unix sockets.
///
/// An empty list admits nobody; the default admits everybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Allowlist {
    blocks: Vec<IpNet>,
    local: bool,
}

/// One entry of an allowlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowEntry {
    /// A CIDR block; a single address is a block of one.
    Block(IpNet),
    /// Clients of the unix sockets.
    Local,
}

/// A text that is neither an address, nor a block, nor `local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an allowlist entry is an IP address, a CIDR block such as \"10.0.0.0/8\" or \"2001:db8::/32\", or \"local\""
)]
pub struct InvalidEntry;

impl Allowlist {
    /// A list of these entries.
    pub fn new(entries: impl IntoIterator<Item = AllowEntry>) -> Self {
        let mut list = Self { blocks: Vec::new(), local: false };
        for entry in entries {
            match entry {
                AllowEntry::Block(block) => list.blocks.push(canonical(block)),
                AllowEntry::Local => list.local = true,
            }
        }
        list
    }

    /// Whether a client from this address may come in. Everybody's list
    /// (`0.0.0.0/0` and `::/0`) lets unix sockets in as well (decision 3).
    #[must_use]
    pub fn permits(&self, client: &ClientAddress) -> bool {
        match client.ip() {
            Some(ip) => self.blocks.iter().any(|block| block.contains(&ip)),
            None => self.local || self.admits_everybody(),
        }
    }

    fn admits_everybody(&self) -> bool {
        let whole =
            |v4: bool| self.blocks.iter().any(|b| b.prefix_len() == 0 && b.addr().is_ipv4() == v4);
        whole(true) && whole(false)
    }
}

impl Default for Allowlist {
    /// Everybody: `0.0.0.0/0` and `::/0`.
    fn default() -> Self {
        Self { blocks: vec![whole_ipv4(), whole_ipv6()], local: true }
    }
}

fn whole_ipv4() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::default())
}

fn whole_ipv6() -> IpNet {
    IpNet::V6(ipnet::Ipv6Net::default())
}

/// A block inside `::ffff:0:0/96` means the IPv4 block mapped into it, which
/// is how clients are stored.
fn canonical(block: IpNet) -> IpNet {
    if let IpNet::V6(v6) = block
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(net) = ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return IpNet::V4(net);
    }
    block
}

impl FromStr for AllowEntry {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        if text == "local" {
            return Ok(Self::Local);
        }
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self::Block)
            .map_err(|_| InvalidEntry)
    }
}

impl fmt::Debug for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.blocks.iter().map(ToString::to_string);
        let all: Vec<String> = blocks.chain(self.local.then(|| "local".to_owned())).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Allowlist {
        Allowlist::new(entries.iter().map(|e| e.parse().unwrap()))
    }

    fn client(ip: &str) -> ClientAddress {
        ClientAddress::tcp(std::net::SocketAddr::new(ip.parse().unwrap(), 1))
    }

    #[test]
    fn the_default_admits_everybody_and_an_empty_list_nobody() {
        for who in [client("203.0.113.9"), client("2001:db8::1"), ClientAddress::Local] {
            assert!(Allowlist::default().permits(&who));
            assert!(list(&["0.0.0.0/0", "::/0"]).permits(&who));
            assert!(!list(&[]).permits(&who));
        }
    }

    #[test]
    fn blocks_and_addresses_match_their_members_only() {
        let list = list(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:1::9"] {
            assert!(list.permits(&client(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1"] {
            assert!(!list.permits(&client(outside)), "{outside}");
        }
        assert!(!list.permits(&ClientAddress::Local));
    }

    #[test]
    fn local_is_a_word_of_its_own() {
        assert!(list(&["local"]).permits(&ClientAddress::Local));
        assert!(!list(&["local"]).permits(&client("127.0.0.1")));
        assert!(!list(&["0.0.0.0/0"]).permits(&ClientAddress::Local));
    }

    #[test]
    fn a16_mapped_addresses_match_ipv4_blocks_in_both_directions() {
        assert!(list(&["10.0.0.0/8"]).permits(&client("::ffff:10.0.0.1")));
        assert!(list(&["::ffff:10.0.0.0/104"]).permits(&client("10.0.0.1")));
        assert!(!list(&["::/0"]).permits(&client("::ffff:10.0.0.1")));
    }

    #[test]
    fn bad_entries_are_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "everyone", "10.0.0.0/8 ", "::1/129"] {
            assert_eq!(text.parse::<AllowEntry>(), Err(InvalidEntry), "{text:?}");
        }
    }
}

//! Connections that are not authenticated yet: how many there may be, in all
//! and from one network (decision 7).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::address::ClientNetwork;

/// Counts the strangers; clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct Strangers {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_network: HashMap<ClientNetwork, usize>,
}

/// One stranger's permit; dropped when he is known, or gone.
#[derive(Debug)]
#[must_use]
pub struct Stranger {
    strangers: Strangers,
    network: Option<ClientNetwork>,
}

/// The most strangers there may be.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In all.
    pub total: usize,
    /// From one IPv4 address or IPv6 /64.
    pub per_network: usize,
}

/// There are too many strangers already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded;

impl Strangers {
    /// Lets one more in, if the total allows it. What network he is from is
    /// known only after a PROXY header: see [`Stranger::comes_from`].
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn admit(&self, caps: Caps) -> Result<Stranger, Crowded> {
        let mut counts = self.lock();
        if counts.total >= caps.total {
            return Err(Crowded);
        }
        counts.total += 1;
        Ok(Stranger { strangers: self.clone(), network: None })
    }

    /// Strangers now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().total
    }

    /// Whether there are none now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Counts him for his network. Clients of unix sockets are on this host
    /// and count in the total only.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn comes_from(&mut self, network: ClientNetwork, caps: Caps) -> Result<(), Crowded> {
        if network == ClientNetwork::Local || self.network.is_some() {
            return Ok(());
        }
        let mut counts = self.strangers.lock();
        let count = counts.by_network.entry(network).or_default();
        if *count >= caps.per_network {
            return Err(Crowded);
        }
        *count += 1;
        self.network = Some(network);
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.lock();
        counts.total -= 1;
        if let Some(network) = self.network
            && let Some(count) = counts.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { total: 3, per_network: 2 };

    #[test]
    fn a18_both_caps_hold_and_permits_come_back() {
        let strangers = Strangers::default();
        let network = ClientNetwork::V4([10, 0, 0, 1]);
        let mut all: Vec<_> = (0..3).map(|_| strangers.admit(CAPS).unwrap()).collect();
        assert_eq!(strangers.admit(CAPS).unwrap_err(), Crowded);
        assert_eq!(all[0].comes_from(network, CAPS), Ok(()));
        assert_eq!(all[0].comes_from(network, CAPS), Ok(()));
        assert_eq!(all[1].comes_from(network, CAPS), Ok(()));
        assert_eq!(all[2].comes_from(network, CAPS), Err(Crowded));
        drop(all.remove(0));
        assert_eq!(all[1].comes_from(network, CAPS), Ok(()));
        drop(all);
        assert!(strangers.is_empty() && strangers.lock().by_network.is_empty());
    }
}

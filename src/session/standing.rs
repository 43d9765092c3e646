//! Which node serves an endpoint (decisions 31 and 36), and what a server says
//! of its own role.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::FrontDoor;
use super::door::random;
use crate::directory::{Node, Service, Standby};
use crate::domain::Access;
use crate::domain::refusal::Unavailable;
use crate::pool::Lead;
use crate::wire::answer;
use crate::wire::frame::messages;
use crate::wire::login::parse_parameter;

const IN_HOT_STANDBY: &str = "in_hot_standby";
const READ_ONLY: &str = "default_transaction_read_only";

/// The node that was chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The node, and its time in its role.
    pub lead: Lead,
    /// It is the primary in the place of a standby: the connection must be kept
    /// from writing by accident.
    pub guarded: bool,
}

/// The node that serves clients with this access now.
///
/// # Errors
/// Why there is none.
pub fn choose(door: &FrontDoor, service: &Service, access: Access) -> Result<Choice, Unavailable> {
    if let Some(reason) = service.withheld() {
        return Err(reason.clone());
    }
    let lead = |node: &std::sync::Arc<Node>| Lead {
        tenure: service.tenures.of(&node.address),
        node: std::sync::Arc::clone(node),
    };
    let primary = |guarded| {
        let primary = service.topology.primary.as_ref().map_err(Clone::clone)?;
        Ok(Choice { lead: lead(primary), guarded })
    };
    let Some(reading) = service.nodes.first().map(|node| node.pooling.reading) else {
        return Err(Unavailable::Unreachable);
    };
    let near = |standby: &&Standby| {
        reading.max_replica_lag.is_none_or(|most| standby.lag.is_some_and(|lag| lag <= most))
    };
    let active = |node: &Node| {
        let counts = door.slots.of(node).counts();
        counts.session + counts.busy + counts.opening
    };
    match access {
        Access::ReadWrite => primary(false),
        Access::ReadOnly => {
            let standbys = service.topology.standbys.iter().filter(near);
            let loads = standbys.map(|standby| (&standby.node, active(&standby.node)));
            match least(loads, random::<1>()[0]) {
                Some(node) => Ok(Choice { lead: lead(node), guarded: false }),
                None if reading.fallback => primary(true),
                None => Err(Unavailable::NoStandby),
            }
        }
    }
}

/// The one with the smallest load; `pick` decides among equals.
fn least<T>(loads: impl Iterator<Item = (T, u32)>, pick: u8) -> Option<T> {
    let mut least: Vec<(T, u32)> = Vec::new();
    for (node, load) in loads {
        match least.first() {
            Some((_, known)) if *known < load => continue,
            Some((_, known)) if *known > load => least.clear(),
            _ => {}
        }
        least.push((node, load));
    }
    if least.is_empty() {
        return None;
    }
    let at = usize::from(pick) % least.len();
    Some(least.swap_remove(at).0)
}

/// Startup parameters, with a guard against writing by accident if there must
/// be one.
#[must_use]
pub fn guarded(parameters: &[(Bytes, Bytes)], guarded: bool) -> Cow<'_, [(Bytes, Bytes)]> {
    if !guarded {
        return Cow::Borrowed(parameters);
    }
    let others = parameters.iter().filter(|(name, _)| name != READ_ONLY).cloned();
    let guard = (Bytes::from_static(READ_ONLY.as_bytes()), Bytes::from_static(b"on"));
    Cow::Owned(others.chain([guard]).collect())
}

/// What a server says of its role, as far as it does: PostgreSQL 14 and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It replays what another server writes.
    pub in_hot_standby: Option<bool>,
    /// Its transactions do not write, unless they say so.
    pub read_only: Option<bool>,
}

impl Standing {
    /// As the messages of a login say it.
    #[must_use]
    pub fn of(greeting: &[u8]) -> Self {
        let mut standing = Self::default();
        for message in messages(greeting).filter(|message| message.kind == b'S') {
            standing.take(message.body());
        }
        standing
    }

    fn take(&mut self, body: &[u8]) {
        let Some((name, value)) = parse_parameter(Bytes::copy_from_slice(body)) else { return };
        if name == IN_HOT_STANDBY {
            self.in_hot_standby = Some(value == "on");
        } else if name == READ_ONLY {
            self.read_only = Some(value == "on");
        }
    }

    /// Appends the reports that a client hears that believed in another one.
    pub fn put_difference(self, believed: Self, out: &mut BytesMut) {
        let reports = [
            (IN_HOT_STANDBY, self.in_hot_standby, believed.in_hot_standby),
            (READ_ONLY, self.read_only, believed.read_only),
        ];
        for (name, now, before) in reports {
            if let Some(value) = now.filter(|_| now != before) {
                let value = if value { "on" } else { "off" };
                answer::parameter_status(out, name, value.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e20_the_least_active_is_chosen_and_equals_share() {
        let of = |loads: &[u32], pick| least(loads.iter().copied().enumerate(), pick);
        assert_eq!(of(&[], 0), None);
        assert_eq!(of(&[3, 1, 2], 7), Some(1));
        let mut counts = [0; 3];
        for pick in 0..=255 {
            counts[of(&[5, 5, 5], pick).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (85..=86).contains(count)), "{counts:?}");
        let mut loads = [0; 3];
        for pick in 0..=254 {
            loads[of(&loads, pick).unwrap()] += 1;
        }
        assert_eq!(loads, [85; 3]);
    }

    #[test]
    fn d26_only_what_has_changed_is_told() {
        let told = |now: Standing, before: Standing| {
            let mut out = BytesMut::new();
            now.put_difference(before, &mut out);
            out
        };
        let standing = |replays| Standing { in_hot_standby: Some(replays), read_only: Some(false) };
        assert!(told(standing(true), standing(true)).is_empty());
        let said = told(standing(false), standing(true));
        assert_eq!(messages(&said).next().unwrap().body(), b"in_hot_standby\0off\0");
        assert_eq!(Standing::of(&said).in_hot_standby, Some(false));
        assert!(told(Standing::default(), standing(true)).is_empty());
    }

    #[test]
    fn a_guard_takes_the_place_of_what_the_client_asked_for() {
        let parameters = [
            (Bytes::from_static(b"user"), Bytes::from_static(b"app")),
            (Bytes::from_static(READ_ONLY.as_bytes()), Bytes::from_static(b"off")),
        ];
        assert_eq!(&*guarded(&parameters, false), &parameters);
        let guarded = guarded(&parameters, true);
        assert_eq!(guarded.len(), 2);
        assert_eq!(guarded[1].1, "on");
    }
}

//! The services of a snapshot, by name: a map that is cheap to copy and to
//! compare.
//!
//! A snapshot is replaced whole, and one of ten thousand services changes with
//! each look that shows something new. The map is cut into shards that copies
//! share: a change copies one of them, and whoever wants to know what changed
//! passes over those that are the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::Service;
use crate::domain::ServiceName;

/// A shard of ten thousand services has forty of them, and a copy of the map
/// costs as many counts of references as there are shards.
const SHARDS: usize = 256;

type Shard = HashMap<ServiceName, Arc<Service>>;

/// Services by name. Clones share what does not change.
#[derive(Debug, Clone)]
pub struct Services {
    shards: Box<[Arc<Shard>]>,
}

impl Default for Services {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS].into() }
    }
}

impl Services {
    /// The service of this name.
    #[must_use]
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.shards[shard_of(name)].get(name)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &ServiceName) -> Option<&mut Arc<Service>> {
        let shard = &mut self.shards[shard_of(name)];
        // Nothing is copied for a service that is not there.
        if !shard.contains_key(name) {
            return None;
        }
        Arc::make_mut(shard).get_mut(name)
    }

    /// Whether there is such a service.
    #[must_use]
    pub fn contains_key(&self, name: &ServiceName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a service, or replaces it.
    pub fn insert(&mut self, name: ServiceName, service: Arc<Service>) {
        Arc::make_mut(&mut self.shards[shard_of(&name)]).insert(name, service);
    }

    /// Takes a service away.
    pub fn remove(&mut self, name: &ServiceName) {
        if self.contains_key(name) {
            Arc::make_mut(&mut self.shards[shard_of(name)]).remove(name);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceName, &Arc<Service>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The names of all, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceName> {
        self.iter().map(|(name, _)| name)
    }

    /// All of them without their names, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.iter().map(|(_, service)| service)
    }

    /// Those that are not the same as in `before`, new ones included. Costs
    /// next to nothing for what one is a changed copy of the other in.
    pub fn changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a ServiceName, &'a Arc<Service>)> {
        let pairs = self.shards.iter().zip(&before.shards);
        let changed = pairs.filter(|(now, before)| !Arc::ptr_eq(now, before));
        changed.flat_map(|(now, before)| {
            now.iter().filter(move |(name, service)| {
                !before.get(*name).is_some_and(|known| Arc::ptr_eq(known, service))
            })
        })
    }

    /// The names of those in `before` that are not here.
    pub fn gone_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a ServiceName> {
        let pairs = self.shards.iter().zip(&before.shards);
        let changed = pairs.filter(|(now, before)| !Arc::ptr_eq(now, before));
        changed.flat_map(|(now, before)| before.keys().filter(|name| !now.contains_key(*name)))
    }
}

impl FromIterator<(ServiceName, Arc<Service>)> for Services {
    fn from_iter<I: IntoIterator<Item = (ServiceName, Arc<Service>)>>(services: I) -> Self {
        let mut all = Self::default();
        for (name, service) in services {
            all.insert(name, service);
        }
        all
    }
}

impl<const N: usize> From<[(ServiceName, Arc<Service>); N]> for Services {
    fn from(services: [(ServiceName, Arc<Service>); N]) -> Self {
        services.into_iter().collect()
    }
}

/// FNV-1a: which shard it is must be the same in all maps of a process, and
/// nobody gains by names that meet in one.
fn shard_of(name: &ServiceName) -> usize {
    let hash = name
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 24) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> ServiceName {
        format!("service-{number}").parse().unwrap()
    }

    fn service(number: u32) -> (ServiceName, Arc<Service>) {
        (name(number), Arc::new(Service::without_nodes(name(number))))
    }

    #[test]
    fn copies_differ_in_what_was_changed_and_in_nothing_else() {
        let before: Services = (0..1_000).map(service).collect();
        let mut now = before.clone();
        assert_eq!(now.changed_since(&before).count(), 0);
        now.insert(name(1), service(1).1);
        Arc::make_mut(now.get_mut(&name(2)).unwrap()).paused = true;
        now.insert(name(1_000), service(1_000).1);
        now.remove(&name(3));
        assert!(now.get_mut(&name(3)).is_none());
        let mut changed: Vec<_> = now.changed_since(&before).map(|(name, _)| name).collect();
        changed.sort();
        assert_eq!(changed, [&name(1), &name(1_000), &name(2)]);
        assert_eq!(now.gone_since(&before).collect::<Vec<_>>(), [&name(3)]);
        assert_eq!((before.len(), now.len()), (1_000, 1_000));
        assert!(!before.get(&name(2)).unwrap().paused);
        let shared = now.shards.iter().zip(&before.shards);
        let copied = shared.filter(|(now, before)| !Arc::ptr_eq(now, before)).count();
        assert!(copied <= 4, "{copied} shards copied for four changes");
    }
}

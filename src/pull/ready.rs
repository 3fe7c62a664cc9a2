//! Manifests that were given out a moment ago, by the name they were asked for: a hit touches neither disk nor index.
//!
//! An entry is good for one generation of its repository ([`Catalog::generation`](crate::storage::Catalog::generation)), which
//! is part of its key: so what is kept here is never out of date, only out of use.

use std::hash::{Hash, Hasher};

use equivalent::Equivalent;

use super::manifests::Held;
use crate::oci::{Reference, Repository};

/// How many bytes of manifests are kept, those included that the cache of hot manifests has as well.
const BYTES: u64 = 64 << 20;

/// See the module.
pub(super) struct Ready(moka::sync::Cache<Key, Held>);

#[derive(PartialEq, Eq)]
struct Key {
    generation: u64,
    repository: Repository,
    reference: Reference,
}

/// The same without owning anything: a look-up allocates nothing.
struct Asked<'a>(u64, &'a Repository, &'a Reference);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Asked(self.generation, &self.repository, &self.reference).hash(state);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1, self.2).hash(state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.generation && *self.1 == key.repository && *self.2 == key.reference
    }
}

impl Ready {
    pub(super) fn new() -> Self {
        let weigher = |_: &Key, held: &Held| u32::try_from(held.bytes.len() + 512).unwrap_or(u32::MAX);
        let cache = moka::sync::Cache::builder().max_capacity(BYTES).weigher(weigher);
        Ready(cache.eviction_policy(moka::policy::EvictionPolicy::lru()).build())
    }

    /// What the reference names in this generation of the repository, if it was asked for before.
    pub(super) fn get(&self, generation: u64, repository: &Repository, reference: &Reference) -> Option<Held> {
        self.0.get(&Asked(generation, repository, reference))
    }

    /// Keeps an answer. The generation is from before the look that it came from.
    pub(super) fn insert(&self, generation: u64, repository: &Repository, reference: &Reference, held: &Held) {
        let key = Key { generation, repository: repository.clone(), reference: reference.clone() };
        self.0.insert(key, held.clone());
    }
}

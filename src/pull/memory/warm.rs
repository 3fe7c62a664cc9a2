//! What was given out a moment ago, by the name it was asked for: a hit touches neither disk nor
//! index.
//!
//! An entry of a [`WarmCache`] is valid for one version of its repository
//! ([`Storage::version`](crate::storage::Storage::version)), which is part of its key: it is
//! never out of date, only out of use. It is also dropped after a minute in any case. An open blob
//! that was removed keeps its bytes on disk until then, but for one that was evicted. And content
//! in use is looked for once a minute: the look notes the use, and a hit notes nothing.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use equivalent::Equivalent;

use crate::oci::Repository;

/// How long an entry is kept.
pub(in crate::pull) const KEPT: Duration = Duration::from_secs(60);

/// Answers by what was asked for in a repository.
pub(in crate::pull) struct WarmCache<K, V>(moka::sync::Cache<Key<K>, V, foldhash::fast::RandomState>);

#[derive(PartialEq, Eq)]
struct Key<K> {
    version: u64,
    repository: Repository,
    asked: K,
}

/// A borrowed key: a look-up allocates nothing.
struct KeyRef<'a, K>(u64, &'a Repository, &'a K);

impl<K: Hash> Hash for Key<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef(self.version, &self.repository, &self.asked).hash(state);
    }
}

impl<K: Hash> Hash for KeyRef<'_, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1, self.2).hash(state);
    }
}

impl<K: Eq> Equivalent<Key<K>> for KeyRef<'_, K> {
    fn equivalent(&self, key: &Key<K>) -> bool {
        self.0 == key.version && *self.1 == key.repository && *self.2 == key.asked
    }
}

impl<K, V> WarmCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Room for answers that weigh `room` in all.
    pub(in crate::pull) fn new(room: u64, weight: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(room)
            .weigher(move |_: &Key<K>, answer: &V| u32::try_from(weight(answer)).unwrap_or(u32::MAX))
            .time_to_live(KEPT)
            .eviction_policy(moka::policy::EvictionPolicy::lru());
        WarmCache(cache.build_with_hasher(foldhash::fast::RandomState::default()))
    }

    /// The answer in this version of the repository, if it is kept.
    pub(in crate::pull) fn get(&self, version: u64, repository: &Repository, asked: &K) -> Option<V> {
        self.0.get(&KeyRef(version, repository, asked))
    }

    /// Keeps an answer. `version` is that of before the look that it came from.
    pub(in crate::pull) fn insert(&self, version: u64, repository: &Repository, asked: &K, answer: &V) {
        let key = Key { version, repository: repository.clone(), asked: asked.clone() };
        self.0.insert(key, answer.clone());
    }

    /// Drops the entries that have been kept for long enough. Blocks: closing a large blob that was
    /// removed waits for the disk.
    pub(in crate::pull) fn tidy(&self) {
        self.0.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Namespace;

    #[test]
    fn an_answer_is_good_for_one_version_of_one_repository() {
        let warm = WarmCache::new(100, |_: &u8| 1);
        let repo = |name: &str| Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() };
        warm.insert(7, &repo("a"), &"asked", &1);
        assert_eq!(warm.get(7, &repo("a"), &"asked"), Some(1));
        assert_eq!(warm.get(8, &repo("a"), &"asked"), None);
        assert_eq!(warm.get(7, &repo("b"), &"asked"), None);
        assert_eq!(warm.get(7, &repo("a"), &"other"), None);
    }
}

//! What was learned a moment ago, with its age.
//!
//! The reader of an [`AgedCache`] decides which age is too old. When the cache is full, it forgets
//! what was not used for longest. Ages are monotonic, so a jump of the wall clock neither expires
//! nor revives an entry.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;

/// Remembers values up to a total weight.
pub(in crate::pull) struct AgedCache<K, V>(moka::sync::Cache<K, (Instant, V), RandomState>);

impl<K, V> AgedCache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Room for values that weigh `capacity` in all.
    pub(in crate::pull) fn new(capacity: u64, weight: fn(&V) -> usize) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(move |_: &K, (_, value): &(Instant, V)| u32::try_from(weight(value)).unwrap_or(u32::MAX))
            .eviction_policy(moka::policy::EvictionPolicy::lru());
        AgedCache(cache.build_with_hasher(RandomState::default()))
    }

    /// The value of `key`, and how long ago it was learned.
    pub(in crate::pull) fn get(&self, key: &K) -> Option<(Duration, V)> {
        self.0.get(key).map(|(at, value)| (at.elapsed(), value))
    }

    /// The value of `key` if it was learned less than `ttl` ago.
    pub(in crate::pull) fn within(&self, key: &K, ttl: Duration) -> Option<V> {
        self.get(key).filter(|(age, _)| *age < ttl).map(|(_, value)| value)
    }

    /// Remembers `value` as learned now.
    pub(in crate::pull) fn put(&self, key: K, value: V) {
        self.0.insert(key, (Instant::now(), value));
    }

    /// Forgets `key`.
    pub(in crate::pull) fn forget(&self, key: &K) {
        self.0.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_and_stays_small() {
        let aged = AgedCache::new(3, |_| 1);
        for key in 0..5 {
            aged.put(key, key);
        }
        aged.0.run_pending_tasks();
        assert_eq!((0..5).filter(|k| aged.get(k).is_some()).collect::<Vec<_>>(), [2, 3, 4]);
        for value in 0..10_000 {
            aged.put(4, value);
        }
        assert_eq!(aged.within(&4, Duration::from_secs(60)), Some(9_999));
        aged.0.run_pending_tasks();
        assert_eq!((aged.0.entry_count(), aged.0.weighted_size()), (3, 3));
    }

    #[test]
    fn an_age_past_the_ttl_is_nothing() {
        let aged = AgedCache::new(3, |_| 1);
        aged.put(1, 1);
        assert_eq!(aged.within(&1, Duration::ZERO), None);
        aged.forget(&1);
        assert!(aged.get(&1).is_none());
    }
}

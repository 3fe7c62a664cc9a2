//! What was learned a moment ago: a bounded map that forgets by age, and by age first when it is full.
//!
//! Ages are monotonic, so no jump of the wall clock expires or revives anything; after a restart nothing is known, and
//! everything is asked once more.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembers up to a total weight of values.
pub(super) struct Recent<K, V> {
    inner: Mutex<Inner<K, V>>,
    capacity: usize,
    weigh: fn(&V) -> usize,
}

struct Inner<K, V> {
    entries: HashMap<K, (Instant, V)>,
    /// Keys in the order they were put, with the instant that tells an old put of a key from its newest.
    order: VecDeque<(Instant, K)>,
    weight: usize,
}

impl<K: Eq + Hash, V> Inner<K, V> {
    fn is_newest(&self, at: Instant, key: &K) -> bool {
        self.entries.get(key).is_some_and(|(put, _)| *put == at)
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    /// Holds values of `capacity` weight in all.
    pub(super) fn new(capacity: usize, weigh: fn(&V) -> usize) -> Self {
        let inner = Inner { entries: HashMap::new(), order: VecDeque::new(), weight: 0 };
        Recent { inner: Mutex::new(inner), capacity, weigh }
    }

    /// What was put under `key`, and how long ago.
    pub(super) fn get(&self, key: &K) -> Option<(Duration, V)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(key).map(|(at, value)| (at.elapsed(), value.clone()))
    }

    /// What was put under `key` less than `ttl` ago.
    pub(super) fn within(&self, key: &K, ttl: Duration) -> Option<V> {
        self.get(key).filter(|(age, _)| *age < ttl).map(|(_, value)| value)
    }

    /// Remembers `value` as learned now; the oldest go where there is no room.
    pub(super) fn put(&self, key: K, value: V) {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.weight += (self.weigh)(&value);
        if let Some((_, old)) = inner.entries.insert(key.clone(), (now, value)) {
            inner.weight -= (self.weigh)(&old);
        }
        inner.order.push_back((now, key));
        while inner.weight > self.capacity {
            let Some((at, key)) = inner.order.pop_front() else { break };
            if inner.is_newest(at, &key)
                && let Some((_, old)) = inner.entries.remove(&key)
            {
                inner.weight -= (self.weigh)(&old);
            }
        }
        // One key put over and over must not grow the order without bound.
        if inner.order.len() > 2 * inner.entries.len() + 16 {
            let mut order = std::mem::take(&mut inner.order);
            order.retain(|(at, key)| inner.is_newest(*at, key));
            inner.order = order;
        }
    }

    /// Forgets `key`.
    pub(super) fn forget(&self, key: &K) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = inner.entries.remove(key) {
            inner.weight -= (self.weigh)(&old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_and_stays_small() {
        let recent = Recent::new(3, |_| 1);
        for key in 0..5 {
            recent.put(key, key);
        }
        assert_eq!((0..5).filter(|k| recent.get(k).is_some()).collect::<Vec<_>>(), [2, 3, 4]);
        for value in 0..10_000 {
            recent.put(4, value);
        }
        assert_eq!(recent.within(&4, Duration::from_secs(60)), Some(9_999));
        let inner = recent.inner.lock().unwrap();
        assert_eq!((inner.entries.len(), inner.weight), (3, 3));
        assert!(inner.order.len() < 32);
    }

    #[test]
    fn an_age_past_the_ttl_is_nothing() {
        let recent = Recent::new(3, |_| 1);
        recent.put(1, 1);
        assert_eq!(recent.within(&1, Duration::ZERO), None);
        recent.forget(&1);
        assert!(recent.get(&1).is_none());
    }
}

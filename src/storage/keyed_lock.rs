//! Who is at work on what: one at a time per key, within this process.

use std::{
    collections::HashSet,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The keys that are being worked on. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct KeyedLock<K> {
    taken: Arc<Mutex<HashSet<K>>>,
}

/// That a key is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct KeyGuard<K: Eq + Hash> {
    pub(super) key: K,
    taken: Arc<Mutex<HashSet<K>>>,
}

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        KeyedLock { taken: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> KeyedLock<K> {
    /// Takes the key; `None` while somebody else has it.
    pub(super) fn take(&self, key: K) -> Option<KeyGuard<K>> {
        self.lock().insert(key.clone()).then(|| KeyGuard { key, taken: Arc::clone(&self.taken) })
    }

    pub(super) fn is_taken(&self, key: &K) -> bool {
        self.lock().contains(key)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

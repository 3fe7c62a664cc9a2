//! A lock per key, within this process: one caller at a time works on a key.
//!
//! Promises: a key that is taken stays taken until its [`KeyGuard`] is dropped; taking never waits.
//! Callers: the downloads (by digest) and the uploads (by id).

use std::{collections::HashSet, fmt::Debug, hash::Hash, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

/// The keys that are taken. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct KeyedLock<K> {
    taken: Arc<Mutex<HashSet<K>>>,
}

/// Keeps a key taken until it is dropped.
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
    /// Takes the key; `None` while another caller has it.
    pub(super) fn take(&self, key: K) -> Option<KeyGuard<K>> {
        self.lock().insert(key.clone()).then(|| KeyGuard { key, taken: Arc::clone(&self.taken) })
    }

    pub(super) fn is_taken(&self, key: &K) -> bool {
        self.lock().contains(key)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<K>> {
        self.taken.lock()
    }
}

impl<K: Eq + Hash> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.key);
    }
}

//! The fills under way, by digest.
//!
//! `claim` puts a fill in; its leader takes it out when it settles. Cheap to clone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::progress::Shared;
use crate::oci::Digest;

/// What leaders and followers share of each fill.
pub(super) struct Table<S>(Arc<Mutex<HashMap<Digest, Arc<Shared<S>>>>>);

impl<S> Table<S> {
    /// Locks it. The critical sections cannot leave the map half-changed.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Shared<S>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a fill out.
    pub(super) fn remove(&self, digest: &Digest) {
        self.lock().remove(digest);
    }
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Table(Arc::default())
    }
}

impl<S> Clone for Table<S> {
    fn clone(&self) -> Self {
        Table(Arc::clone(&self.0))
    }
}

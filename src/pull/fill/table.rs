//! The fills under way, by digest.
//!
//! `claim` puts a fill in; its leader takes it out when it settles. Cheap to clone.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::progress::Fill;
use crate::oci::Digest;

/// The entries. Their state is what leaders and followers share.
pub(super) struct Table<S>(Arc<Mutex<HashMap<Digest, Arc<Fill<S>>>>>);

impl<S> Table<S> {
    /// Locks it.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Fill<S>>>> {
        self.0.lock()
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

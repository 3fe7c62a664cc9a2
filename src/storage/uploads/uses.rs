//! What this process knows of the uploads from its own doing. An entry goes with its upload.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::UploadId;

/// The uploads that this process has begun. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(super) struct Uses {
    begun: Arc<Mutex<HashSet<UploadId>>>,
}

impl Uses {
    /// This process has begun the upload.
    pub(super) fn begun(&self, id: &UploadId) {
        self.lock().insert(*id);
    }

    /// Whether this process has begun it, and so has written every byte of it.
    pub(super) fn is_own(&self, id: &UploadId) -> bool {
        self.lock().contains(id)
    }

    /// The upload is no more.
    pub(super) fn gone(&self, id: &UploadId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<UploadId>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

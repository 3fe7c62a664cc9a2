//! Which uploads this process began, and when it last used each.
//!
//! Promises: times are monotonic, so no jump of the clock makes an upload old. An entry is removed
//! with its upload. Callers: the uploads.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::UploadId;

/// The uploads that this process has begun or opened. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Uses {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    started: Instant,
    uses: HashMap<UploadId, Use>,
}

#[derive(Debug)]
struct Use {
    own: bool,
    last: Instant,
}

impl Uses {
    pub(super) fn new() -> Self {
        Uses { table: Arc::new(Mutex::new(Table { started: Instant::now(), uses: HashMap::new() })) }
    }

    /// This process has begun the upload.
    pub(super) fn begun(&self, id: &UploadId) {
        self.lock().uses.insert(*id, Use { own: true, last: Instant::now() });
    }

    /// A request has opened the upload.
    pub(super) fn opened(&self, id: &UploadId) {
        let last = Instant::now();
        self.lock().uses.entry(*id).and_modify(|known| known.last = last).or_insert(Use { own: false, last });
    }

    /// A request leaves the upload, if it is still there.
    pub(super) fn left(&self, id: &UploadId) {
        if let Some(known) = self.lock().uses.get_mut(id) {
            known.last = Instant::now();
        }
    }

    /// The upload is removed, or has become a blob.
    pub(super) fn gone(&self, id: &UploadId) {
        self.lock().uses.remove(id);
    }

    /// Whether this process has begun it, and so has written every byte of it.
    pub(super) fn is_own(&self, id: &UploadId) -> bool {
        self.lock().uses.get(id).is_some_and(|known| known.own)
    }

    /// The time since this process last used it, or since the start if it never has.
    pub(super) fn unused_for(&self, id: &UploadId) -> Duration {
        let table = self.lock();
        table.uses.get(id).map_or(table.started, |known| known.last).elapsed()
    }

    /// How long ago this process has used it; `None` if it never has.
    pub(super) fn age(&self, id: &UploadId) -> Option<Duration> {
        self.lock().uses.get(id).map(|known| known.last.elapsed())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().uses.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

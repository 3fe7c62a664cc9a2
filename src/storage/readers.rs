//! The content that is open for reading. What is evicted is to be free at once, and the bytes of an
//! open file are not.
//!
//! A file that is given out counts as read until its last owner drops it. A file that is only kept
//! open for the next request ([`KeptOpen`]) does not: the eviction closes it. The table has weak
//! references by the digest's beginning: two digests that share it look open together, which does
//! no harm.
//!
//! Callers: the blobs and the downloads note what they open, pull keeps blobs open, the eviction
//! asks and closes.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::oci::Digest;

/// At this many digests those that nobody reads any more are first searched for and removed.
const SPARE: usize = 1024;

/// A complete blob, open for reading.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    /// Read it by position (`pread`, `sendfile`): the descriptor is shared.
    pub file: Arc<File>,
    /// In bytes.
    pub size: u64,
}

/// A blob that is kept open between requests, so that the next one needs no look at the disk. It is
/// no reader: an eviction of the blob closes it.
#[derive(Clone, Debug)]
pub struct KeptOpen {
    file: Arc<Kept>,
    size: u64,
}

type Kept = Mutex<Option<Arc<File>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    open: HashMap<[u8; 16], Open>,
    /// At this many digests the closed ones are removed.
    prune_at: usize,
}

/// The files of a digest, and the places that only keep one of them open.
#[derive(Debug, Default)]
struct Open {
    files: Vec<Weak<File>>,
    kept: Vec<Weak<Kept>>,
}

impl KeptOpen {
    /// The blob, whose owner reads it from now on; `None` once it was closed.
    pub fn get(&self) -> Option<StoredBlob> {
        let file = self.file.lock().clone()?;
        Some(StoredBlob { file, size: self.size })
    }
}

impl Readers {
    pub(super) fn new() -> Self {
        Readers(Mutex::new(Table { open: HashMap::new(), prune_at: SPARE }))
    }

    /// A file of the digest was opened. It counts as read until all of its owners are gone.
    pub(super) fn note(&self, digest: &Digest, file: &Arc<File>) {
        let mut table = self.0.lock();
        let open = table.open.entry(digest.beginning()).or_default();
        open.tidy();
        open.files.push(Arc::downgrade(file));
        if table.open.len() >= table.prune_at {
            table.open.retain(|_, open| open.files.iter().any(|file| file.strong_count() > 0));
            table.prune_at = table.open.len() * 2 + SPARE;
        }
    }

    /// Keeps a blob open that was noted.
    pub(super) fn keep_open(&self, digest: &Digest, blob: &StoredBlob) -> KeptOpen {
        let file = Arc::new(Mutex::new(Some(Arc::clone(&blob.file))));
        let mut table = self.0.lock();
        table.open.entry(digest.beginning()).or_default().kept.push(Arc::downgrade(&file));
        KeptOpen { file, size: blob.size }
    }

    /// Closes the files of the digest that are only kept open. False, and nothing is closed, if
    /// somebody reads one.
    pub(super) fn close(&self, digest: &Digest) -> bool {
        self.is_free(digest, true)
    }

    /// Whether somebody reads the digest. What is only kept open is no reader.
    pub(super) fn is_read(&self, digest: &Digest) -> bool {
        !self.is_free(digest, false)
    }

    fn is_free(&self, digest: &Digest, close: bool) -> bool {
        let table = self.0.lock();
        let Some(open) = table.open.get(&digest.beginning()) else { return true };
        let kept: Vec<_> = open.kept.iter().filter_map(Weak::upgrade).collect();
        // From here on no request gets a file from there.
        let mut places: Vec<_> = kept.iter().map(|kept| kept.lock()).collect();
        let only_kept = |file: &Weak<File>| {
            let keeps =
                |place: &Option<Arc<File>>| place.as_ref().is_some_and(|kept| Arc::as_ptr(kept) == file.as_ptr());
            file.strong_count() <= places.iter().filter(|place| keeps(place)).count()
        };
        let is_free = open.files.iter().all(only_kept);
        if is_free && close {
            places.iter_mut().for_each(|place| drop(place.take()));
        }
        is_free
    }
}

impl Open {
    fn tidy(&mut self) {
        self.files.retain(|file| file.strong_count() > 0);
        self.kept.retain(|kept| kept.strong_count() > 0);
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::digest;

    #[test]
    fn content_is_read_while_any_of_its_files_is_in_use() {
        let readers = Readers::new();
        let file = || Arc::new(tempfile::tempfile().unwrap());
        let (one, two, x) = (file(), file(), digest(b"x"));
        assert!(readers.close(&x));
        readers.note(&x, &one);
        readers.note(&x, &two);
        let copy = Arc::clone(&one);
        drop(one);
        drop(two);
        assert!(readers.is_read(&x) && !readers.close(&x), "a copy of the first one is");
        drop(copy);
        assert!(readers.close(&x));
    }

    #[test]
    fn what_is_only_kept_open_is_closed_unless_somebody_reads_it() {
        let readers = Readers::new();
        let x = digest(b"x");
        let opened = || {
            let blob = StoredBlob { file: Arc::new(tempfile::tempfile().unwrap()), size: 1 };
            readers.note(&x, &blob.file);
            readers.keep_open(&x, &blob)
        };
        let (one, two) = (opened(), opened());
        let reading = one.clone().get().unwrap();
        assert!(!readers.close(&x) && two.get().is_some(), "nothing is closed beside a reader");
        drop(reading);
        assert!(readers.close(&x));
        assert!(one.get().is_none() && two.get().is_none());
        let again = opened();
        drop((one, two));
        assert!(again.get().is_some() && readers.close(&x));
    }

    #[test]
    fn what_nobody_reads_any_more_takes_no_memory() {
        let readers = Readers::new();
        for n in 0..4 * SPARE {
            readers.note(&digest(&n.to_le_bytes()), &Arc::new(tempfile::tempfile().unwrap()));
        }
        assert!(readers.0.lock().open.len() <= SPARE);
    }
}

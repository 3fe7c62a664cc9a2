//! The content that is open for reading. What is evicted is to be free at once, and the bytes of an
//! open file are not.
//!
//! A registry of weak references by the digest's beginning: two digests that share it look open
//! together, which does no harm. Callers: the blobs note what they open; the eviction asks.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::oci::Digest;

/// At this many digests those that nobody reads any more are first searched for and removed.
const SPARE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    open: HashMap<[u8; 16], Vec<Weak<File>>>,
    /// At this many digests the closed ones are removed.
    prune_at: usize,
}

impl Readers {
    pub(super) fn new() -> Self {
        Readers(Mutex::new(Table { open: HashMap::new(), prune_at: SPARE }))
    }

    /// A file of the digest was opened. It counts as read until all of its owners are gone.
    pub(super) fn note(&self, digest: &Digest, file: &Arc<File>) {
        let mut table = self.0.lock();
        let files = table.open.entry(digest.beginning()).or_default();
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(file));
        if table.open.len() >= table.prune_at {
            table.open.retain(|_, files| files.iter().any(|file| file.strong_count() > 0));
            table.prune_at = table.open.len() * 2 + SPARE;
        }
    }

    /// Whether an opened file of the digest is still in use.
    pub(super) fn is_open(&self, digest: &Digest) -> bool {
        let table = self.0.lock();
        table.open.get(&digest.beginning()).is_some_and(|files| files.iter().any(|file| file.strong_count() > 0))
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
        assert!(!readers.is_open(&x));
        readers.note(&x, &one);
        readers.note(&x, &two);
        let copy = Arc::clone(&one);
        drop(one);
        drop(two);
        assert!(readers.is_open(&x), "a copy of the first one is");
        drop(copy);
        assert!(!readers.is_open(&x));
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

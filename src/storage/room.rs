//! The ledger of bytes that are promised and not yet counted (K1 of the cache's promises).
//!
//! Three numbers together never exceed `max_size`: the cached bytes of the census, the bytes that
//! reservations promise, and the bytes that unfinished downloads keep on disk. A reservation is
//! made under one lock, and a download's bytes are in the census before its reservation ends, so
//! the sum may be too large for a moment and never too small.
//!
//! | a digest's bytes are | from | until |
//! |---|---|---|
//! | reserved | [`Ledger::reserve`] | the [`Reservation`] is dropped |
//! | reserved, of a manifest in memory | [`Ledger::promise`] | it is written |
//! | reserved, of content on its way out | [`Ledger::leaving`] | it is unlinked |
//! | parked | a download that is put down, or found at the start | it is taken up, or swept |
//!
//! Callers: `Disk`, the downloads, and the verbs of `verbs/room.rs`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::room_queue::RoomQueue;
use crate::oci::Digest;

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    max: Option<u64>,
    /// The cached bytes that are not evicted, as the retention told last.
    stays: AtomicU64,
    books: Arc<SharedBooks>,
}

/// The books, and the downloads that wait for what becomes free in them.
#[derive(Debug)]
struct SharedBooks {
    books: Mutex<Books>,
    queue: Arc<RoomQueue>,
}

#[derive(Debug, Default)]
struct Books {
    reserved: u64,
    parked: HashMap<Digest, u64>,
}

/// Room for one download, from the moment before its first byte until it is a blob or put down. On
/// drop its bytes are given back, except for those that stay on disk.
#[derive(Debug)]
#[must_use = "room that is dropped is given back"]
pub struct Reservation {
    digest: Digest,
    books: Arc<SharedBooks>,
    max: Option<u64>,
    reserved: u64,
    /// How many bytes stay on disk if it is dropped now.
    on_disk: u64,
}

impl Ledger {
    /// `queue` is told of each byte that becomes free.
    pub(super) fn new(max: Option<u64>, queue: Arc<RoomQueue>) -> Self {
        Ledger { max, stays: AtomicU64::new(0), books: Arc::new(SharedBooks { books: Mutex::default(), queue }) }
    }

    /// Whether there is a `max_size`.
    pub(super) fn is_bounded(&self) -> bool {
        self.max.is_some()
    }

    /// Notes how many cached bytes are not evicted.
    pub(super) fn note_stays(&self, bytes: u64) {
        self.stays.store(bytes, Ordering::Relaxed);
    }

    /// The cached bytes that are not evicted.
    pub(super) fn stays(&self) -> u64 {
        self.stays.load(Ordering::Relaxed)
    }

    /// Whether `bytes` fit beside what is not evicted.
    pub(super) fn could_fit(&self, bytes: u64) -> bool {
        self.max.is_none_or(|max| bytes.saturating_add(self.stays()) <= max)
    }

    /// Notes the bytes that an earlier process left of a download.
    pub(super) fn found(&self, digest: Digest, bytes: u64) {
        lock(&self.books).parked.insert(digest, bytes);
    }

    /// An unfinished download was removed.
    pub(super) fn swept(&self, digest: &Digest) {
        lock(&self.books).parked.remove(digest);
        self.books.queue.freed();
    }

    /// Whether `bytes` more fit beside `cached` bytes that are counted.
    pub(super) fn fits(&self, bytes: u64, cached: impl FnOnce() -> u64) -> bool {
        let books = lock(&self.books);
        self.max.is_none_or(|max| books.sum(cached()).saturating_add(bytes) <= max)
    }

    /// Promises `bytes` of content that is in memory, if they fit.
    pub(super) fn promise(&self, bytes: u64, cached: impl FnOnce() -> u64) -> Option<Promise> {
        let mut books = lock(&self.books);
        if self.max.is_some_and(|max| books.sum(cached()).saturating_add(bytes) > max) {
            return None;
        }
        books.reserved += bytes;
        Some(Promise { books: Arc::clone(&self.books), bytes })
    }

    /// Counts `bytes` that are on their way out.
    pub(super) fn leaving(&self, bytes: u64) -> Promise {
        lock(&self.books).reserved += bytes;
        Promise { books: Arc::clone(&self.books), bytes }
    }

    /// How many bytes are too many for `bytes` more to fit.
    pub(super) fn lack(&self, bytes: u64, cached: impl FnOnce() -> u64) -> u64 {
        let books = lock(&self.books);
        self.max.map_or(0, |max| books.sum(cached()).saturating_add(bytes).saturating_sub(max))
    }

    /// The bytes of the reservations that live, and of what is on its way out.
    pub(super) fn reserved(&self) -> u64 {
        lock(&self.books).reserved
    }

    /// The reserved bytes, and the parked ones.
    pub(super) fn promised(&self) -> (u64, u64) {
        let books = lock(&self.books);
        (books.reserved, books.parked())
    }

    /// The most bytes that may be kept in all.
    pub(super) fn max(&self) -> Option<u64> {
        self.max
    }

    /// Reserves `bytes` for `digest`, or as many as an earlier download left of it, if they fit.
    pub(super) fn reserve(&self, digest: Digest, bytes: u64, cached: impl FnOnce() -> u64) -> Option<Reservation> {
        let mut books = lock(&self.books);
        let on_disk = books.parked.get(&digest).copied().unwrap_or(0);
        let bytes = bytes.max(on_disk);
        let more = bytes - on_disk;
        if self.max.is_some_and(|max| more > 0 && books.sum(cached()).saturating_add(more) > max) {
            return None;
        }
        books.parked.remove(&digest);
        books.reserved += bytes;
        Some(Reservation { digest, books: Arc::clone(&self.books), max: self.max, reserved: bytes, on_disk })
    }
}

/// Room for content that is written in one step. It is given back on drop: the content is counted
/// by then.
#[derive(Debug)]
#[must_use = "room that is dropped is given back"]
pub(super) struct Promise {
    books: Arc<SharedBooks>,
    bytes: u64,
}

impl Promise {
    /// Its bytes count from now on until the process ends: they stay on disk, and nobody knows of
    /// them.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        lock(&self.books).reserved -= self.bytes;
        self.books.queue.freed();
    }
}

impl Reservation {
    /// The digest that it is for.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Makes it `bytes` in all, if they fit. Fewer than before change nothing.
    pub(super) fn grow_to(&mut self, bytes: u64, cached: impl FnOnce() -> u64) -> bool {
        let mut books = lock(&self.books);
        let more = bytes.saturating_sub(self.reserved);
        if self.max.is_some_and(|max| more > 0 && books.sum(cached()).saturating_add(more) > max) {
            return false;
        }
        books.reserved += more;
        self.reserved += more;
        true
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.reserved
    }

    /// Promises no more than what is on disk.
    pub(super) fn shrink(&mut self) {
        lock(&self.books).reserved -= self.reserved - self.on_disk;
        self.reserved = self.on_disk;
        self.books.queue.freed();
    }

    /// Its bytes are in the census: they are given back at once, before the content is durable, so
    /// that nothing is evicted because they count twice.
    pub(super) fn counted(&mut self) {
        lock(&self.books).reserved -= std::mem::take(&mut self.reserved);
        self.on_disk = 0;
        self.books.queue.freed();
    }

    /// Sets how many bytes stay on disk if it is dropped.
    pub(super) fn keeps(&mut self, on_disk: u64) {
        self.on_disk = on_disk;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut books = lock(&self.books);
        books.reserved -= self.reserved;
        if self.on_disk > 0 {
            books.parked.insert(self.digest, self.on_disk);
        }
        drop(books);
        self.books.queue.freed();
    }
}

impl Books {
    fn sum(&self, cached: u64) -> u64 {
        cached.saturating_add(self.reserved).saturating_add(self.parked())
    }

    fn parked(&self) -> u64 {
        self.parked.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes))
    }
}

fn lock(shared: &SharedBooks) -> MutexGuard<'_, Books> {
    shared.books.lock()
}

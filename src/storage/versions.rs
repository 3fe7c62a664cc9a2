//! The version of each repository: a number that each change of its links or tags raises, in this
//! process. A change also raises the versions of some other repositories, and the removal of a blob
//! those of all; an eviction raises none.
//!
//! Promises: an answer that a caller keeps in memory is good while the version is the one that the
//! caller read *before* it looked at the files. A change counts after its files and its index
//! entries are written and before it is acknowledged, so an answer from before an acknowledged
//! change is never taken for a good one. The pins have a version of their own, and so has the list
//! of repositories. Callers: the catalogue, the pins, the blobs and the quarantine count; verbs
//! read.

use std::{
    hash::BuildHasher as _,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::oci::Repository;

/// Counters that the repositories share by hash: a change of one repository costs the others on its
/// counter a look at the disk.
const COUNTERS: usize = 1024;

/// The versions of one data folder.
#[derive(Debug)]
pub(super) struct Versions {
    counters: Vec<AtomicU64>,
    /// Blobs that were removed. A removal is rare, and counts as a change of every repository.
    removals: AtomicU64,
    pins: AtomicU64,
    /// Repositories that have become known.
    births: AtomicU64,
    hasher: foldhash::fast::RandomState,
}

/// A change under way. It counts when this is dropped, also if the change failed.
#[derive(Debug)]
#[must_use = "the change counts when this is dropped"]
pub(super) struct Change<'a>(&'a AtomicU64);

impl Versions {
    pub(super) fn new() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Versions {
            counters,
            removals: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            births: AtomicU64::new(0),
            hasher: Default::default(),
        }
    }

    pub(super) fn of(&self, repository: &Repository) -> u64 {
        self.counter(repository).load(Ordering::Acquire) + self.removals.load(Ordering::Acquire)
    }

    /// A blob is being removed.
    pub(super) fn removal(&self) -> Change<'_> {
        Change(&self.removals)
    }

    pub(super) fn of_pins(&self) -> u64 {
        self.pins.load(Ordering::Acquire)
    }

    /// A pin is being made or removed.
    pub(super) fn pins_change(&self) -> Change<'_> {
        Change(&self.pins)
    }

    pub(super) fn births(&self) -> u64 {
        self.births.load(Ordering::Acquire)
    }

    /// A repository is becoming known.
    pub(super) fn birth(&self) -> Change<'_> {
        Change(&self.births)
    }

    pub(super) fn change(&self, repository: &Repository) -> Change<'_> {
        Change(self.counter(repository))
    }

    fn counter(&self, repository: &Repository) -> &AtomicU64 {
        &self.counters[self.hasher.hash_one(repository) as usize % COUNTERS]
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

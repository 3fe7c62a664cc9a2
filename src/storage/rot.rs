//! Rot: content whose bytes no longer match its digest.
//!
//! | found by | when |
//! |---|---|
//! | [`Finder::Read`] | a manifest is read; a blob cannot be opened, or its length is in doubt |
//! | [`Finder::SecondLook`] | a client asks again for a blob that it was just given whole |
//! | [`Finder::Scrub`] | the scrub reads everything again |
//!
//! Rotten content goes to the quarantine (`quarantine.rs`). Where that fails, as on a read-only
//! disk, [`Rots`] keeps its digest, and the content is not given out either. A sector that cannot
//! be read is rot too. Callers: the files of this room that read content; the metrics read the
//! counts.

use std::{
    collections::HashSet,
    io,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::RwLock;
use rustix::io::Errno;

use crate::oci::Digest;

/// By which kind of reading content was found rotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finder {
    /// An ordinary read.
    Read,
    /// The proof before a blob is given to the same client again.
    SecondLook,
    /// The scrub.
    Scrub,
}

impl Finder {
    /// All of them.
    pub const ALL: [Finder; 3] = [Finder::Read, Finder::SecondLook, Finder::Scrub];

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Finder::Read => "read",
            Finder::SecondLook => "second_look",
            Finder::Scrub => "scrub",
        }
    }
}

/// How much content was found rotten since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotCount {
    /// By which kind of reading.
    pub by: Finder,
    /// Blobs and manifests that only upstreams' repositories hold, or no repository at all.
    pub cached: u64,
    /// Blobs and manifests that a hosted repository holds.
    pub hosted: u64,
}

/// The counts, and the content that could not be moved away.
#[derive(Debug, Default)]
pub(super) struct Rots {
    cached: [AtomicU64; 3],
    hosted: [AtomicU64; 3],
    /// Rotten content that is still under its name.
    stuck: RwLock<HashSet<Digest>>,
    /// How many of them there are: while there are none, a look takes no lock.
    stuck_count: AtomicUsize,
}

impl Rots {
    /// The finds since the start, by finder.
    pub(super) fn found(&self) -> [RotCount; 3] {
        Finder::ALL.map(|by| RotCount {
            by,
            cached: self.cached[by as usize].load(Ordering::Relaxed),
            hosted: self.hosted[by as usize].load(Ordering::Relaxed),
        })
    }

    /// Whether the content is known to be rotten and is still under its name.
    pub(super) fn is_stuck(&self, digest: &Digest) -> bool {
        self.stuck_count.load(Ordering::Acquire) > 0 && self.stuck.read().contains(digest)
    }

    /// Good content has taken the name.
    pub(super) fn healed(&self, digest: &Digest) {
        if self.is_stuck(digest) {
            let mut stuck = self.stuck.write();
            stuck.remove(digest);
            self.stuck_count.store(stuck.len(), Ordering::Release);
        }
    }

    /// Keeps the content from being given out. `false`: it was kept back already.
    pub(super) fn keep_back(&self, digest: &Digest) -> bool {
        let mut stuck = self.stuck.write();
        let new = stuck.insert(*digest);
        self.stuck_count.store(stuck.len(), Ordering::Release);
        new
    }

    pub(super) fn count(&self, by: Finder, hosted: bool) {
        let counts = if hosted { &self.hosted } else { &self.cached };
        counts[by as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an error says that the disk has lost the data it was asked for. Any other error says
/// nothing about the content.
pub(super) fn is_loss(error: &io::Error) -> bool {
    // Damage of the file system's own structures has the last two errors.
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

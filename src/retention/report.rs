//! What the retention reports: the collector, the scrub, the eviction, and the counts of content.
//!
//! These are the shapes of `/api/v1` and of the command line; admin hands them on. A field that an
//! older server does not send has its default.

use serde::{Deserialize, Serialize};

pub use crate::storage::Scrubbed;

/// The removals of one pass, or of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Collection {
    /// Links of hosted repositories to blobs that none of their manifests needs.
    pub links: u64,
    /// Blobs that no repository holds.
    pub blobs: u64,
    /// The bytes of those blobs.
    pub bytes: u64,
    /// Abandoned uploads.
    pub uploads: u64,
    /// Unneeded links and blobs that stay until their grace is over.
    pub waiting: u64,
    /// The bytes of those, each content once.
    pub waiting_bytes: u64,
    /// When the grace of the last of them is over, in seconds since 1970. It moves if a client asks
    /// for the content meanwhile.
    pub waiting_until: Option<u64>,
    /// Repositories that were skipped because an upload to them is under way. Only a pass that
    /// ignores the grace skips them.
    pub pushed_to: u64,
    /// Repositories and blobs that were skipped because their needs cannot be read. The log says
    /// why.
    pub skipped: u64,
}

impl Collection {
    /// Whether the pass removed nothing.
    pub fn is_empty(&self) -> bool {
        self.links == 0 && self.blobs == 0 && self.uploads == 0
    }
}

/// The progress of the scrub.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// The period in which everything is read again, in seconds; 0: never.
    pub every: u64,
    /// Whether a pass is under way. It may be waiting for its next read.
    pub under_way: bool,
    /// All bytes that are stored now.
    pub total: u64,
    /// The pass under way, or the last one.
    pub pass: Scrubbed,
    /// The last pass that was finished.
    pub finished: Option<Scrubbed>,
}

/// The eviction since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct EvictionStatus {
    /// The age in seconds that once-used content reaches; `None` before any such content went.
    pub turn: Option<u64>,
    /// What went, and what for.
    pub evicted: EvictedBytes,
    /// The disk is full, and content goes for its sake no more: it set no space free.
    pub stopped: bool,
    /// The last download or push that needed room found nothing that may go.
    pub in_vain: bool,
}

/// Evicted bytes since the start, by what they went for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct EvictedBytes {
    /// `cache.max_size`.
    pub cap: u64,
    /// `cache.min_free`.
    pub floor: u64,
    /// An operator's `cache trim`.
    pub trim: u64,
    /// An operator's `rm`.
    pub rm: u64,
}

impl EvictedBytes {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.cap + self.floor + self.trim + self.rm
    }
}

/// What a trim let go, or would.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Trimmed {
    /// Blobs, and unfinished downloads.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that were to go too, and that nothing is left for.
    pub missing: u64,
}

/// A pass that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Its duration in milliseconds.
    pub duration_ms: u64,
    /// Its removals.
    pub removed: Collection,
}

/// The stored content in numbers, and the last pass of the collector.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Blobs and manifests on disk.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that a hosted repository holds, also if a mirrored one does. The others are
    /// cached.
    pub hosted_blobs: u64,
    /// Their bytes.
    pub hosted_bytes: u64,
    /// Whether the count is complete. Until then the numbers above are a lower bound.
    pub counted: bool,
    /// Whether the disk can be written.
    pub writable: bool,
    /// Whether the index is ready. Until then files give the same answers.
    pub index: bool,
    /// Uploads under way, or waiting to be continued.
    pub uploads: u64,
    /// Blobs and manifests that any reader has found rotten since the start.
    pub rotten: u64,
    /// Those of them that were pushed: only another push brings them back.
    pub hosted_rotten: u64,
    /// The last pass since the start.
    pub last_pass: Option<Passed>,
}

/// A hosted repository.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedRepository {
    /// Its name.
    pub name: String,
    /// How many tags it has.
    pub tags: u64,
    /// How many manifests it holds.
    pub manifests: u64,
    /// How many blobs it holds.
    pub blobs: u64,
    /// The bytes of both. Repositories share content, so the sum over all of them can be more than
    /// the bytes on disk.
    pub bytes: u64,
}

//! What collector tells about itself, as plain data: the shapes of `/api/v1` and of the command line.

use serde::{Deserialize, Serialize};

pub use crate::storage::Scrubbed;

/// What one pass removed, or would have removed.
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
    /// Links and blobs that are needed as little, and stay until their grace is over.
    pub waiting: u64,
    /// The bytes of those, each content once.
    pub waiting_bytes: u64,
    /// When the grace of the last of them is over, in seconds since 1970; later where a client asks
    /// for it meanwhile.
    pub waiting_until: Option<u64>,
    /// Repositories that an upload is under way to. A pass that waits for no grace leaves them
    /// alone.
    pub pushed_to: u64,
    /// Repositories and blobs that were left alone, because it cannot be told what is needed. The log says why.
    pub skipped: u64,
}

impl Collection {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.links == 0 && self.blobs == 0 && self.uploads == 0
    }
}

/// How the scrub gets on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// Within how many seconds everything is read again; 0: never.
    pub every: u64,
    /// Whether a pass is under way. What remains of it can wait until its time comes.
    pub under_way: bool,
    /// The bytes there are to read.
    pub total: u64,
    /// The pass under way, or the last that was begun.
    pub pass: Scrubbed,
    /// The last pass that came to its end.
    pub finished: Option<Scrubbed>,
}

/// A pass that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// What it did.
    pub removed: Collection,
}

/// What is kept, and how collector gets on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Blobs and manifests on disk.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those blobs, the ones that a hosted repository holds, whoever else does. The others are
    /// cached.
    pub hosted_blobs: u64,
    /// Their bytes.
    pub hosted_bytes: u64,
    /// Whether all of them are counted yet; the numbers above are a lower bound until then.
    pub counted: bool,
    /// Whether the disk takes anything new.
    pub writable: bool,
    /// Whether reads come from the index; files give the same answers.
    pub index: bool,
    /// Uploads under way, or waiting to be continued.
    pub uploads: u64,
    /// Blobs and manifests that were found rotten since the start, by whatever read them.
    pub rotten: u64,
    /// Of those, the ones that were pushed: nothing can bring them back but another push.
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
    /// The bytes of both. Repositories share content: the sum over all of them is more than what is on disk.
    pub bytes: u64,
}

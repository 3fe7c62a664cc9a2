//! What upkeep tells about itself, as plain data: the shapes of `/api/v1` and of the command line.

use serde::{Deserialize, Serialize};

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
    /// Repositories and blobs that were left alone, because it cannot be told what is needed. The log says why.
    pub skipped: u64,
}

impl Collection {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        let Collection { links, blobs, bytes: _, uploads, waiting: _, skipped: _ } = *self;
        links == 0 && blobs == 0 && uploads == 0
    }
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

/// What is kept, and how upkeep gets on.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Blobs and manifests on disk.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether all of them are counted yet; the numbers above are a lower bound until then.
    pub counted: bool,
    /// Whether the disk takes anything new.
    pub writable: bool,
    /// Whether reads come from the index; files give the same answers.
    pub index: bool,
    /// Uploads under way, or waiting to be continued.
    pub uploads: u64,
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

//! The limits of what may be kept, and the counts of what is kept, as plain values.
//!
//! Callers: the app sets [`Limits`]; the metrics, `/api/v1` and the retention read [`Usage`], which
//! the census makes.

use crate::config::MinFree;

/// How much may be kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// The most bytes of cached blobs, which are those that no hosted repository links; `None`: no
    /// limit but the disk.
    pub max_size: Option<u64>,
    /// The free space that is left to the disk.
    pub min_free: MinFree,
}

/// How many bytes have to go before some more fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lack {
    /// Of cached content, for `max_size`.
    pub of_max_size: u64,
    /// Of any content, for the free space of the disk.
    pub of_disk: u64,
    /// The bytes that are missing of the free space, now that the file system has not confirmed all
    /// that was removed. None of them need go again.
    pub unconfirmed: u64,
}

impl Lack {
    /// Whether they fit.
    pub fn is_none(&self) -> bool {
        self.of_max_size == 0 && self.of_disk == 0
    }
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Blobs, manifests included.
    pub blobs: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Of those bytes, the ones that a hosted repository links, whether others do or not. The rest
    /// is cached.
    pub hosted: u64,
    /// Of those blobs, the ones that a hosted repository links.
    pub hosted_blobs: u64,
    /// Whether every blob is counted yet. After a crash that takes a while; until then this is a
    /// lower bound.
    pub complete: bool,
}

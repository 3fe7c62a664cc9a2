//! The gauges and counters that other rooms keep, read at one moment.
//!
//! `app/sample.rs` makes a [`Sample`] each time it is asked for one: for each scrape, whose text
//! [`Metrics::encode`](super::Metrics::encode) writes, and for the status that `admin` tells.

use crate::oci::UpstreamName;

/// The state of the store, the fills and the upstreams.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Bytes on disk that no hosted repository holds.
    pub cache_bytes: u64,
    /// Blobs and manifests on disk that no hosted repository holds.
    pub cache_blobs: u64,
    /// Bytes on disk that a hosted repository holds, even if a mirrored one holds them too.
    pub hosted_bytes: u64,
    /// Blobs and manifests on disk that a hosted repository holds.
    pub hosted_blobs: u64,
    /// What the eviction did, and the room that is promised.
    pub cache_life: CacheLife,
    /// Bytes that the scrub has read.
    pub scrubbed: u64,
    /// Blobs and manifests that were found rotten: their kind, the check that found them, and their
    /// number. The first two are from fixed lists.
    pub rotten: Vec<(&'static str, &'static str, u64)>,
    /// Downloads under way.
    pub fills_active: u64,
    /// Each configured upstream.
    pub upstreams: Vec<UpstreamSample>,
}

/// The room of the cache, and what was evicted. The words are from fixed lists.
#[derive(Clone, Debug, Default)]
pub struct CacheLife {
    /// Bytes that downloads under way have reserved.
    pub reserved: u64,
    /// Bytes of unfinished downloads that are not under way.
    pub parked: u64,
    /// Bytes of cached content that stays: pinned, or kept by a pattern or a rule.
    pub pinned: u64,
    /// The age in seconds that once-used content reaches, if it is known.
    pub turn: Option<u64>,
    /// Evicted bytes, by what they went for.
    pub evicted: Vec<(&'static str, u64)>,
    /// Bytes that were evicted and fetched again.
    pub refetched: u64,
    /// Waits for room, by how they ended.
    pub room_waits: Vec<(&'static str, u64)>,
}

/// The state and the counts of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamSample {
    /// Its name.
    pub name: UpstreamName,
    /// Pulls allowed in the window and pulls left, if the upstream has told them.
    pub rate_limit: Option<(u64, u64)>,
    /// Whether it is not asked, because of failures.
    pub circuit_open: bool,
    /// Requests to it since the start, by kind. The kinds are from a fixed list.
    pub requests: Vec<(&'static str, u64)>,
    /// Requests that repeat another one after a failure.
    pub retries: u64,
    /// Requests without a usable answer: unreachable, 5xx, 429.
    pub errors: u64,
    /// Answers that were not believed.
    pub untrue: u64,
    /// Body bytes that were received.
    pub received: u64,
}

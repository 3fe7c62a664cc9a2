//! The gauges' values at one moment, gathered by the app when somebody scrapes.

use crate::oci::UpstreamName;

/// What the stores, fills and upstreams are like right now.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Bytes on disk that no hosted repository holds.
    pub cache_bytes: u64,
    /// The blobs and manifests of those.
    pub cache_blobs: u64,
    /// Bytes on disk that a hosted repository holds, whoever else does.
    pub hosted_bytes: u64,
    /// The blobs and manifests of those.
    pub hosted_blobs: u64,
    /// Bytes that the scrub has read.
    pub scrubbed: u64,
    /// Blobs and manifests that were found rotten: of what kind, by whom, how many. The first two
    /// are from fixed lists.
    pub rotten: Vec<(&'static str, &'static str, u64)>,
    /// Downloads under way.
    pub fills_active: u64,
    /// Each configured upstream.
    pub upstreams: Vec<UpstreamSample>,
}

/// One upstream right now.
#[derive(Clone, Debug)]
pub struct UpstreamSample {
    /// Its name.
    pub name: UpstreamName,
    /// Pulls allowed in the window and pulls left, where it has said so.
    pub rate_limit: Option<(u64, u64)>,
    /// Whether it is being left alone after failures.
    pub circuit_open: bool,
    /// What it was asked since the start, by kind of request, from a fixed list.
    pub requests: Vec<(&'static str, u64)>,
    /// Of these, the ones that repeat another after a failure.
    pub retries: u64,
    /// Of these, the ones without a usable answer: unreachable, 5xx, 429.
    pub errors: u64,
    /// Answers that were not believed.
    pub untrue: u64,
    /// Body bytes that came.
    pub received: u64,
}

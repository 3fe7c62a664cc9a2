//! How often an upstream was asked, and with which results.
//!
//! The numbers only grow. The metrics page reads a snapshot.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The kinds of requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestKind {
    /// HEAD of a manifest: a tag check.
    ManifestHead,
    /// GET of a manifest. Rate limits count these.
    Manifest,
    /// HEAD of a blob.
    BlobHead,
    /// GET of a blob, or of a part of it.
    Blob,
    /// GET of a page of tags.
    Tags,
    /// GET of a page of referrers.
    Referrers,
    /// GET of a token.
    Token,
    /// GET of `/v2/` for the registry's challenge.
    Greeting,
    /// GET of `/v2/` as a probe of a failed upstream. Its end decides about the circuit.
    Probe,
}

impl RequestKind {
    /// Every kind, in the order above.
    pub const ALL: [RequestKind; 9] = [
        RequestKind::ManifestHead,
        RequestKind::Manifest,
        RequestKind::BlobHead,
        RequestKind::Blob,
        RequestKind::Tags,
        RequestKind::Referrers,
        RequestKind::Token,
        RequestKind::Greeting,
        RequestKind::Probe,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestKind::ManifestHead => "manifest_head",
            RequestKind::Manifest => "manifest",
            RequestKind::BlobHead => "blob_head",
            RequestKind::Blob => "blob",
            RequestKind::Tags => "tags",
            RequestKind::Referrers => "referrers",
            RequestKind::Token => "token",
            RequestKind::Greeting => "greeting",
            RequestKind::Probe => "probe",
        }
    }
}

/// One upstream's counters.
#[derive(Debug, Default)]
pub(super) struct UpstreamCounters {
    requests: [AtomicU64; RequestKind::ALL.len()],
    retries: AtomicU64,
    errors: AtomicU64,
    untrue: AtomicU64,
    bytes_in: AtomicU64,
    waited_micros: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpstreamSnapshot {
    requests: [u64; RequestKind::ALL.len()],
    /// Requests that were sent again after a transient failure. They count as requests too.
    pub retries: u64,
    /// Requests without a usable answer: unreachable, 5xx, 429.
    pub errors: u64,
    /// Answers that lanyard refused: wrong digest, nonsense.
    pub untrue: u64,
    /// Bytes of bodies that were received.
    pub bytes_in: u64,
    /// The time that all requests together waited for heads.
    pub waited: Duration,
}

impl UpstreamCounters {
    pub(super) fn requested(&self, kind: RequestKind) {
        self.requests[kind as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn erred(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(super) fn disbelieved(&self) {
        self.untrue.fetch_add(1, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waited_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A snapshot. Each number is exact, but they are not all of the same instant.
    pub(super) fn snapshot(&self) -> UpstreamSnapshot {
        UpstreamSnapshot {
            requests: std::array::from_fn(|i| self.requests[i].load(Relaxed)),
            retries: self.retries.load(Relaxed),
            errors: self.errors.load(Relaxed),
            untrue: self.untrue.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            waited: Duration::from_micros(self.waited_micros.load(Relaxed)),
        }
    }
}

impl UpstreamSnapshot {
    /// How many requests of this kind were sent, retries included.
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.requests[kind as usize]
    }
}

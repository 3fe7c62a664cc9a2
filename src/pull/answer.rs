//! The answers of a pull, as plain values that know nothing of HTTP.
//!
//! Each has a [`Trace`], which says how it came about. `http` turns them into responses.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use super::BlobBody;
use crate::{
    oci::{ContentRanges, Digest, Outcome, Tags, UpstreamName},
    upstream::Registry,
};

/// How an answer came about, for header, log and metrics.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The outcome word (DESIGN.md section 1).
    pub outcome: Outcome,
    /// The upstream that the content is from; `None` for hosted content.
    pub upstream: Option<UpstreamName>,
    /// How long this request waited for upstream.
    pub upstream_time: Duration,
}

/// The trace of an answer for which this upstream was asked.
pub(super) fn trace(outcome: Outcome, upstream: &Registry, upstream_time: Duration) -> Trace {
    Trace { outcome, upstream: Some(upstream.name().clone()), upstream_time }
}

/// A manifest.
#[derive(Clone, Debug)]
pub struct ManifestAnswer {
    /// The bytes as upstream sent them.
    pub bytes: Bytes,
    /// The type they came with, without parameters.
    pub media_type: Arc<str>,
    /// Their digest.
    pub digest: Digest,
    /// What its tag is frozen at: a day, or the name of a lock file.
    pub frozen: Option<Arc<str>>,
    /// How it came about.
    pub trace: Trace,
}

/// A blob, or ranges of one.
pub struct BlobAnswer {
    /// The whole blob's length in bytes.
    pub size: u64,
    /// Present if ranges were asked for: the ranges that `body` brings, in this order. Absent:
    /// `body` is the whole.
    pub ranges: Option<ContentRanges>,
    /// The bytes.
    pub body: BlobBody,
    /// How it came about.
    pub trace: Trace,
}

/// A blob's length.
#[derive(Clone, Debug)]
pub struct BlobHead {
    /// In bytes.
    pub size: u64,
    /// How it came about.
    pub trace: Trace,
}

/// Which of a repository's tags are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TagPage {
    /// Only tags that sort after this one.
    pub last: Option<String>,
    /// At most this many. 0 gives an empty page that nothing follows (distribution-spec).
    pub n: Option<usize>,
}

/// A repository's tags, or a page of them.
#[derive(Clone, Debug)]
pub struct TagList {
    /// All that are known, sorted by their bytes.
    pub all: Arc<Tags>,
    /// The positions of the wanted ones.
    pub wanted: Range<usize>,
    /// Whether more tags follow.
    pub more: bool,
    /// How it came about.
    pub trace: Trace,
}

/// The referrers of a manifest, or a page of them.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// An OCI image index as JSON.
    pub index: Bytes,
    /// If more follow, the digest after which they come.
    pub next: Option<String>,
    /// How it came about.
    pub trace: Trace,
}

//! What a pull gives back: plain values that know nothing of HTTP.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use super::BlobBody;
use crate::oci::{ContentRanges, Digest, Outcome, Tags, UpstreamName};

/// How an answer came about, for header, log and metrics.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The outcome word.
    pub outcome: Outcome,
    /// Which upstream the content is from; `None` for hosted content.
    pub upstream: Option<UpstreamName>,
    /// How long this request waited for upstream.
    pub upstream_time: Duration,
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
    /// How they came.
    pub trace: Trace,
}

/// A blob, or ranges of one.
pub struct BlobAnswer {
    /// The whole blob's length in bytes.
    pub size: u64,
    /// Present where ranges were asked for: what `body` will bring, in this order. Absent: `body`
    /// is the whole.
    pub ranges: Option<ContentRanges>,
    /// The bytes.
    pub body: BlobBody,
    /// How they come.
    pub trace: Trace,
}

/// A blob's length.
#[derive(Clone, Debug)]
pub struct BlobHead {
    /// In bytes.
    pub size: u64,
    /// How it was learned.
    pub trace: Trace,
}

/// Which of a repository's tags are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TagPage {
    /// Those that sort after this.
    pub last: Option<String>,
    /// At most so many. None at all is an empty page that nothing follows (distribution-spec).
    pub n: Option<usize>,
}

/// A repository's tags, or a page of them.
#[derive(Clone, Debug)]
pub struct TagList {
    /// Sorted by their bytes; all that are known.
    pub all: Arc<Tags>,
    /// Which of them are wanted.
    pub wanted: Range<usize>,
    /// Whether others follow.
    pub more: bool,
    /// How they came.
    pub trace: Trace,
}

/// What refers to a manifest, or a page of it.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// An OCI image index as JSON.
    pub index: Bytes,
    /// Where others follow, the digest that they come after.
    pub next: Option<String>,
    /// How it came.
    pub trace: Trace,
}

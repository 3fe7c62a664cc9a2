//! The shapes of `/api/v1`: the server writes them, the command line reads them.
//!
//! A field that is added later has a default, so that a newer command line understands an older
//! server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{savings::SavingsSum, why::Why};
use crate::oci::Digest;
pub use crate::retention::{
    Collection, EvictedBytes, EvictionStatus, HostedRepository, Kept, Passed, ScrubStatus, Scrubbed, Trimmed,
};

/// `/api/v1/status`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of lanyard.
    pub version: String,
    /// The id of its process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// The registry's address.
    pub listening: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// False while the registry drains.
    pub ready: bool,
    /// The content on disk.
    pub kept: Kept,
    /// How the scrub gets on.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// The room that the cache has, and what was evicted.
    #[serde(default)]
    pub cache: CacheStatus,
    /// What was saved; absent from an older server.
    #[serde(default)]
    pub savings: Option<SavingsSum>,
    /// The number of downloads under way.
    pub fills: u64,
    /// The configured upstreams.
    pub upstreams: Vec<UpstreamStatus>,
}

/// The room of the cache in a [`Status`]. All in bytes, but for the waits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheStatus {
    /// `cache.max_size`, if it is set.
    pub max_size: Option<u64>,
    /// Content that no hosted repository links.
    pub cached: u64,
    /// The part of it that stays: pinned, or kept by a pattern or a rule.
    pub pinned: u64,
    /// What downloads under way may still write, and have written.
    pub reserved: u64,
    /// Unfinished downloads that are not under way.
    pub parked: u64,
    /// The eviction; `None` where lanyard is offline.
    pub eviction: Option<EvictionStatus>,
    /// What was evicted and fetched again since the start.
    pub refetched: u64,
    /// Of it, what came back within a day: with more room it would have been a hit.
    pub refetched_within_a_day: u64,
    /// How often a download or a push waited for room, and got it.
    pub waits_granted: u64,
    /// How often it did not.
    pub waits_refused: u64,
}

/// One upstream in a [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// False while it is not asked, after failures.
    pub reachable: bool,
    /// The pulls that it allows in a window, if it has said so.
    pub limit: Option<u64>,
    /// The pulls that are left of them.
    pub remaining: Option<u64>,
}

/// `/api/v1/repositories`
#[derive(Debug, Serialize, Deserialize)]
pub struct Repositories {
    /// Sorted by name.
    pub repositories: Vec<HostedRepository>,
}

/// `/api/v1/pins`
#[derive(Debug, Serialize, Deserialize)]
pub struct Pins {
    /// Sorted by image.
    pub pins: Vec<Pinned>,
    /// The patterns of `cache.keep`, whose images are kept as well.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Repositories with a pin that cannot be read, as in `docker.io/library/nginx`, `docker.io/*`
    /// or `*`. Nothing of them is evicted.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// A pin. The answer of PUT `/api/v1/pins/IMAGE` is a list of them: one for the tag, one for the
/// digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pinned {
    /// The image, in full.
    pub image: String,
    /// It was pushed here, so it is never evicted anyway.
    pub hosted: bool,
    /// The platforms that are kept of an index; empty: all of them.
    pub platforms: Vec<String>,
    /// `pinned` or `imported`.
    pub why: String,
    /// The operator's own words.
    pub note: String,
    /// Who pinned it.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// DELETE `/api/v1/pins/IMAGE`
#[derive(Debug, Serialize, Deserialize)]
pub struct Unpinned {
    /// The images that were pinned until now, in full.
    pub images: Vec<String>,
}

/// `/api/v1/images`
#[derive(Debug, Serialize, Deserialize)]
pub struct Images {
    /// A page of them. It may be empty and have a next one.
    pub images: Vec<ImageRow>,
    /// The value of `last=` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// An image of a page.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImageRow {
    /// Its full name, with a tag or a digest.
    pub image: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The platforms that are here, as in `linux/arm64/v8`.
    pub platforms: Vec<String>,
    /// Those of an index whose manifests are not here: an image is whole without them.
    #[serde(default)]
    pub other_platforms: Vec<String>,
    /// Bytes of it that are here, manifests included. A part that other images share counts in
    /// each.
    pub here: u64,
    /// Bytes that were here once and are not any more.
    pub let_go: u64,
    /// Bytes that the manifests here name and that were never fetched.
    pub never_fetched: u64,
    /// How much of it is here.
    pub of: Completeness,
    /// Why it is kept.
    pub why: Why,
    /// The last use of its manifest, in seconds since 1970.
    pub last_used: Option<u64>,
    /// The uses of its manifest, at most one a minute.
    pub uses: u16,
    /// Bytes of its blobs that clients were given from here.
    pub saved: u64,
    /// Why it is not known what it needs, or why clients get nothing for it.
    #[serde(default)]
    pub problem: Option<String>,
    /// What it is made of, the manifest first. Children of other platforms are not among it.
    #[serde(default)]
    pub parts: Vec<PartRow>,
}

/// How much of an image is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    /// All that the manifests here need.
    Whole,
    /// Some of it.
    Partial,
    /// Not one config or layer.
    Gone,
}

/// A part of an image.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartRow {
    /// Its digest.
    pub digest: Digest,
    /// `index`, `manifest`, `config` or `layer`.
    pub kind: String,
    /// In bytes.
    pub size: u64,
    /// Whether it is here.
    pub here: bool,
    /// Whether it was here once; otherwise what is not here was never fetched.
    #[serde(default)]
    pub let_go: bool,
    /// The platform of a manifest.
    #[serde(default)]
    pub platform: Option<String>,
    /// The place in the list of the manifest that names it.
    #[serde(default)]
    pub of: Option<usize>,
}

/// `/api/v1/digests/D`
#[derive(Debug, Serialize, Deserialize)]
pub struct DigestReport {
    /// The digest.
    pub digest: Digest,
    /// Its content's bytes; `None`: it is not here.
    pub size: Option<u64>,
    /// Every reason for which it is on disk, or would be.
    pub why: Vec<Why>,
    /// The repositories that link it.
    pub repositories: Vec<RepositoryView>,
    /// For how many seconds more a client counts on it.
    pub promised_for: Option<u64>,
    /// The download that is under way.
    pub filling: Option<FillView>,
    /// The bytes of an unfinished download.
    pub parked: Option<u64>,
    /// The last use, in seconds since 1970.
    pub last_used: Option<u64>,
    /// How often it was used, at most once a minute.
    pub uses: u16,
    /// Bytes of it that clients of mirrored names were given from here.
    pub served: u64,
    /// Its place in the order of eviction; `None`: it is not evicted.
    pub place: Option<Place>,
}

/// What a repository has to do with a digest.
#[derive(Debug, Serialize, Deserialize)]
pub struct RepositoryView {
    /// Its full name.
    pub repository: String,
    /// Whether it was given the content, and does not only name it.
    pub held: bool,
    /// Its tags that name the digest.
    pub tags: Vec<String>,
    /// Its manifests that name the digest.
    pub named_by: Vec<Digest>,
}

/// A download under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct FillView {
    /// The repository that it was begun for.
    pub repository: String,
    /// Bytes that are here.
    pub bytes: u64,
    /// All bytes, if that is known.
    pub of: Option<u64>,
    /// How many clients read it.
    pub clients: u64,
}

/// A place in the order of eviction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Place {
    /// 1 goes first.
    pub place: u64,
    /// The last place.
    pub of: u64,
    /// The bytes of those that go before it.
    pub bytes_before: u64,
    /// In how many minutes it would go, if the turn of the cache is known.
    pub minutes: Option<u64>,
}

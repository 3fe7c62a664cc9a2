//! The pull: how a manifest or a blob of a repository is got, from the store or else from upstream.
//!
//! ```text
//! http ─► PullThrough::manifest ─ by digest ─► held here? ─ yes ─► answer (hit)
//!                   │                             └─ no ─► one fetch for all, store (filled)
//!                   └─ by tag ─► frozen by a rule? ─ yes ─► as by digest
//!                                   └─ no ─► checked within its TTL? ─ yes ─► as by digest
//!                                   └─ no ─► one check for all: unmoved (revalidated),
//!                                            moved (filled), no answer (stale), 404 (passed on)
//! http ─► PullThrough::blob ─► Storage::locate ─ here ─► answer (hit)
//!                                  └─ not here ─► Fills::claim ─► leader: download (filled)
//!                                                     └─ follower: read the growing file (joined)
//! ```
//!
//! The files: `manifests`, `freshness` and `frozen` are the upper half, `blobs`, `body` and `fill`
//! the lower. `tag_rules` has the rules of `[[tags]]`, and `warm_tags` keeps tags fresh that nobody
//! asks for. `lists` and `referrers` answer lists, `stored` brings what a push needs of upstream,
//! `hosted` says which names are the team's, and `memory` keeps answers in memory. `prefetch`
//! brings all of an image for an operator, and `peek` says what that would cost. `proof` decides
//! what a repository may give out, `configs` fetches configs ahead, `again`, `second_look` and
//! `elsewhere` deal with rotten content. A file with methods of [`PullThrough`] uses this file, and
//! this file uses none of them: `held`, `memory`, `fill`, `described`, `tag_rules` and
//! `second_look`, whose types [`PullThrough`] holds, know nothing of it.
//!
//! Called by [`crate::http`], [`crate::push`] and [`crate::admin`]. Every method may be dropped at
//! any time: the work that it began goes on, on tasks that [`Tasks`] owns.

mod again;
mod answer;
mod blobs;
mod body;
mod configs;
mod described;
mod elsewhere;
mod error;
mod fill;
mod freshness;
mod frozen;
mod held;
mod hosted;
mod large;
mod lists;
mod manifests;
mod memory;
mod peek;
mod prefetch;
mod proof;
mod range;
mod records;
mod referrers;
mod second_look;
mod stored;
mod tag_rules;
mod warm_tags;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

pub use answer::{BlobAnswer, BlobHead, ManifestAnswer, Referrers, TagList, TagPage, Trace};
pub use body::{BlobBody, BodyError, Piece};
use bytes::Bytes;
use described::Described;
pub use error::PullError;
use fill::{Drive, Fills, Origin, UpstreamRepository};
pub use fill::{FillFailure, FillStatus};
pub use frozen::Ruled;
use held::{Checked, FetchResult, Held, TagKey};
use memory::{AgedCache, Lists, NegativeCache, WarmCache};
pub use prefetch::{Fetched, PrefetchError, PrefetchOptions, PrefetchStep};
pub use range::FileRange;
use records::no_room;
pub use referrers::Selection;
use second_look::SecondLook;
pub use second_look::{Giving, StillProving};
pub use tag_rules::TagRules;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Mode},
    metrics::Metrics,
    oci::{Digest, ErrorCode, Namespace, Outcome, Reference, Repository, Tag, UpstreamName},
    runtime::{BlockingPool, SingleFlight, Tasks},
    storage::{Change, CommitError, IfLinked, KeptOpen, LinkRecord, Presence, Storage},
    upstream::{Registry, UpstreamError, Upstreams},
};

/// How many bytes of manifests are kept in memory.
const HOT_MANIFESTS: u64 = 64 << 20;
/// How many bytes of manifests are kept by name. Most of them are among those above.
const READY_MANIFESTS: u64 = 64 << 20;
/// From this length in bytes on, a manifest is kept by its digest alone, and weighs fourfold: it
/// costs less to read one of these few again than to keep it (S28).
const LARGE_MANIFEST: usize = 256 << 10;
/// How many blobs stay open because they were just asked for.
const OPENED_BLOBS: u64 = 64;
/// For how many names it is remembered whether they are hosted, and for how many frozen tags what
/// they name.
const NAMES: u64 = 10_000;
/// How many configs are waited for at a time.
const CONFIGS: usize = 256;
/// How many bytes of descriptors of referrers are kept.
const DESCRIPTORS: u64 = 16 << 20;

/// Everything a pull needs. One per process, shared by all workers.
pub struct PullThrough {
    storage: Arc<Storage>,
    /// Reads the bytes that a body sends, and does work that takes a processor.
    disk: BlockingPool,
    upstreams: Arc<Upstreams>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    mode: Mode,
    /// How long a failed tag check keeps the next one away.
    negative_ttl: Duration,
    fills: Fills<Origin>,
    /// Digest → bytes. They are immutable, so no entry is ever out of date.
    hot: moka::sync::Cache<Digest, Bytes>,
    /// The manifests that were given out by name, until their repository changes.
    warm_manifests: WarmCache<Reference, Held>,
    /// The same for blobs, whose files stay open meanwhile; an eviction closes them.
    warm_blobs: WarmCache<Digest, KeptOpen>,
    /// The descriptors of referrers.
    described: WarmCache<Digest, Arc<Described>>,
    /// Whether a hosted repository exists, and how much of it.
    presences: WarmCache<(), Presence>,
    /// The rules of tags.
    tag_rules: Arc<TagRules>,
    /// What tags named on the day that a rule freezes them at.
    frozen_digests: WarmCache<Tag, Option<Digest>>,
    /// When a tag was last checked, and whether upstream answered.
    checks: AgedCache<TagKey, bool>,
    tag_flights: SingleFlight<TagKey, Checked>,
    manifest_flights: SingleFlight<Digest, FetchResult>,
    /// Whether a repository has a blob, by its upstream's answer, with the length if it states one.
    blob_flights: SingleFlight<(Repository, Digest), Result<Option<u64>, PullError>>,
    /// A blob's length, by a GET of one byte.
    blob_bytes: SingleFlight<(Repository, Digest), Result<Option<u64>, PullError>>,
    /// How often a registry has stated a wrong length of a digest (`proof`).
    wrong_words: AgedCache<(UpstreamName, Digest), u32>,
    /// Whether a repository has a blob that another one has brought. The link keeps the answer.
    proofs: SingleFlight<(Repository, Digest), Result<(), PullError>>,
    /// The same for manifests whose bytes are here.
    adoptions: SingleFlight<(Repository, Digest), Result<Held, PullError>>,
    /// The permits of the configs that are waited for (`configs`).
    configs: Arc<Semaphore>,
    negative: NegativeCache,
    lists: Lists,
    second_look: Arc<SecondLook>,
}

/// What the pull is built from.
pub struct Deps {
    /// The disk.
    pub storage: Arc<Storage>,
    /// Threads to touch it on.
    pub disk: BlockingPool,
    /// The registries of the internet.
    pub upstreams: Arc<Upstreams>,
    /// The rules of tags.
    pub tag_rules: Arc<TagRules>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The owner of what goes on without a client.
    pub tasks: Tasks,
}

impl PullThrough {
    /// Puts the pull together.
    pub fn new(config: &Config, deps: Deps) -> Arc<PullThrough> {
        let Deps { storage, disk, upstreams, tag_rules, metrics, tasks } = deps;
        let hot = moka::sync::Cache::builder()
            .max_capacity(HOT_MANIFESTS)
            .weigher(|_, bytes: &Bytes| {
                let times = if bytes.len() < LARGE_MANIFEST { 1 } else { 4 };
                u32::try_from(times * bytes.len() + 256).unwrap_or(u32::MAX)
            })
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        let pull = Arc::new(PullThrough {
            second_look: SecondLook::new(&storage, &disk, &tasks),
            storage,
            disk,
            upstreams,
            metrics,
            tasks,
            mode: config.mode,
            negative_ttl: config.cache.negative_ttl,
            fills: Fills::new(),
            hot,
            warm_manifests: WarmCache::new(READY_MANIFESTS, |held: &Held| held.bytes.len() + 512),
            warm_blobs: WarmCache::new(OPENED_BLOBS, |_| 1),
            described: WarmCache::new(DESCRIPTORS, |described: &Arc<Described>| described.text.len() + 256),
            presences: WarmCache::new(NAMES, |_| 1),
            tag_rules,
            frozen_digests: WarmCache::new(NAMES, |_| 1),
            checks: AgedCache::new(100_000, |_| 1),
            tag_flights: SingleFlight::new(),
            manifest_flights: SingleFlight::new(),
            blob_flights: SingleFlight::new(),
            blob_bytes: SingleFlight::new(),
            wrong_words: AgedCache::new(100_000, |_| 1),
            proofs: SingleFlight::new(),
            adoptions: SingleFlight::new(),
            configs: Arc::new(Semaphore::new(CONFIGS)),
            negative: NegativeCache::new(config.cache.negative_ttl),
            lists: Lists::new(),
        });
        pull.tasks.spawn(tidy(Arc::downgrade(&pull), pull.tasks.stopping()));
        pull
    }

    /// How many downloads are under way.
    pub fn active_fills(&self) -> usize {
        self.fills.active()
    }

    /// The downloads under way, by repository and digest.
    pub fn fills(&self) -> Vec<FillStatus> {
        self.fills.list()
    }

    /// Where the repository's content can be had; an error if no upstream may be asked.
    fn source(&self, repo: &Repository, missing: ErrorCode) -> Result<UpstreamRepository, PullError> {
        let unknown = |message: String| PullError::Unknown { code: missing, message };
        let Namespace::Upstream(name) = &repo.namespace else {
            return Err(unknown(format!("{repo} has no such content; it is hosted here and never looked up upstream")));
        };
        if self.mode == Mode::Offline {
            return Err(unknown(format!(
                "this content of {repo} is not here, and lanyard is offline (mode = \"offline\")"
            )));
        }
        let upstream = self.upstreams.get(name).ok_or_else(|| unknown(format!("{name} is not an upstream here")))?;
        Ok(UpstreamRepository { upstream: Arc::clone(upstream), name: repo.name.clone() })
    }

    fn upstream_of(&self, repo: &Repository) -> Option<&Arc<Registry>> {
        match &repo.namespace {
            Namespace::Upstream(name) => self.upstreams.get(name),
            Namespace::Hosted => None,
        }
    }

    /// The trace of an answer from the store for which no upstream was asked.
    fn hit(&self, repo: &Repository) -> Trace {
        let upstream = self.upstream_of(repo).map(|upstream| upstream.name().clone());
        Trace { outcome: Outcome::Hit, upstream, upstream_time: Duration::ZERO }
    }

    fn upstream_error(&self, code: ErrorCode, error: UpstreamError) -> PullError {
        PullError::Upstream { code, error: Arc::new(error) }
    }

    fn drive(&self) -> Drive {
        Drive { storage: Arc::clone(&self.storage), metrics: Arc::clone(&self.metrics), stop: self.tasks.stopping() }
    }

    /// Notes that `repo` holds a digest. A full disk only costs the next request a question.
    async fn link(&self, repo: &Repository, link: LinkRecord) -> Result<(), PullError> {
        match self.storage.commit(Change::link(repo, link, IfLinked::Replace)).await {
            Err(CommitError::Storage(error)) if no_room(&error) => Ok(()),
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Storage(error)) => Err(error.into()),
        }
    }
}

/// Drops warm entries that are too old, also when no request comes any more.
async fn tidy(pull: Weak<PullThrough>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(memory::KEPT) => {}
        }
        let Some(pull) = pull.upgrade() else { return };
        let disk = pull.disk.clone();
        // It fails when lanyard is stopping, and then everything is dropped.
        let _ = disk
            .run(move || {
                pull.warm_manifests.tidy();
                pull.warm_blobs.tidy();
                pull.described.tidy();
                pull.presences.tidy();
                pull.frozen_digests.tidy();
            })
            .await;
    }
}

//! The prefetch: brings all of an image here, as one client that wants everything would.
//!
//! ```text
//! the image's manifest, as by GET ─► of an index the wanted platforms ─► config, then layers
//!                                                └─► their referrers, if they are wanted
//! ```
//!
//! Promises:
//! - The bytes come by the fills that clients share: a fill under way is joined, content that is
//!   here is not fetched again.
//! - The image is whole at the end, or there is an error, and it stays whole as long as the caller
//!   has [`Fetched`]: nothing of it is evicted while the rest comes. Content that finds no room is
//!   an error here: nothing is passed through.
//! - Dropped, it begins nothing more; fills under way go on (F5).
//! - A dry run asks for manifests only and changes nothing that lasts (K14, `peek.rs`).
//!
//! Called by `admin`.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{FillFailure, ManifestAnswer, PullError, PullThrough, Selection};
use crate::{
    config::Mode,
    oci::{
        Accept, Descriptor, Digest, Manifest, ManifestError, MissingPlatforms, Namespace, OCI_INDEX, Outcome, Platform,
        Platforms, Reference, Repository, is_index,
    },
    storage::Hold,
};

/// How many manifests one image may have, with all platforms and referrers.
const MOST_MANIFESTS: usize = 1_000;

/// What is wanted of an image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PrefetchOptions {
    /// The platforms of an index.
    pub platforms: Platforms,
    /// Also what refers to the chosen manifests: signatures, lists of parts.
    pub referrers: bool,
    /// Only say what would be fetched.
    pub dry_run: bool,
    /// At most this many blobs wait for a permit at once.
    pub jobs: usize,
}

/// A step of a prefetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PrefetchStep {
    /// The manifests are here, and the blobs are known.
    Planned {
        /// The manifest that the name means.
        digest: Digest,
        /// How that is known. `stale`: upstream could not be asked.
        outcome: Outcome,
        /// The length of all blobs together.
        of: u64,
    },
    /// How far a blob is, a few times a second.
    Blob {
        /// Which.
        digest: Digest,
        /// `hit`, `joined` or `filled`.
        outcome: Outcome,
        /// How many of its bytes are here.
        bytes: u64,
        /// Its length in bytes.
        of: u64,
        /// It is whole; in a dry run, it was looked at.
        whole: bool,
    },
}

/// Why an image is not whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrefetchError {
    /// It names neither a tag nor a digest.
    #[error("it names neither a tag nor a digest")]
    Nameless,
    /// A manifest or a blob could not be had.
    #[error("{0}")]
    Pull(#[from] PullError),
    /// There is no room to keep it.
    #[error("no room for it: cache.max_size or cache.min_free is reached, or the disk is full or read-only")]
    NoRoom,
    /// Its index lacks a wanted platform.
    #[error("{0}")]
    Platforms(#[from] MissingPlatforms),
    /// It has no index, and is for another platform.
    #[error("it is for {0} only")]
    OtherPlatform(String),
    /// A manifest cannot be read.
    #[error("the manifest {0} cannot be read: {1}")]
    Manifest(Digest, Arc<ManifestError>),
    /// The list of referrers cannot be read.
    #[error("the list of referrers of {0} cannot be read")]
    Referrers(Digest),
    /// It has too many manifests.
    #[error("it has more than {MOST_MANIFESTS} manifests")]
    TooMany,
}

/// An image that is whole. Its blobs are not evicted as long as this lives.
pub struct Fetched {
    /// Its blobs.
    pub blobs: Vec<Digest>,
    /// Absent after a dry run.
    _hold: Option<Hold>,
}

/// The blobs that an image needs, and its manifest.
struct Plan {
    digest: Digest,
    outcome: Outcome,
    /// Each blob once: configs first.
    blobs: Vec<(Digest, u64)>,
    /// The config of an image without an index, which tells its platform.
    lone_config: Option<Digest>,
}

impl PullThrough {
    /// Brings all of an image here that `options` want. Each blob takes one of `permits`, which
    /// several images share. `tell` learns of every step.
    ///
    /// # Errors
    /// Some of it could not be had or not be kept. What is here by then stays.
    pub async fn prefetch(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
        options: &PrefetchOptions,
        permits: &Semaphore,
        tell: &(dyn Fn(PrefetchStep) + Send + Sync),
    ) -> Result<Fetched, PrefetchError> {
        let mut plan = self.plan(repo, reference, options).await?;
        let of = plan.blobs.iter().map(|(_, size)| size).fold(0, |sum: u64, size| sum.saturating_add(*size));
        tell(PrefetchStep::Planned { digest: plan.digest, outcome: plan.outcome, of });
        if options.dry_run {
            for (digest, of) in plan.blobs {
                let here = self.storage.size(&digest).await.map_err(PullError::from)?;
                let outcome = if here.is_some() { Outcome::Hit } else { Outcome::Filled };
                tell(PrefetchStep::Blob { digest, outcome, bytes: here.unwrap_or(0), of, whole: true });
            }
            return Ok(Fetched { blobs: Vec::new(), _hold: None });
        }
        let all: Vec<_> = plan.blobs.iter().map(|(digest, _)| *digest).collect();
        let hold = self.storage.hold_cached(all.clone()).await.map_err(PullError::from)?;
        if let Some(config) = plan.lone_config.filter(|_| options.platforms.are_named()) {
            self.bring(repo, config, 0, permits, tell).await?;
            plan.blobs.retain(|(digest, _)| *digest != config);
            if let Some(other) = self.other_platform(&config, &options.platforms).await? {
                return Err(PrefetchError::OtherPlatform(other.to_string()));
            }
        }
        let blobs = stream::iter(plan.blobs).map(Ok);
        let bring = |(digest, size)| self.bring(repo, digest, size, permits, tell);
        blobs.try_for_each_concurrent(options.jobs, bring).await?;
        Ok(Fetched { blobs: all, _hold: Some(hold) })
    }

    /// Whether no upstream is ever asked for content of this repository because lanyard is offline.
    pub fn is_offline(&self, repo: &Repository) -> bool {
        self.mode == Mode::Offline && repo.namespace != Namespace::Hosted
    }

    /// Gets the manifests, and says which blobs they need.
    async fn plan(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
        options: &PrefetchOptions,
    ) -> Result<Plan, PrefetchError> {
        let root = self.manifest_for(repo, reference, options).await?;
        let (digest, outcome) = (root.digest, root.trace.outcome);
        let mut plan = Plan { digest, outcome, blobs: Vec::new(), lone_config: None };
        let (mut seen, mut blobs) = (HashSet::from([digest]), HashSet::new());
        let (mut configs, mut layers) = (Vec::new(), Vec::new());
        // Images by their manifests, and whether they are an artifact that refers to one.
        let mut visits = vec![(root, false)];
        while let Some((answer, refers)) = visits.pop() {
            let manifest = parsed(&answer)?;
            let lone = answer.digest == digest && !is_index(&answer.media_type);
            plan.lone_config = plan.lone_config.or(manifest.config.as_ref().filter(|_| lone).map(|c| c.digest));
            let config = manifest.config.as_ref().map(|config| config.digest);
            // A part with `urls` need not be at the registry (S2).
            for blob in manifest.blobs().filter(|blob| blob.urls.is_empty() && blobs.insert(blob.digest)) {
                let list = if Some(blob.digest) == config { &mut configs } else { &mut layers };
                list.push((blob.digest, blob.size));
            }
            let chosen = match is_index(&answer.media_type) {
                // What refers to an image is wanted as a whole.
                true if refers => manifest.children().collect(),
                true => options.platforms.choose(&manifest)?,
                false => Vec::new(),
            };
            let mut next: Vec<_> = chosen.into_iter().map(|child| (child.digest, refers)).collect();
            if options.referrers && !refers {
                let referrers = self.all_referrers(repo, &answer.digest).await?;
                next.extend(referrers.into_iter().map(|referrer| (referrer, true)));
            }
            for (digest, refers) in next {
                if seen.len() >= MOST_MANIFESTS {
                    return Err(PrefetchError::TooMany);
                }
                if seen.insert(digest) {
                    visits.push((self.manifest_for(repo, &digest.into(), options).await?, refers));
                }
            }
        }
        plan.blobs = configs;
        plan.blobs.append(&mut layers);
        Ok(plan)
    }

    async fn manifest_for(
        self: &Arc<Self>,
        repo: &Repository,
        reference: &Reference,
        options: &PrefetchOptions,
    ) -> Result<ManifestAnswer, PrefetchError> {
        if options.dry_run {
            return Ok(self.peek(repo, reference).await?);
        }
        let answer = self.manifest(repo, reference, &Accept::default()).await?;
        if answer.trace.outcome == Outcome::Bypassed { Err(PrefetchError::NoRoom) } else { Ok(answer) }
    }

    /// The manifests that refer to `subject`.
    async fn all_referrers(
        self: &Arc<Self>,
        repo: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>, PrefetchError> {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let wanted = Selection { last, ..Selection::default() };
            let page = self.referrers(repo, subject, wanted).await?;
            let index = Manifest::parse(OCI_INDEX, &page.index).map_err(|_| PrefetchError::Referrers(*subject))?;
            all.extend(index.manifests.iter().flatten().map(|referrer: &Descriptor| referrer.digest));
            if all.len() > MOST_MANIFESTS {
                return Err(PrefetchError::TooMany);
            }
            match page.next {
                Some(next) => last = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Brings a blob here. Its outcome is that of a client's request.
    async fn bring(
        self: &Arc<Self>,
        repo: &Repository,
        digest: Digest,
        size: u64,
        permits: &Semaphore,
        tell: &(dyn Fn(PrefetchStep) + Send + Sync),
    ) -> Result<(), PrefetchError> {
        // The semaphore is never closed.
        let _permit = permits.acquire().await.map_err(|_| PullError::Lost)?;
        let watch = |far: super::stored::Underway| {
            let of = far.of.unwrap_or(size).max(far.bytes);
            tell(PrefetchStep::Blob { digest, outcome: far.outcome, bytes: far.bytes, of, whole: false });
        };
        let (bytes, outcome) = self.stored_blob_watched(repo, &digest, watch).await.map_err(no_room)?;
        tell(PrefetchStep::Blob { digest, outcome, bytes, of: bytes, whole: true });
        Ok(())
    }

    /// The platform of an image, by its config, if that is not among the wanted ones. A config that
    /// names none is of an artifact, which is for all.
    async fn other_platform(&self, config: &Digest, wanted: &Platforms) -> Result<Option<Platform>, PrefetchError> {
        let bytes = self.storage.read_unnoticed(config).await.map_err(PullError::from)?;
        let told = bytes.and_then(|bytes| serde_json::from_slice::<ConfigPlatform>(&bytes).ok());
        let platform = told.map(|ConfigPlatform { architecture, os, variant }| Platform { architecture, os, variant });
        Ok(platform.filter(|platform| !platform.os.is_empty() && !wanted.take(platform)))
    }
}

/// The fields of an image's config that name its platform.
#[derive(Deserialize)]
struct ConfigPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
}

fn parsed(answer: &ManifestAnswer) -> Result<Manifest, PrefetchError> {
    let parsed = Manifest::parse(&answer.media_type, &answer.bytes);
    parsed.map_err(|error| PrefetchError::Manifest(answer.digest, Arc::new(error)))
}

fn no_room(error: PullError) -> PrefetchError {
    match error {
        PullError::Fill(FillFailure::NoRoom) => PrefetchError::NoRoom,
        error => PrefetchError::Pull(error),
    }
}

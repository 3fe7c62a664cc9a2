//! Warm tags: rules of `[[tags]]` with `warm` have their tags checked at an interval, and what is
//! missing of their images fetched, before a client asks.
//!
//! Promises: a check and a fetch are the ones that clients share: a check of a client within the
//! interval counts, a download under way is joined. Of an index those platforms are fetched of
//! which something is here; of one of which nothing is here, linux/amd64 and this machine's own. A
//! tag that is here spends the quota of an upstream like any other check (`freshness`). A slow
//! download keeps no check of another tag waiting. A failure is logged, and the tag is tried again
//! after its interval. No tag is warmed in `mode = "offline"`. Lock files are looked at here too,
//! so that what they say is kept (T2) before a client asks.
//!
//! `app` runs [`PullThrough::warm_tags`] in the background.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    ManifestAnswer, PullError, PullThrough,
    held::{Checked, Held, TagKey, answer},
};
use crate::{
    config::Mode,
    oci::{Descriptor, ErrorCode, Manifest, Namespace, Platform, Repository, is_index},
};

/// How many tags are checked at a time.
const CHECKS: usize = 4;

/// How many images are fetched at a time. The checks of other tags go on meanwhile.
const IMAGES: usize = 2;

/// How many blobs of one image are waited for at a time.
const BLOBS: usize = 3;

/// The longest time between two looks at which tags are due, and at the lock files.
const LOOK: Duration = Duration::from_secs(30);

/// What bounds the work on all warm tags.
struct Permits {
    checks: Semaphore,
    images: Semaphore,
}

impl PullThrough {
    /// Keeps the tags of warm rules fresh until `stop`. Ends at once if there is nothing to do.
    pub async fn warm_tags(self: Arc<Self>, stop: CancellationToken) {
        let shortest = self.tag_rules.shortest_warm().filter(|_| self.mode != Mode::Offline);
        if shortest.is_none() && !self.tag_rules.have_locks() {
            return;
        }
        let permits = Permits { checks: Semaphore::new(CHECKS), images: Semaphore::new(IMAGES) };
        let (mut begun, mut busy) = (HashMap::new(), HashSet::new());
        let mut running = FuturesUnordered::new();
        let mut look = tokio::time::interval(shortest.unwrap_or(LOOK).min(LOOK));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(key) = running.next() => drop(busy.remove(&key)),
                _ = look.tick() => {
                    self.tag_rules.refresh().await;
                    if shortest.is_none() {
                        continue;
                    }
                    for key in self.due_for_warmth(&begun, &busy).await {
                        begun.insert(key.clone(), Instant::now());
                        busy.insert(key.clone());
                        running.push(self.warm_one(key, &permits));
                    }
                }
            }
        }
    }

    /// The tags that were not begun for as long as their rule says: those that are here, and those
    /// that a rule names.
    async fn due_for_warmth(&self, begun: &HashMap<TagKey, Instant>, busy: &HashSet<TagKey>) -> HashSet<TagKey> {
        let is_due = |key: &TagKey| {
            let every = self.tag_rules.of(&key.0, &key.1).and_then(|rule| rule.warm);
            let last = begun.get(key).map(Instant::elapsed);
            !busy.contains(key) && every.is_some_and(|every| last.is_none_or(|last| last >= every))
        };
        let here = self.every_tag_here().await.unwrap_or_else(|error| {
            tracing::warn!("the tags that are here are not warmed now: {error}");
            Vec::new()
        });
        self.tag_rules.named_warm().chain(here).filter(is_due).collect()
    }

    /// All tags of mirrored repositories.
    async fn every_tag_here(&self) -> Result<Vec<TagKey>, PullError> {
        let mut here = Vec::new();
        for namespace in self.storage.namespaces().await? {
            let Namespace::Upstream(_) = &namespace else { continue };
            for name in self.storage.repositories(&namespace, None, usize::MAX).await? {
                let repository = Repository { namespace: namespace.clone(), name };
                let tags = self.storage.tags(&repository, None, usize::MAX).await?.tags;
                here.extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
            }
        }
        Ok(here)
    }

    async fn warm_one(self: &Arc<Self>, key: TagKey, permits: &Permits) -> TagKey {
        match self.warm(&key, permits).await {
            Ok(()) | Err(PullError::Lost) => {}
            Err(error) => tracing::info!(repo = %key.0, tag = %key.1, "a tag is not warmed now: {error}"),
        }
        key
    }

    async fn warm(self: &Arc<Self>, key: &TagKey, permits: &Permits) -> Result<(), PullError> {
        let (repo, tag) = key;
        // The semaphores are never closed.
        let checking = permits.checks.acquire().await.map_err(|_| PullError::Lost)?;
        let before = self.known(repo, tag).await?;
        let wanted = match &before {
            Some(held) => self.platforms_here(held).await?,
            None => Vec::new(),
        };
        let now = self.warm_manifest(key, before).await?;
        drop(checking);
        let _fetching = permits.images.acquire().await.map_err(|_| PullError::Lost)?;
        let manifest = parsed(&now)?;
        let mut images = Vec::new();
        if is_index(&now.media_type) {
            for child in chosen(&manifest, &wanted) {
                let child = self.by_digest(repo, &child.digest).await?;
                images.push(parsed(&child)?);
            }
        } else {
            images.push(manifest);
        }
        // A part with `urls` need not be at the registry (S2).
        let blobs = images.iter().flat_map(Manifest::blobs).filter(|blob| blob.urls.is_empty()).map(|blob| blob.digest);
        let blobs: Vec<_> = blobs.map(Ok).collect();
        let bring = |digest| async move { self.stored_blob(repo, &digest).await.map(drop) };
        stream::iter(blobs).try_for_each_concurrent(BLOBS, bring).await
    }

    /// The manifest that the tag names now: checked, unless a client had it checked within the
    /// interval. A frozen one is not checked.
    async fn warm_manifest(self: &Arc<Self>, key: &TagKey, before: Option<Held>) -> Result<ManifestAnswer, PullError> {
        let (repo, tag) = key;
        if let Some(frozen) = self.frozen(repo, tag).await? {
            return Ok(frozen);
        }
        let every = self.tag_rules.of(repo, tag).and_then(|rule| rule.warm).unwrap_or_default();
        if let Some(held) = &before
            && self.checks.get(key).is_some_and(|(age, answered)| answered && age < every)
        {
            return Ok(answer(held.clone(), self.hit(repo)));
        }
        let source = self.source(repo, ErrorCode::ManifestUnknown)?;
        let mut flight = self.begin_check(repo, tag, &source, before, Instant::now());
        match flight.result().await.map_err(|_| PullError::Lost)? {
            Checked::Unmoved(held) | Checked::Moved(held) => Ok(answer(held, self.hit(repo))),
            Checked::Fetched(fetched) => Ok(answer(fetched.held, self.hit(repo))),
            Checked::Failed(error) => Err(error),
        }
    }

    /// The platforms of an index of which the manifest is here.
    async fn platforms_here(&self, held: &Held) -> Result<Vec<Platform>, PullError> {
        let mut here = Vec::new();
        if !is_index(&held.media_type) {
            return Ok(here);
        }
        let index = Manifest::parse(&held.media_type, &held.bytes).unwrap_or_default();
        for child in index.manifests.into_iter().flatten() {
            if let Some(platform) = child.platform
                && self.storage.size(&child.digest).await?.is_some()
            {
                here.push(platform);
            }
        }
        Ok(here)
    }
}

fn parsed(answer: &ManifestAnswer) -> Result<Manifest, PullError> {
    let message = |error| PullError::Unknown { code: ErrorCode::ManifestInvalid, message: format!("{error}") };
    Manifest::parse(&answer.media_type, &answer.bytes).map_err(message)
}

/// The images of an index that are fetched: those of the wanted platforms, or of linux/amd64 and
/// this machine's own if none is wanted.
fn chosen<'a>(index: &'a Manifest, wanted: &[Platform]) -> Vec<&'a Descriptor> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |platform: &Platform| match wanted {
        [] => platform.os == "linux" && (platform.architecture == "amd64" || platform.architecture == own),
        wanted => wanted.iter().any(|wanted| {
            (&wanted.os, &wanted.architecture, &wanted.variant)
                == (&platform.os, &platform.architecture, &platform.variant)
        }),
    };
    let images = index.manifests.iter().flatten();
    images.filter(|image| image.platform.as_ref().is_some_and(fits)).collect()
}

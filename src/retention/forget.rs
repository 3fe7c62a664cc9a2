//! The forgetting of names: a tag of a mirrored repository, or the digest of a manifest that no tag
//! names, goes when nothing of its image is here but manifests, and no client asked for it within
//! `cache.forget_after`.
//!
//! So does the link of a blob that a client was told of by HEAD and that nothing here needs: after
//! a day, or after `cache.forget_after` if that is shorter.
//!
//! Every link is a file, so names that no client asks for would fill the disk with small files in
//! the end. A pass looks at [`NAMES`] names at most and the next one goes on after them. Promises:
//! - Nothing is forgotten in offline mode (K8): `app` runs no [`Forgetter`] then. Nor is what is
//!   pinned or fits `cache.keep` (K6), nor a tag that a rule freezes or keeps digests of (T2), nor
//!   anything where it cannot be told what an image needs.
//! - The order on disk is that of [`Storage::forget`] (K5).
//! - A clock that is set forward forgets nothing: time goes on by no more than this process has
//!   run. Nothing is forgotten in the first day after a start, or in `forget_after` if that is
//!   shorter, so that a wrong clock has time to be set right.
//!
//! Callers: `app` owns the task.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{KeptSet, RetentionError};
use crate::{
    oci::{Digest, Namespace, Repository, Tag},
    runtime::{BlockingPool, clock},
    storage::{Leaving, LinkRecord, LinkRight, Storage, StorageError, Unsure},
};

/// The most names that one pass looks at.
pub(super) const NAMES: usize = 1000;

/// Nothing is forgotten so soon after a start.
const SETTLES: Duration = Duration::from_secs(24 * 60 * 60);

/// Forgets names. One per process.
pub struct Forgetter {
    storage: Storage,
    kept: Arc<KeptSet>,
    after: Duration,
    started: Instant,
    started_at: u64,
    /// The name that the last pass ended with.
    last: Mutex<Option<(Repository, Name)>>,
}

/// What a manifest is known by. Tags come before digests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Name {
    Tag(Tag),
    Digest(Digest),
}

/// A manifest and a name of it.
struct Named {
    name: Name,
    digest: Digest,
    /// It is no manifest, see [`told_of`].
    told_of: bool,
    media_type: String,
    /// Since when it has the name, in seconds since 1970.
    since: u64,
}

/// Whether the link says no more than that upstream had a blob when a client asked by HEAD. A push
/// that follows may need it. A download or a manifest that names the blob replaces it.
fn told_of(link: &LinkRecord) -> bool {
    link.right == LinkRight::Named(link.digest)
}

impl Forgetter {
    /// Forgets in `storage`, on the threads of `pool`, names that no client asked for within
    /// `after`.
    pub fn new(storage: &Storage, pool: BlockingPool, kept: &Arc<KeptSet>, after: Duration) -> Arc<Forgetter> {
        Arc::new(Forgetter {
            storage: storage.on(pool),
            kept: Arc::clone(kept),
            after,
            started: Instant::now(),
            started_at: clock::now(),
            last: Mutex::default(),
        })
    }

    /// Runs a pass after each `every`, until `stop`.
    pub async fn run(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass(clock::now(), self.started.elapsed()) => passed,
            };
            match passed {
                Ok(0) => {}
                Ok(names) => tracing::info!(names, "names that no client asked for were forgotten"),
                Err(error) if error.is_expected() => tracing::debug!(%error, "no name is forgotten"),
                Err(error) => tracing::warn!(%error, "the forgetting of names ended early"),
            }
        }
    }

    /// Looks at the next names. `now` is the clock's, in seconds since 1970; `ran` is how long this
    /// process has run. Says how many were forgotten.
    ///
    /// # Errors
    /// The disk's.
    pub(super) async fn pass(&self, now: u64, ran: Duration) -> Result<usize, RetentionError> {
        // The clock may have been set forward since the start, or stood wrong at it.
        let now = now.min(self.started_at.saturating_add(ran.as_secs()));
        let Some(before) = now.checked_sub(self.after.as_secs()).filter(|_| ran >= SETTLES.min(self.after)) else {
            return Ok(0);
        };
        let last = self.last.lock().take();
        let (mut left, mut forgotten) = (NAMES, 0);
        for repository in self.repositories(last.as_ref().map(|(repository, _)| repository)).await? {
            let mut names = self.names(&repository).await?;
            let after = last.as_ref().filter(|(last, _)| *last == repository).map(|(_, name)| name);
            names.retain(|named| after.is_none_or(|after| named.name > *after));
            let is_whole = names.len() <= left;
            names.truncate(left);
            left -= names.len();
            let end = names.last().map(|named| named.name.clone());
            // The time has passed already for which nothing is forgotten.
            let told_before = now.saturating_sub(SETTLES.min(self.after).as_secs());
            names.retain(|named| named.since < if named.told_of { told_before } else { before });
            forgotten += self.forget_idle(&repository, names, before).await?;
            if !is_whole {
                *self.last.lock() = end.or_else(|| after.cloned()).map(|name| (repository, name));
                return Ok(forgotten);
            }
        }
        // The next pass begins anew.
        Ok(forgotten)
    }

    /// The names of a repository, in order.
    async fn names(&self, repository: &Repository) -> Result<Vec<Named>, RetentionError> {
        let tags = self.storage.tag_records(repository).await?;
        let tagged: HashSet<_> = tags.iter().map(|record| record.digest).collect();
        let mut names: Vec<_> = tags
            .into_iter()
            .map(|record| Named {
                name: Name::Tag(record.tag),
                digest: record.digest,
                told_of: false,
                media_type: record.media_type,
                since: record.updated,
            })
            .collect();
        let links = self.storage.links(repository).await?.into_iter();
        let untagged = links
            .filter(|link| told_of(link) || (link.is_manifest() && link.is_held() && !tagged.contains(&link.digest)));
        names.extend(untagged.map(|link| Named {
            name: Name::Digest(link.digest),
            digest: link.digest,
            told_of: told_of(&link),
            media_type: link.media_type,
            since: link.created,
        }));
        names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(names)
    }

    /// The mirrored repositories from `first` on.
    async fn repositories(&self, first: Option<&Repository>) -> Result<Vec<Repository>, StorageError> {
        let mut all = Vec::new();
        let mut namespaces = self.storage.namespaces().await?;
        namespaces.retain(|namespace| *namespace != Namespace::Hosted);
        for namespace in namespaces {
            let names = self.storage.folders(&namespace).await?;
            all.extend(names.into_iter().map(|name| Repository { namespace: namespace.clone(), name }));
        }
        all.sort_unstable();
        all.retain(|repository| first.is_none_or(|first| repository >= first));
        Ok(all)
    }

    /// Forgets those of the names that are idle, in one step. Says how many.
    async fn forget_idle(
        &self,
        repository: &Repository,
        names: Vec<Named>,
        before: u64,
    ) -> Result<usize, RetentionError> {
        let mut leaving = Leaving::default();
        for named in names {
            let is_idle = named.told_of || self.is_idle(&named, before).await?;
            if !is_idle || self.stays(repository, &named).await? {
                continue;
            }
            match named.name {
                Name::Tag(tag) => leaving.tags.push((tag, Some(named.digest))),
                Name::Digest(digest) => leaving.digests.push(digest),
            }
        }
        if leaving.tags.is_empty() && leaving.digests.is_empty() {
            return Ok(0);
        }
        leaving.pinned = match self.kept.manifests_without(repository, &HashSet::new(), &[]).await {
            Ok(manifests) => manifests,
            Err(Unsure::Storage(error)) => return Err(error.into()),
            Err(unsure) => {
                tracing::debug!(repo = %repository, %unsure, "its names are not forgotten");
                return Ok(0);
            }
        };
        let digests = leaving.digests.clone();
        match self.storage.forget(repository, leaving).await {
            Ok(gone) => {
                // One that another manifest needs stays.
                let digests = digests.iter().filter(|digest| gone.links.contains(digest)).count();
                let (tags, links) = (gone.tags.len(), gone.links.len());
                tracing::debug!(repo = %repository, tags, digests, links, "forgotten");
                Ok(tags + digests)
            }
            Err(Unsure::Storage(error)) => Err(error.into()),
            Err(unsure) => {
                tracing::debug!(repo = %repository, %unsure, "its names are not forgotten");
                Ok(0)
            }
        }
    }

    /// Whether the image or its name is kept.
    async fn stays(&self, repository: &Repository, named: &Named) -> Result<bool, RetentionError> {
        let tag = match &named.name {
            Name::Tag(tag) => Some(tag),
            Name::Digest(_) => None,
        };
        let reason = self.kept.reason(repository, tag, Some(&named.digest)).await?;
        Ok(reason.is_some() || self.kept.view().await?.keeps(&named.digest))
    }

    /// Whether nothing of the image is here but manifests, and these were last used before.
    async fn is_idle(&self, named: &Named, before: u64) -> Result<bool, RetentionError> {
        let needed = match self.storage.needed_by(vec![(named.digest, named.media_type.clone())]).await {
            Ok(needed) => needed,
            Err(Unsure::Storage(error)) => return Err(error.into()),
            Err(_) => return Ok(false),
        };
        for digest in needed {
            let Some(used) = self.storage.use_of(&digest).await? else { continue };
            if used.last / 1000 + 60 > before {
                return Ok(false);
            }
            // A manifest is never evicted. Other content that is here keeps the name.
            if !self.storage.is_manifest(&digest).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! One pass of the collector, bite by bite.
//!
//! A pass first lists every link, and removes the unneeded ones of hosted repositories. A blob
//! without a link is then a candidate. A candidate is not yet garbage: [`Storage::reclaim`] looks
//! again for a link or a lease that came meanwhile, in the same step that removes.
//!
//! States: new → over all repositories → over all blobs → leftovers → end. Called by the collector
//! (`mod.rs`) only.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    time::{Duration, Instant, SystemTime},
};

use super::{Collection, RetentionError};
use crate::{
    oci::{Digest, Namespace, Repository},
    storage::{LinkRecord, Removal, Respect, Storage, StorageError, TagRecord, Unsure},
};

/// An upload without a byte for this long is abandoned (SECURITY.md S14).
const UPLOAD_IDLE: Duration = Duration::from_secs(24 * 3600);

/// A part of a download that is older than this is not taken up again.
const PART_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// One bite looks at this many blobs.
const BITE: usize = 512;

/// This many links go while no push may commit to their repository.
const UNLINK_BITE: usize = 64;

/// In a pass that ignores the grace an upload counts as under way for this long after its last
/// byte.
const UNDER_WAY: Duration = Duration::from_secs(600);

/// Whether a pass removes or only counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PassMode {
    Remove,
    Plan,
}

/// The repositories in which everything was needed, each with the fingerprint of its links and
/// tags. While the fingerprint is the same, the next pass need not read their manifests.
#[derive(Default)]
pub(super) struct SettledRepositories(HashMap<Repository, u64>);

/// A pass under way.
pub(super) struct Pass {
    mode: PassMode,
    respect: Respect,
    /// Repositories with an upload under way; empty in a pass that respects the grace.
    pushed_to: HashSet<Repository>,
    report: Collection,
    before: SettledRepositories,
    settled: SettledRepositories,
    /// The beginnings of all linked digests. A blob whose digest begins like a linked one is kept,
    /// which costs a few bytes; a set of whole digests would cost ten times the memory.
    linked: HashSet<u64>,
    /// The same of the digests that wait for their grace.
    waiting: HashSet<u64>,
    /// The log has said why blobs are skipped.
    told: bool,
}

impl Pass {
    pub(super) fn new(mode: PassMode, before: SettledRepositories) -> Self {
        Pass {
            mode,
            respect: Respect::All,
            pushed_to: HashSet::new(),
            report: Collection::default(),
            before,
            settled: SettledRepositories::default(),
            linked: HashSet::new(),
            waiting: HashSet::new(),
            told: false,
        }
    }

    /// Makes this a pass that ignores the grace: of all leases it respects only those of content
    /// that clients are told of from now on, and it skips repositories with an upload under way.
    /// Comes before the first look.
    pub(super) async fn ignoring_grace(mut self, storage: &Storage) -> Result<Self, RetentionError> {
        self.respect = Respect::Since(Instant::now());
        self.pushed_to = storage.pushed_to(UNDER_WAY).await?;
        Ok(self)
    }

    /// Looks at every repository, then at all content.
    pub(super) async fn over_all(self, storage: &Storage) -> Result<Self, RetentionError> {
        let (mut pass, repositories) = self.repositories(storage).await?;
        for repository in repositories {
            pass = pass.repository(storage, repository).await?;
        }
        let mut walk = storage.walk(None);
        loop {
            let bite = walk.next(BITE).await?;
            if bite.is_empty() {
                return Ok(pass);
            }
            pass = pass.blobs(storage, bite).await?;
        }
    }

    /// All repositories of all namespaces. A namespace that cannot be listed is skipped.
    async fn repositories(mut self, storage: &Storage) -> Result<(Self, Vec<Repository>), RetentionError> {
        let mut repositories = Vec::new();
        for namespace in self.or_skip(&"repositories", storage.namespaces().await)?.unwrap_or_default() {
            let names = self.or_skip(&"a namespace", storage.folders(&namespace).await)?.unwrap_or_default();
            repositories.extend(names.into_iter().map(|name| Repository { namespace: namespace.clone(), name }));
        }
        Ok((self, repositories))
    }

    /// Looks at one repository. If it cannot be read, only this repository is skipped: storage
    /// keeps every blob that it might hold.
    async fn repository(mut self, storage: &Storage, repository: Repository) -> Result<Self, RetentionError> {
        let version = storage.version(&repository);
        let links = storage.links(&repository).await;
        let Some(links) = self.or_skip(&repository, links)? else { return Ok(self) };
        let kept = match &repository.namespace {
            Namespace::Hosted => self.hosted(storage, &repository, links, version).await?,
            Namespace::Upstream(_) => links,
        };
        self.linked.extend(kept.iter().map(|link| beginning(&link.digest)));
        Ok(self)
    }

    /// The value of `result`. An error that says nothing about the rest of the folder is counted
    /// and logged, and gives `None`.
    fn or_skip<T>(
        &mut self,
        what: &(dyn std::fmt::Display + Sync),
        result: Result<T, StorageError>,
    ) -> Result<Option<T>, RetentionError> {
        match result {
            Ok(given) => Ok(Some(given)),
            Err(error) if ends_the_pass(&error) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%what, %error, "it cannot be read, so it is not collected");
                self.report.skipped += 1;
                Ok(None)
            }
        }
    }

    /// Removes the unneeded links of a hosted repository and returns the others.
    async fn hosted(
        &mut self,
        storage: &Storage,
        repository: &Repository,
        links: Vec<LinkRecord>,
        version: u64,
    ) -> Result<Vec<LinkRecord>, RetentionError> {
        let Some(tags) = self.or_skip(repository, storage.tag_records(repository).await)? else { return Ok(links) };
        let fingerprint = fingerprint(&links, &tags);
        if self.before.0.get(repository) == Some(&fingerprint) {
            self.settled.0.insert(repository.clone(), fingerprint);
            return Ok(links);
        }
        let unneeded = match storage.unneeded(repository, links.clone(), tags).await {
            Ok(unneeded) => unneeded,
            Err(Unsure::Storage(error)) if ends_the_pass(&error) => return Err(error.into()),
            Err(unsure) => {
                tracing::warn!(repo = %repository, "nothing of this repository is collected: {unsure}");
                self.report.skipped += 1;
                return Ok(links);
            }
        };
        if !unneeded.links.is_empty() && self.pushed_to.contains(repository) {
            self.report.pushed_to += 1;
            return Ok(links);
        }
        if unneeded.links.is_empty() {
            if !unneeded.borrowed {
                self.settled.0.insert(repository.clone(), fingerprint);
            }
            return Ok(links);
        }
        let gone = match self.mode {
            PassMode::Plan => {
                let free = |link: &&LinkRecord| storage.protection(&link.digest, self.respect).is_none();
                unneeded.links.iter().filter(free).map(|link| link.digest).collect()
            }
            PassMode::Remove => self.unlink(storage, repository, &unneeded.links, version).await?,
        };
        self.report.links += gone.len() as u64;
        for link in unneeded.links.iter().filter(|link| !gone.contains(&link.digest)) {
            self.waits(storage, &link.digest, link.size);
        }
        Ok(links.into_iter().filter(|link| !gone.contains(&link.digest)).collect())
    }

    /// Removes these links and says which are gone. If the repository changes meanwhile, or the
    /// disk fails, the others stay until the next pass.
    async fn unlink(
        &mut self,
        storage: &Storage,
        repository: &Repository,
        links: &[LinkRecord],
        mut version: u64,
    ) -> Result<HashSet<Digest>, RetentionError> {
        let mut gone = HashSet::new();
        for bite in links.chunks(UNLINK_BITE) {
            let digests = bite.iter().map(|link| link.digest).collect();
            let unlinked = storage.unlink_unneeded(repository, digests, self.respect, version).await;
            let Some(Some(unlinked)) = self.or_skip(repository, unlinked)? else { break };
            gone.extend(unlinked.gone);
            version = unlinked.version;
        }
        Ok(gone)
    }

    /// Looks at one bite of blobs and removes those that no repository holds. A folder that cannot
    /// be listed is skipped. So is a blob if it cannot be told whether a repository holds it.
    async fn blobs(
        mut self,
        storage: &Storage,
        blobs: Vec<Result<Digest, StorageError>>,
    ) -> Result<Self, RetentionError> {
        for digest in blobs {
            match digest {
                Ok(digest) if self.linked.contains(&beginning(&digest)) => {}
                Ok(digest) => match self.unlinked(storage, &digest).await {
                    Ok(()) => {}
                    Err(error) if ends_the_pass(&error) => return Err(error.into()),
                    Err(error) => self.left_alone(&error),
                },
                Err(error) if ends_the_pass(&error) => return Err(error.into()),
                Err(error) => self.left_alone(&error),
            }
        }
        Ok(self)
    }

    /// Counts a skipped blob. One unreadable repository keeps every blob without a known link, so
    /// the log says it once in a pass.
    fn left_alone(&mut self, error: &StorageError) {
        self.report.skipped += 1;
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "blobs without a known holder are not collected");
        }
    }

    /// Looks at a blob that no repository held when the links were listed.
    async fn unlinked(&mut self, storage: &Storage, digest: &Digest) -> Result<(), StorageError> {
        let removal = match self.mode {
            PassMode::Plan if storage.protection(digest, self.respect).is_some() => Removal::Leased,
            PassMode::Plan => {
                // The planned unlinking would take its holders away; but they must be readable.
                storage.holders(digest).await?;
                storage.size(digest).await?.map_or(Removal::Absent, Removal::Removed)
            }
            PassMode::Remove => storage.reclaim(digest, self.respect).await?,
        };
        match removal {
            Removal::Removed(size) => {
                self.report.blobs += 1;
                self.report.bytes += size;
            }
            Removal::Leased => {
                let size = storage.size(digest).await?.unwrap_or(0);
                self.waits(storage, digest, size);
            }
            Removal::Held | Removal::Absent => {}
        }
        Ok(())
    }

    /// Counts unneeded content whose grace is not over.
    fn waits(&mut self, storage: &Storage, digest: &Digest, size: u64) {
        self.report.waiting += 1;
        if self.waiting.insert(beginning(digest)) {
            self.report.waiting_bytes += size;
        }
        let left = storage.protection(digest, Respect::All).unwrap_or_default();
        let until = SystemTime::now() + left;
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.report.waiting_until = self.report.waiting_until.max(Some(until));
    }

    /// Removes uploads and downloads that were begun and abandoned.
    pub(super) async fn leftovers(mut self, storage: &Storage) -> Result<Self, RetentionError> {
        let uploads = match self.mode {
            PassMode::Plan => storage.idle_uploads(UPLOAD_IDLE).await.map(|idle| idle.len()),
            PassMode::Remove => storage.sweep_uploads(UPLOAD_IDLE).await,
        };
        self.report.uploads = self.or_skip(&"abandoned uploads", uploads)?.unwrap_or_default() as u64;
        if self.mode == PassMode::Remove {
            let parts = storage.sweep_downloads(PART_AGE).await;
            let parts = self.or_skip(&"abandoned downloads", parts)?.unwrap_or_default();
            if parts > 0 {
                tracing::info!(parts, "abandoned downloads were removed");
            }
        }
        Ok(self)
    }

    pub(super) fn end(self) -> (Collection, SettledRepositories) {
        (self.report, self.settled)
    }
}

/// Whether an error is about the whole folder and not about one thing in it.
fn ends_the_pass(error: &StorageError) -> bool {
    matches!(error, StorageError::Closed | StorageError::ReadOnly)
}

/// The first eight bytes of a digest and its algorithm.
fn beginning(digest: &Digest) -> u64 {
    let mut beginning = [0; 8];
    for (to, from) in beginning.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(beginning)
}

/// Changes whenever the links of a repository or the manifests of its tags change. The order of the
/// lists is always the same.
fn fingerprint(links: &[LinkRecord], tags: &[TagRecord]) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    for link in links {
        (link.digest, &link.media_type).hash(&mut hasher);
    }
    for tag in tags {
        tag.digest.hash(&mut hasher);
    }
    hasher.finish()
}

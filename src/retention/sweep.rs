//! One pass, bite by bite.
//!
//! A pass first takes down every link there is, and removes the garbage among those of hosted repositories; whatever blob
//! then has no link is a candidate. Being one decides nothing: the store itself looks again, in the one step that removes,
//! for a link or a lease that came meanwhile.

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

/// After how long without a byte an upload is abandoned (SECURITY.md S14).
const UPLOAD_IDLE: Duration = Duration::from_secs(24 * 3600);

/// After how long a part of a download is not taken up again.
const PART_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many blobs are looked at in one bite.
const BITE: usize = 512;

/// Below this a grace promises nothing; only tests have such a one.
const LEAST: Duration = Duration::from_secs(1);

/// How long after its last byte an upload counts as under way, where no grace is waited for.
const UNDER_WAY: Duration = Duration::from_secs(600);

/// Whether a pass removes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Removing,
    Looking,
}

/// The repositories in which everything was needed, each with the fingerprint of its links: while that is the same there is
/// nothing to look into.
#[derive(Default)]
pub(super) struct Settled(HashMap<Repository, u64>);

/// A pass under way.
pub(super) struct Pass {
    how: How,
    respect: Respect,
    /// The repositories that an upload is under way to, where that matters.
    pushed_to: HashSet<Repository>,
    report: Collection,
    before: Settled,
    settled: Settled,
    /// The beginnings of all digests that are linked. Two that begin alike keep each other, which costs nothing but a few
    /// bytes; a set of whole digests would cost ten times the memory.
    linked: HashSet<u64>,
    /// The same of what waits for its grace.
    waiting: HashSet<u64>,
    /// The log has been told why blobs were left alone.
    told: bool,
}

impl Pass {
    pub(super) fn new(how: How, before: Settled) -> Self {
        Pass {
            how,
            respect: Respect::All,
            pushed_to: HashSet::new(),
            report: Collection::default(),
            before,
            settled: Settled::default(),
            linked: HashSet::new(),
            waiting: HashSet::new(),
            told: false,
        }
    }

    /// From now on only what is told to clients is waited for, and uploads that are under way.
    /// Before anything is looked at.
    pub(super) async fn without_patience(mut self, storage: &Storage) -> Result<Self, RetentionError> {
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

    /// Every repository there is, of every namespace. One whose names cannot be listed costs only its own their turn.
    async fn repositories(mut self, storage: &Storage) -> Result<(Self, Vec<Repository>), RetentionError> {
        let mut repositories = Vec::new();
        for namespace in self.or_skip(&"repositories", storage.namespaces().await)?.unwrap_or_default() {
            let names = self.or_skip(&"a namespace", storage.folders(&namespace).await)?.unwrap_or_default();
            repositories.extend(names.into_iter().map(|name| Repository { namespace: namespace.clone(), name }));
        }
        Ok((self, repositories))
    }

    /// Looks at one repository. What a disk does not give of it costs only this repository its turn: the store keeps every
    /// blob that it might hold, for as long as it cannot tell.
    async fn repository(mut self, storage: &Storage, repository: Repository) -> Result<Self, RetentionError> {
        let taken = Instant::now();
        let links = storage.links(&repository).await;
        let Some(links) = self.or_skip(&repository, links)? else { return Ok(self) };
        let kept = match &repository.namespace {
            Namespace::Hosted => self.hosted(storage, &repository, links, taken).await?,
            Namespace::Upstream(_) => links,
        };
        self.linked.extend(kept.iter().map(|link| beginning(&link.digest)));
        Ok(self)
    }

    /// What the disk gave; `None`, counted and told in the log, where it gave an error that says nothing about the rest.
    fn or_skip<T>(
        &mut self,
        what: &(dyn std::fmt::Display + Sync),
        result: Result<T, StorageError>,
    ) -> Result<Option<T>, RetentionError> {
        match result {
            Ok(given) => Ok(Some(given)),
            Err(error) if ends_the_pass(&error) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%what, %error, "what cannot be read is not collected");
                self.report.skipped += 1;
                Ok(None)
            }
        }
    }

    /// Removes the garbage links of a hosted repository; gives back the others.
    async fn hosted(
        &mut self,
        storage: &Storage,
        repository: &Repository,
        links: Vec<LinkRecord>,
        taken: Instant,
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
        let mut gone = HashSet::new();
        for link in unneeded.links {
            // A manifest that came after the list was taken has touched what it names after that as well. So where the
            // list is younger than the grace, and no lease protects the digest, no such manifest names it.
            if taken.elapsed() >= storage.grace().max(LEAST) {
                break;
            }
            match self.how {
                How::Looking if storage.protection(&link.digest, self.respect).is_some() => {
                    self.waits(storage, &link.digest, link.size);
                    continue;
                }
                How::Looking => {}
                How::Removing => {
                    let went = storage.unlink_unneeded(repository, &link.digest, self.respect).await;
                    // Whatever became of the link, its blob stays this time.
                    let Some(went) = self.or_skip(repository, went)? else { break };
                    if !went {
                        self.waits(storage, &link.digest, link.size);
                        continue;
                    }
                }
            }
            self.report.links += 1;
            gone.insert(link.digest);
        }
        Ok(links.into_iter().filter(|link| !gone.contains(&link.digest)).collect())
    }

    /// Looks at the next of the blobs, and removes those that no repository holds. A folder that cannot be listed costs only
    /// its own blobs their turn, and so does a blob of which it cannot be told whether anybody holds it.
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

    /// One repository that cannot be looked into is a reason to keep every blob that nobody is known to link: that is said
    /// once in a pass.
    fn left_alone(&mut self, error: &StorageError) {
        self.report.skipped += 1;
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "blobs that nobody is known to hold are not collected");
        }
    }

    /// A blob that no repository held when its links were taken down.
    async fn unlinked(&mut self, storage: &Storage, digest: &Digest) -> Result<(), StorageError> {
        let removal = match self.how {
            How::Looking if storage.protection(digest, self.respect).is_some() => Removal::Leased,
            How::Looking => {
                // Whoever holds it now would not after a removal of links; but it must be possible to tell.
                storage.holders(digest).await?;
                storage.size(digest).await?.map_or(Removal::Absent, Removal::Removed)
            }
            How::Removing => storage.reclaim(digest, self.respect).await?,
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

    /// It is needed as little, but not yet garbage.
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

    /// Removes what was begun and never ended.
    pub(super) async fn leftovers(mut self, storage: &Storage) -> Result<Self, RetentionError> {
        let uploads = match self.how {
            How::Looking => storage.idle_uploads(UPLOAD_IDLE).await.map(|idle| idle.len()),
            How::Removing => storage.sweep_uploads(UPLOAD_IDLE).await,
        };
        self.report.uploads = self.or_skip(&"abandoned uploads", uploads)?.unwrap_or_default() as u64;
        if self.how == How::Removing {
            let parts = storage.sweep_downloads(PART_AGE).await;
            let parts = self.or_skip(&"abandoned downloads", parts)?.unwrap_or_default();
            if parts > 0 {
                tracing::info!(parts, "abandoned downloads were removed");
            }
        }
        Ok(self)
    }

    pub(super) fn end(self) -> (Collection, Settled) {
        (self.report, self.settled)
    }
}

/// Whether an error is how things are with the whole folder, and not with something in it.
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

/// Changes whenever what a repository holds, or what its tags name, changes. The order of the lists is always the same.
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

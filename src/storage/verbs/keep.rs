//! Keep: holds, removals, what manifests need, the proof of content, the walk, and leftovers.
//!
//! | verb | what it excludes |
//! |---|---|
//! | [`Storage::hold`] | a removal, until the hold is dropped and for the grace afterwards |
//! | [`Storage::hold_parts`] | the same |
//! | [`Storage::reclaim`] | a hold or a link of the digest, while it is decided and removed |
//! | [`Storage::evict`] | the same |
//! | [`Storage::unlink_unneeded`] | a commit of the repository, and a hold of each digest |
//!
//! A push that holds a digest and then finds its content here can link it: no removal comes
//! between. Callers: push holds; the retention removes and reads again; pull proves.

use std::{collections::HashSet, time::Duration};

use crate::{
    oci::{Digest, Repository},
    runtime::BlockingPool,
    storage::{
        Eviction, Finder, Hold, KeptFor, LinkRecord, Proof, Refetched, Removal, Respect, RotCount, Scrubbing, Step,
        Storage, StorageError, StoredBlob, TagRecord, Unneeded, Unsure, blob_iter::BlobIter, needs,
    },
};

/// What [`Storage::unlink_unneeded`] has removed.
#[derive(Debug)]
pub struct Unlinked {
    /// The digests whose links are gone. A lease protects the others.
    pub gone: HashSet<Digest>,
    /// The repository's version afterwards. What was looked at before holds for it too, except for
    /// these links.
    pub version: u64,
}

/// The walk over all content. See [`Storage::walk`].
#[derive(Debug)]
pub struct Walk {
    rest: Option<BlobIter>,
    pool: BlockingPool,
}

impl Storage {
    /// Keeps the digests that are here until the hold is dropped, and for the grace from then on.
    /// Look whether they are here *afterwards*. Waits while one of them is being removed.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn hold(&self, digests: Vec<Digest>) -> Result<Hold, StorageError> {
        self.read_with(move |files| Ok(files.leases.hold(digests))).await
    }

    /// Keeps the digests from being evicted until the hold is dropped. No client was told that they
    /// stay, so they may go from then on. They need not be here yet. Waits while one of them is
    /// being removed.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn hold_cached(&self, digests: Vec<Digest>) -> Result<Hold, StorageError> {
        self.read_with(move |files| Ok(files.leases.hold_cached(digests))).await
    }

    /// Holds the digests, and says which of them the repository lacks: no link, no content, or, of
    /// those that are said to be manifests, no link as a manifest.
    ///
    /// # Errors
    /// The disk's.
    pub async fn hold_parts(
        &self,
        repository: &Repository,
        parts: Vec<(Digest, bool)>,
    ) -> Result<(Hold, HashSet<(Digest, bool)>), StorageError> {
        let repository = repository.clone();
        self.read_with(move |files| {
            let hold = files.leases.hold(parts.iter().map(|(digest, _)| *digest));
            let mut lacking = HashSet::new();
            for (digest, manifest) in parts {
                let link = files.catalog.link(&repository, &digest)?;
                let fits = link.is_some_and(|link| !manifest || link.is_manifest());
                if !fits || files.blobs.size(&digest)?.is_none() {
                    lacking.insert((digest, manifest));
                }
            }
            Ok((hold, lacking))
        })
        .await
    }

    /// Keeps content for the grace if it is here, and says its size. Leaves no lease where it is
    /// not: clients can ask for any number of digests.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            if files.blobs.size(&digest)?.is_none() {
                return Ok(None);
            }
            files.leases.touch(&digest);
            // It stays from here on, if it is still here.
            files.blobs.size(&digest)
        })
        .await
    }

    /// For how long the digest is protected, if no client is told of it any more; `None`: it is
    /// not. From memory.
    pub fn protection(&self, digest: &Digest, respect: Respect) -> Option<Duration> {
        self.files.leases.left(digest, respect)
    }

    /// How long a digest is protected after a client was told that it is here.
    pub fn grace(&self) -> Duration {
        self.files.leases.grace()
    }

    /// Sets the grace, also for what is protected already.
    pub fn set_grace(&self, grace: Duration) {
        self.files.leases.set_grace(grace);
    }

    /// Forgets protections that have run out, and gives their memory back.
    pub fn tidy_leases(&self) {
        self.files.leases.tidy();
    }

    /// Removes content that no repository links and no lease protects, in one step: a push either
    /// comes before it, or finds the content gone. Open readers keep it.
    ///
    /// # Errors
    /// It cannot be told whether a repository links it; it stays then.
    pub async fn reclaim(&self, digest: &Digest, respect: Respect) -> Result<Removal, StorageError> {
        let digest = *digest;
        self.write_with(move |files| {
            let removal = files.blobs.remove_unheld(&digest, &files.catalog, respect);
            files.disk.room_queue.freed();
            removal
        })
        .await
    }

    /// Evicts cached content, or says why it stays: see [`KeptFor`]. Its links and tags stay, so
    /// its upstream can give it again. In one step, as [`reclaim`](Self::reclaim). Downloads that
    /// wait for room are told. Nothing is durable: what a power cut brings back is whole. If it is
    /// stored again before `remembered`, in milliseconds since 1970, it keeps its number of uses.
    ///
    /// # Errors
    /// The disk's. The content stays then, or is gone from the next start on.
    pub async fn evict(&self, digest: &Digest, remembered: u64) -> Result<Eviction, StorageError> {
        let digest = *digest;
        self.write_with(move |files| files.blobs.evict(&digest, &files.catalog, remembered)).await
    }

    /// Why cached content would stay now; `None`: [`evict`](Self::evict) would let it go. Changes
    /// nothing.
    ///
    /// # Errors
    /// The disk's.
    pub async fn would_stay(&self, digest: &Digest) -> Result<Option<KeptFor>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| files.blobs.would_stay(&digest, &files.catalog)).await
    }

    /// What was evicted and stored again, since the start. From memory.
    pub fn refetched(&self) -> Refetched {
        self.files.disk.came_back.refetched()
    }

    /// Removes links that no manifest of the repository needs, except those whose digest a lease
    /// protects. The needs were looked at in `version`: if the repository may have changed since,
    /// the answer is `None` and nothing is removed. No commit of the repository comes between, so a
    /// manifest that was acknowledged meanwhile keeps its parts, however short the grace is.
    ///
    /// # Errors
    /// The disk's. Some of the links may be gone then.
    pub async fn unlink_unneeded(
        &self,
        repository: &Repository,
        digests: Vec<Digest>,
        respect: Respect,
        version: u64,
    ) -> Result<Option<Unlinked>, StorageError> {
        let turn = self.turn_to_commit(repository).await;
        let repository = repository.clone();
        self.write_with(move |files| {
            let _turn = turn;
            if files.catalog.version(&repository) != version {
                return Ok(None);
            }
            let mut gone = HashSet::new();
            for digest in digests {
                let Some(_right) = files.leases.begin_reclaim(&digest, respect) else { continue };
                files.catalog.delete_link(&repository, &digest)?;
                gone.insert(digest);
            }
            Ok(Some(Unlinked { gone, version: files.catalog.version(&repository) }))
        })
        .await
    }

    /// The links of a hosted repository that none of its manifests needs. `links` and `tags` are
    /// all it has.
    ///
    /// # Errors
    /// [`Unsure`]: a manifest cannot be read, so that its needs are not known.
    pub async fn unneeded(
        &self,
        repository: &Repository,
        links: Vec<LinkRecord>,
        tags: Vec<TagRecord>,
    ) -> Result<Unneeded, Unsure> {
        let repository = repository.clone();
        self.read_with(move |files| Ok(needs::unneeded(files, &repository, &links, &tags))).await?
    }

    /// Everything that these manifests need, however deep, and the manifests themselves.
    ///
    /// # Errors
    /// As for [`unneeded`](Self::unneeded).
    pub async fn needed_by(&self, manifests: Vec<(Digest, String)>) -> Result<HashSet<Digest>, Unsure> {
        self.read_with(move |files| Ok(needs::needed_by(files, manifests))).await?
    }

    /// Forgets the length that a manifest names for the digest in these repositories, unless they
    /// hold it: the next download tells no length before it is proven.
    ///
    /// # Errors
    /// The disk's.
    pub async fn forget_named_length(
        &self,
        repositories: Vec<Repository>,
        digest: &Digest,
    ) -> Result<(), StorageError> {
        let digest = *digest;
        self.write_with(move |files| {
            for repository in repositories {
                if let Some(link) = files.catalog.link(&repository, &digest)?.filter(|link| !link.is_held()) {
                    files.catalog.put_links(&repository, &[LinkRecord { size: 0, ..link }])?;
                }
            }
            Ok(())
        })
        .await
    }

    /// All content that is here after `last`, in the order of digests. Content that comes or goes
    /// meanwhile may be among it or not.
    pub fn walk(&self, last: Option<Digest>) -> Walk {
        Walk { rest: Some(self.files.blobs.after(last)), pool: self.reading.clone() }
    }

    /// Reads content of any size again and verifies it, a second per gigabyte or so. Content that
    /// has rotted, was cut short, or cannot be read goes to the quarantine and is `None`.
    ///
    /// # Errors
    /// The disk's, where they say nothing about the content.
    pub async fn prove(&self, digest: &Digest, finder: Finder) -> Result<Option<StoredBlob>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| files.blobs.prove_for(&digest, finder)).await
    }

    /// Begins to read content again piece by piece, from the disk; with its size. `None` if it is
    /// not here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn begin_proof(&self, digest: &Digest) -> Result<Option<(Proof, u64)>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            let proof = files.blobs.proof(&digest)?;
            let size = files.blobs.size(&digest)?.unwrap_or(0);
            Ok(proof.map(|proof| (proof, size)))
        })
        .await
    }

    /// Reads and hashes the next piece.
    ///
    /// # Errors
    /// The disk's.
    pub async fn step_proof(&self, mut proof: Proof) -> Result<(Proof, Step), StorageError> {
        self.read_with(move |_| {
            let step = proof.step()?;
            Ok((proof, step))
        })
        .await
    }

    /// Removes downloads that were left unfinished for so long. Says how many.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sweep_downloads(&self, older_than: Duration) -> Result<usize, StorageError> {
        self.write_with(move |files| files.downloads.sweep(older_than)).await
    }

    /// Removes the unfinished download that has not grown for longest, of those that are not under
    /// way. Returns its bytes.
    ///
    /// # Errors
    /// The disk's.
    pub async fn discard_oldest_leftover(&self) -> Result<Option<u64>, StorageError> {
        self.write_with(|files| files.downloads.discard_oldest()).await
    }

    /// The bytes of each unfinished download that is not under way, in the order in which
    /// [`discard_oldest_leftover`](Self::discard_oldest_leftover) removes them.
    ///
    /// # Errors
    /// The disk's.
    pub async fn leftovers(&self) -> Result<Vec<u64>, StorageError> {
        self.read_with(|files| files.downloads.leftover_sizes()).await
    }

    /// How far the scrub had come when it was last noted.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn scrubbing(&self) -> Result<Option<Scrubbing>, StorageError> {
        self.read_with(|files| files.scrubbing()).await
    }

    /// Notes how far the scrub has come, durably.
    ///
    /// # Errors
    /// The disk's.
    pub async fn note_scrubbing(&self, scrubbing: Scrubbing) -> Result<(), StorageError> {
        self.write_with(move |files| files.note_scrubbing(&scrubbing)).await
    }

    /// What was found rotten since the start, by who found it. From memory.
    pub fn rotten(&self) -> Vec<RotCount> {
        self.files.rotten().to_vec()
    }
}

impl Walk {
    /// The next `limit` digests; fewer at the end, and none after it. A folder that cannot be
    /// listed is an error in its place.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Result<Digest, StorageError>>, StorageError> {
        let mut rest = self.rest.take().ok_or(StorageError::Lost)?;
        let done = self.pool.run(move || {
            let found: Vec<_> = rest.by_ref().take(limit).collect();
            (found, rest)
        });
        let (found, rest) = done.await.map_err(|_| StorageError::Lost)?;
        self.rest = Some(rest);
        Ok(found)
    }
}

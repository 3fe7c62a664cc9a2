//! Blobs: from the store, by a fill, or passed through.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BlobAnswer, BlobBody, BlobHead, PullError, PullThrough, Trace,
    body::{Following, Passing},
    fill::{Claim, FillFailure, Follower, Opened, Source, Standing, refuses},
    missing::Missed,
    records::{self, no_room},
};
use crate::{
    oci::{ByteRange, ContentRange, Digest, ErrorCode, Hasher, Outcome, Repository},
    storage::{LinkRecord, Origin, Storage, StorageError, StoredBlob},
    upstream::Upstream,
};

/// A range that begins this many bytes past what a fill has so far is not waited for (F8).
const FAR: u64 = 32 << 20;

/// What the disk knows of a blob in a repository.
pub(super) struct Found {
    /// The repository holds it, or a manifest in it names it.
    pub(super) link: Option<LinkRecord>,
    pub(super) stored: Option<StoredBlob>,
}

/// What a claim came to.
pub(super) enum Filling {
    /// It is here by now.
    Stored(StoredBlob),
    /// It is coming.
    Under {
        /// Its reader.
        follower: Follower<Source>,
        /// Whether this request began it.
        outcome: Outcome,
        /// Whether it was begun for other repositories only.
        stranger: bool,
    },
}

impl PullThrough {
    /// A blob, or a range of it. The first bytes are awaited by the body, not here.
    pub async fn blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, PullError> {
        // A fill that this request joined may turn out to be over, or its leader may have died: look again.
        for _ in 0..3 {
            match self.try_blob(repo, digest, range).await {
                Err(PullError::Fill(FillFailure::Abandoned)) => {}
                Err(PullError::Unknown { .. }) if Box::pin(self.refetched_blob(repo, digest)).await => {}
                answer => return answer,
            }
        }
        Err(PullError::Fill(FillFailure::Abandoned))
    }

    /// A blob's length. Never begins a download.
    pub async fn blob_size(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<BlobHead, PullError> {
        let found = self.count_on_blob(repo, digest).await?;
        if let Some(stored) = &found.stored {
            let trace = self.permission(repo, digest, &found, stored).await?;
            return Ok(BlobHead { size: stored.size, trace });
        }
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        self.known_missing(repo, Missed::Blob(*digest))?;
        if let Some(size) = self.fills.size(digest).filter(|_| found.link.is_some()) {
            return Ok(BlobHead { size, trace: trace(Outcome::Joined, &source.upstream, Duration::ZERO) });
        }
        let started = Instant::now();
        let linked = found.link.is_some();
        let size = self.ask_blob(&source, repo, digest).await?.or(found.link.map(|link| link.size));
        let size = match size {
            Some(size) => size,
            None => self.size_by_a_byte(&source, digest).await?,
        };
        if !linked {
            // A manifest that is pushed under this name next may need it, and then it is known whose it is.
            self.link(repo, records::link(*digest, "", size, Origin::Fetched)).await?;
        }
        Ok(BlobHead { size, trace: trace(Outcome::Bypassed, &source.upstream, started.elapsed()) })
    }

    async fn try_blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, PullError> {
        let generation = self.storage.catalog.generation(repo);
        // One that was cut short or removed meanwhile is looked at again.
        let whole = |stored: &StoredBlob| {
            stored.file.metadata().is_ok_and(|metadata| metadata.len() == stored.size && metadata.nlink() > 0)
        };
        if let Some(stored) = self.opened.get(generation, repo, digest).filter(whole) {
            return self.stored(&stored, range, self.hit(repo));
        }
        // On the heap, as for manifests.
        Box::pin(self.seek_blob(repo, digest, range, generation)).await
    }

    async fn seek_blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<ByteRange>,
        generation: u64,
    ) -> Result<BlobAnswer, PullError> {
        let found = self.find_blob(repo, digest).await?;
        if let Some(stored) = &found.stored {
            if found.link.is_some() {
                self.opened.insert(generation, repo, digest, stored);
            }
            let trace = self.permission(repo, digest, &found, stored).await?;
            return self.stored(stored, range, trace);
        }
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        let expected = found.link.as_ref().map(|link| link.size);
        let started = Instant::now();
        let (mut follower, outcome, stranger) = match self.fill(repo, digest, &source, found.link).await? {
            Filling::Stored(stored) => {
                let found = self.find_blob(repo, digest).await?;
                let trace = self.permission(repo, digest, &found, &stored).await?;
                return self.stored(&stored, range, trace);
            }
            Filling::Under { follower, outcome, stranger } => (follower, outcome, stranger),
        };
        let opened = follower.opened().await;
        match (opened, follower.standing()) {
            (_, Some(Standing::Refused(error))) => {
                let failure = FillFailure::Upstream(error);
                self.remember(repo, Missed::Blob(*digest), &PullError::Fill(failure.clone()));
                Err(PullError::Fill(failure))
            }
            (Ok(opened), standing) => {
                if !matches!(standing, Some(Standing::Has)) {
                    // The bytes come by way of another repository, and this one's upstream has not said anything yet.
                    self.ask_blob(&source, repo, digest).await?;
                    follower.vouch();
                }
                let trace = trace(outcome, &source.upstream, started.elapsed());
                self.follow(source, *digest, follower, opened, range, trace).await
            }
            (Err(FillFailure::NoRoom | FillFailure::Storage(_)), _) => {
                self.pass(&source, digest, expected, range).await
            }
            // What another repository's upstream says is no answer for this one.
            (Err(FillFailure::Upstream(error)), _) if refuses(&error) || (stranger && !error.is_outage()) => {
                Err(PullError::Fill(FillFailure::Abandoned))
            }
            (Err(failure), _) => Err(PullError::Fill(failure)),
        }
    }

    /// Begins a fill, or joins the one that is under way.
    pub(super) async fn fill(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        source: &Source,
        link: Option<LinkRecord>,
    ) -> Result<Filling, PullError> {
        self.known_missing(repo, Missed::Blob(*digest))?;
        match self.claim(*digest, source, link.is_some()).await? {
            Claim::Stored(stored) => Ok(Filling::Stored(stored)),
            Claim::Lead(leader, follower) => {
                self.tasks.spawn(self.drive().run(leader, link.map(|link| link.size)));
                Ok(Filling::Under { follower, outcome: Outcome::Filled, stranger: false })
            }
            Claim::Follow { follower, stranger } => {
                self.metrics.fill_joined(source.upstream.name());
                if stranger {
                    // Somebody else's repository has it; whether this one does is for its upstream to say (S5).
                    self.ask_blob(source, repo, digest).await?;
                    follower.vouch();
                }
                Ok(Filling::Under { follower, outcome: Outcome::Joined, stranger })
            }
        }
    }

    fn stored(&self, stored: &StoredBlob, range: Option<ByteRange>, trace: Trace) -> Result<BlobAnswer, PullError> {
        let range = over(range, stored.size)?;
        let (first, end) = span(range, stored.size);
        let body = BlobBody::stored(self.disk.clone(), Arc::clone(&stored.file), first, end);
        Ok(BlobAnswer { size: stored.size, range, body, trace })
    }

    async fn follow(
        &self,
        source: Source,
        digest: Digest,
        follower: Follower<Source>,
        opened: Opened,
        range: Option<ByteRange>,
        trace: Trace,
    ) -> Result<BlobAnswer, PullError> {
        let size = opened.total;
        let range = over(range, size)?;
        let (first, end) = span(range, size);
        if first > opened.readable.saturating_add(FAR) {
            return self.pass(&source, &digest, Some(size), range.map(explicit)).await;
        }
        let whole = first == 0 && end == size;
        let following = Following { follower, file: opened.file, readable: opened.readable, source, digest, whole };
        let body = BlobBody::following(self.disk.clone(), following, first, end);
        Ok(BlobAnswer { size, range, body, trace })
    }

    /// Straight from upstream, nothing kept.
    async fn pass(
        &self,
        source: &Source,
        digest: &Digest,
        size: Option<u64>,
        range: Option<ByteRange>,
    ) -> Result<BlobAnswer, PullError> {
        let started = Instant::now();
        let failed = |error| self.upstream_error(ErrorCode::BlobUnknown, error);
        let size = match size {
            Some(size) => size,
            None => match source.upstream.head_blob(&source.name, digest).await.map_err(failed)? {
                Some(size) => size,
                None => self.size_by_a_byte(source, digest).await?,
            },
        };
        let range = over(range, size)?;
        let (first, end) = span(range, size);
        let last = range.map(|range| range.last);
        let answer = source.upstream.blob(&source.name, digest, first, last).await.map_err(failed)?;
        let skip = first.checked_sub(answer.offset).ok_or(PullError::Lost)?;
        // Of the whole, upstream knows the length better than a manifest.
        let (size, end) = match answer.total {
            Some(total) if range.is_none() => (total, total),
            Some(_) | None => (size, end),
        };
        let whole = first == 0 && end == size;
        let proof = whole.then(|| (Hasher::new(digest.algorithm()), *digest));
        let body = BlobBody::passing(self.disk.clone(), Passing { body: answer.body, skip, proof }, first, end);
        Ok(BlobAnswer { size, range, body, trace: trace(Outcome::Bypassed, &source.upstream, started.elapsed()) })
    }

    pub(super) async fn find_blob(&self, repo: &Repository, digest: &Digest) -> Result<Found, PullError> {
        let (storage, repo, digest) = (Arc::clone(&self.storage), repo.clone(), *digest);
        self.on_disk(move || look(&storage, &repo, &digest)).await
    }

    /// The same for whoever is only told that it is there: a manifest that needs it may be pushed next.
    async fn count_on_blob(&self, repo: &Repository, digest: &Digest) -> Result<Found, PullError> {
        let (storage, repo, digest) = (Arc::clone(&self.storage), repo.clone(), *digest);
        self.on_disk(move || {
            let found = look(&storage, &repo, &digest)?;
            if found.stored.is_none() {
                return Ok(found);
            }
            storage.leases.touch(&digest);
            look(&storage, &repo, &digest)
        })
        .await
    }

    /// Whether this repository may give out what is on disk: it links the digest, or its upstream says that it has it (S5).
    pub(super) async fn permission(
        &self,
        repo: &Repository,
        digest: &Digest,
        found: &Found,
        stored: &StoredBlob,
    ) -> Result<Trace, PullError> {
        if found.link.is_some() {
            return Ok(self.hit(repo));
        }
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        self.known_missing(repo, Missed::Blob(*digest))?;
        let started = Instant::now();
        let size = self.ask_blob(&source, repo, digest).await?;
        if size.is_some_and(|size| size != stored.size) && !self.is_sound(digest).await? {
            // It is not here any more: look again.
            return Err(PullError::Fill(FillFailure::Abandoned));
        }
        self.link(repo, records::link(*digest, "", stored.size, Origin::Fetched)).await?;
        Ok(trace(Outcome::Revalidated, &source.upstream, started.elapsed()))
    }

    async fn is_sound(&self, digest: &Digest) -> Result<bool, PullError> {
        let (storage, digest) = (Arc::clone(&self.storage), *digest);
        Ok(self.on_disk(move || storage.blobs.prove(&digest)).await?.is_some())
    }

    /// Asks the repository's upstream whether it has the blob; its length, where it says so.
    async fn ask_blob(&self, source: &Source, repo: &Repository, digest: &Digest) -> Result<Option<u64>, PullError> {
        source.upstream.head_blob(&source.name, digest).await.map_err(|error| {
            let error = self.upstream_error(ErrorCode::BlobUnknown, error);
            self.remember(repo, Missed::Blob(*digest), &error);
            error
        })
    }

    /// The length from the answer to a GET of one byte, for content networks whose addresses are signed for GET alone.
    async fn size_by_a_byte(&self, source: &Source, digest: &Digest) -> Result<u64, PullError> {
        let answer = source.upstream.blob(&source.name, digest, 0, Some(0)).await;
        let answer = answer.map_err(|error| self.upstream_error(ErrorCode::BlobUnknown, error))?;
        answer.total.ok_or(PullError::Lost)
    }

    async fn claim(
        &self,
        digest: Digest,
        source: &Source,
        linked: bool,
    ) -> Result<Claim<Source, StoredBlob>, PullError> {
        let (storage, fills, source) = (Arc::clone(&self.storage), self.fills.clone(), source.clone());
        self.on_disk(move || fills.claim(digest, source, linked, || storage.blobs.open(&digest))).await
    }
}

/// The file is not as long as the link says: one of them is wrong. A file that was cut short is out of the way then, and a
/// length that was only ever a manifest's word is set right, so that this is done once.
fn doubted(storage: &Storage, repo: &Repository, link: LinkRecord) -> Result<Found, StorageError> {
    let Some(stored) = storage.blobs.prove(&link.digest)? else { return Ok(Found { link: Some(link), stored: None }) };
    let link = LinkRecord { size: stored.size, ..link };
    match storage.catalog.put_links(repo, std::slice::from_ref(&link)) {
        Err(error) if !no_room(&error) => Err(error),
        Ok(()) | Err(_) => Ok(Found { link: Some(link), stored: Some(stored) }),
    }
}

fn look(storage: &Storage, repo: &Repository, digest: &Digest) -> Result<Found, StorageError> {
    let link = storage.catalog.link(repo, digest)?;
    let stored = storage.blobs.open(digest)?;
    match (link, stored) {
        (Some(link), Some(stored)) if link.size != stored.size => doubted(storage, repo, link),
        (link, stored) => Ok(Found { link, stored }),
    }
}

fn over(range: Option<ByteRange>, size: u64) -> Result<Option<ContentRange>, PullError> {
    range.map(|range| range.over(size)).transpose().map_err(|none| PullError::Range { total: none.total })
}

fn explicit(range: ContentRange) -> ByteRange {
    ByteRange::From { first: range.first, last: Some(range.last) }
}

/// First offset and the offset past the last.
fn span(range: Option<ContentRange>, size: u64) -> (u64, u64) {
    range.map_or((0, size), |range| (range.first, range.last + 1))
}

pub(super) fn trace(outcome: Outcome, upstream: &Upstream, upstream_time: Duration) -> Trace {
    Trace { outcome, upstream: Some(upstream.name().clone()), upstream_time }
}

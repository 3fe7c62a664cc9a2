//! Blobs: from the store, by a fill, or passed through.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BlobAnswer, BlobBody, BlobHead, PullError, PullThrough, Trace,
    body::{Following, Passing},
    fill::{Claim, FillFailure, Follower, Opened, Source},
    records,
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
    Under(Follower, Outcome),
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
        if let Some(size) = self.fills.size(digest).filter(|_| found.link.is_some()) {
            return Ok(BlobHead { size, trace: trace(Outcome::Joined, &source.upstream, Duration::ZERO) });
        }
        let started = Instant::now();
        let size = self.ask_blob(&source, repo, digest).await?;
        let linked = found.link.is_some();
        let size = size.or(found.link.map(|link| link.size)).ok_or(PullError::Lost)?;
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
        let found = self.find_blob(repo, digest).await?;
        if let Some(stored) = &found.stored {
            let trace = self.permission(repo, digest, &found, stored).await?;
            return self.stored(stored, range, trace);
        }
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        let expected = found.link.as_ref().map(|link| link.size);
        let started = Instant::now();
        let (mut follower, outcome) = match self.fill(repo, digest, &source, found.link).await? {
            Filling::Stored(stored) => {
                let found = self.find_blob(repo, digest).await?;
                let trace = self.permission(repo, digest, &found, &stored).await?;
                return self.stored(&stored, range, trace);
            }
            Filling::Under(follower, outcome) => (follower, outcome),
        };
        match follower.opened().await {
            Ok(opened) => {
                let trace = trace(outcome, &source.upstream, started.elapsed());
                self.follow(source, *digest, follower, opened, range, trace).await
            }
            Err(FillFailure::NoRoom) => self.pass(&source, digest, expected, range).await,
            Err(failure) => {
                self.remember_missing(repo, digest, &failure);
                Err(PullError::Fill(failure))
            }
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
        self.known_missing(repo, *digest)?;
        match self.claim(*digest, source, link.is_some()).await? {
            Claim::Stored(stored) => Ok(Filling::Stored(stored)),
            Claim::Lead(leader, follower) => {
                self.tasks.spawn(self.drive().run(leader, link.map(|link| link.size)));
                Ok(Filling::Under(follower, Outcome::Filled))
            }
            Claim::Follow { follower, authorized } => {
                if !authorized {
                    // Somebody else's repository has it; whether this one does is for its upstream to say (S5).
                    self.ask_blob(source, repo, digest).await?;
                    self.fills.add_source(digest, source.clone());
                }
                self.metrics.fill_joined(source.upstream.name());
                Ok(Filling::Under(follower, Outcome::Joined))
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
        follower: Follower,
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
        let following = Following { follower, file: opened.file, readable: opened.readable, source, digest };
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
            None => source.upstream.head_blob(&source.name, digest).await.map_err(failed)?.ok_or(PullError::Lost)?,
        };
        let range = over(range, size)?;
        let (first, end) = span(range, size);
        let last = range.map(|range| range.last);
        let answer = source.upstream.blob(&source.name, digest, first, last).await.map_err(failed)?;
        let skip = first.checked_sub(answer.offset).ok_or(PullError::Lost)?;
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
        self.known_missing(repo, *digest)?;
        let started = Instant::now();
        self.ask_blob(&source, repo, digest).await?;
        self.link(repo, records::link(*digest, "", stored.size, Origin::Fetched)).await?;
        Ok(trace(Outcome::Revalidated, &source.upstream, started.elapsed()))
    }

    /// Asks the repository's upstream whether it has the blob; its length, where it says so.
    async fn ask_blob(&self, source: &Source, repo: &Repository, digest: &Digest) -> Result<Option<u64>, PullError> {
        source.upstream.head_blob(&source.name, digest).await.map_err(|error| {
            let error = self.upstream_error(ErrorCode::BlobUnknown, error);
            self.remember(repo, (*digest).into(), &error);
            error
        })
    }

    pub(super) fn remember_missing(&self, repo: &Repository, digest: &Digest, failure: &FillFailure) {
        self.remember(repo, (*digest).into(), &PullError::Fill(failure.clone()));
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

fn look(storage: &Storage, repo: &Repository, digest: &Digest) -> Result<Found, StorageError> {
    Ok(Found { link: storage.catalog.link(repo, digest)?, stored: storage.blobs.open(digest)? })
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

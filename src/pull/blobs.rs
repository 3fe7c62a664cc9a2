//! Blobs: from the store, by a fill, or passed through.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BlobAnswer, BlobBody, BlobHead, PullError, PullThrough, Trace,
    body::{Following, Passing, Proof, Wanted, trusts},
    fill::{Claim, FillFailure, FillHead, Follower, Origin, Source, SourceState},
    memory::Missed,
    records,
};
use crate::{
    oci::{ByteRanges, ContentRanges, Digest, ErrorCode, Hasher, Outcome, Repository},
    storage::{Found, LinkRecord, LinkRight, StoredBlob},
    upstream::{Registry, UpstreamError},
};

/// A range that begins this many bytes past what a fill has so far is not waited for (F8).
const FAR: u64 = 32 << 20;
/// So many bytes between several such ranges are fetched with them.
const GAPS: u64 = 1 << 20;
/// Ranges that lie within so many bytes do not wait for the proof of a leftover, or of another
/// registry's bytes: they are passed through. Longer ones wait, so that upstream sends nothing
/// large twice.
const SMALL: u64 = 1 << 20;

/// How long whoever joins another repository's download waits for its head. Then it is passed
/// through (S30).
const UNVERIFIED: Duration = Duration::from_secs(10);

/// What a claim came to.
pub(super) enum Filling {
    /// It is here by now.
    Stored(StoredBlob),
    /// It is coming.
    Under {
        /// Its reader.
        follower: Follower<Origin>,
        /// Whether this request began it.
        outcome: Outcome,
        /// Whether it was begun for other repositories only.
        unverified: bool,
    },
}

impl PullThrough {
    /// A blob, or ranges of it. The first bytes are awaited by the body, not here.
    pub async fn blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
    ) -> Result<BlobAnswer, PullError> {
        // A fill that this request joined may turn out to be over, or its leader may have died: look again.
        let mut elsewhere = false;
        for _ in 0..3 {
            match self.try_blob(repo, digest, range).await {
                Err(PullError::Fill(FillFailure::Abandoned)) => elsewhere = false,
                Err(PullError::Fill(FillFailure::Elsewhere)) => elsewhere = true,
                Err(PullError::Unknown { .. }) if Box::pin(self.refetched_blob(repo, digest)).await => {}
                answer => return answer,
            }
        }
        if elsewhere {
            // Another registry's downloads come to nothing again and again.
            return self.pass(&self.source(repo, ErrorCode::BlobUnknown)?, digest, None, range).await;
        }
        Err(PullError::Fill(FillFailure::Abandoned))
    }

    /// A blob's length. Begins a download only where neither a manifest nor upstream tells it.
    pub async fn blob_size(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<BlobHead, PullError> {
        let found = self.storage.locate_and_keep(repo, digest).await?;
        if let Some(stored) = &found.stored {
            let trace = self.permission(repo, digest, &found, stored).await?;
            return Ok(BlobHead { size: stored.size, trace });
        }
        self.absent_size(repo, digest, &found)
            .await
            .map_err(|error| self.away(repo, digest, found.link.as_ref(), error))
    }

    /// The same of one that is not here.
    async fn absent_size(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        found: &Found,
    ) -> Result<BlobHead, PullError> {
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        self.negative.check(repo, Missed::Blob(*digest))?;
        if let Some(size) = self.fills.size(digest, &Origin::from(&source)) {
            return Ok(BlobHead { size, trace: trace(Outcome::Joined, &source.upstream, Duration::ZERO) });
        }
        let started = Instant::now();
        let named = found.link.as_ref();
        // A manifest's word, or that of bytes that were here once. 0 is nobody's.
        let known = named.map(|link| link.size).filter(|size| *size > 0);
        let size = match known.or(self.ask_blob(&source, repo, digest).await?) {
            Some(size) => size,
            None => match self.ask_a_byte(&source, repo, digest).await? {
                Some(size) => size,
                // Only all of its bytes tell how many there are.
                None => return self.counted(repo, digest).await,
            },
        };
        if named.is_none() {
            // A manifest that is pushed under this name next may need it, and then it is known
            // where it can be had. That is no possession (S23), and its size nobody has proven.
            self.link(repo, records::link(*digest, "", 0, LinkRight::Named(*digest))).await?;
        }
        Ok(BlobHead { size, trace: trace(Outcome::Bypassed, &source.upstream, started.elapsed()) })
    }

    /// The length of a blob that nobody tells: it is downloaded, as for whoever asks for its bytes.
    async fn counted(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<BlobHead, PullError> {
        let BlobAnswer { size, trace, .. } = Box::pin(self.blob(repo, digest, None)).await?;
        Ok(BlobHead { size, trace })
    }

    async fn try_blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
    ) -> Result<BlobAnswer, PullError> {
        let generation = self.storage.version(repo);
        // One that was cut short or removed meanwhile is looked at again.
        let whole = |stored: &StoredBlob| {
            stored.file.metadata().is_ok_and(|metadata| metadata.len() == stored.size && metadata.nlink() > 0)
        };
        if let Some(stored) = self.warm_blobs.get(generation, repo, digest).filter(whole) {
            return self.stored(&stored, range, self.hit(repo));
        }
        // On the heap, as for manifests.
        Box::pin(self.seek_blob(repo, digest, range, generation)).await
    }

    async fn seek_blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
        generation: u64,
    ) -> Result<BlobAnswer, PullError> {
        let found = self.storage.locate(repo, digest).await?;
        if let Some(stored) = &found.stored {
            if found.is_held() {
                self.warm_blobs.insert(generation, repo, digest, stored);
            }
            let trace = self.permission(repo, digest, &found, stored).await?;
            return self.stored(stored, range, trace);
        }
        let named = found.link.clone();
        self.absent_blob(repo, digest, range, found)
            .await
            .map_err(|error| self.away(repo, digest, named.as_ref(), error))
    }

    /// One that is not here: by a fill, or passed through.
    async fn absent_blob(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
        found: Found,
    ) -> Result<BlobAnswer, PullError> {
        let source = self.source(repo, ErrorCode::BlobUnknown)?;
        let expected = found.link.as_ref().map(|link| link.size);
        let held = expected.filter(|size| found.is_held() && *size > 0);
        let started = Instant::now();
        let (mut follower, outcome, unverified) = match self.fill(repo, digest, &source, found.link).await? {
            Filling::Stored(stored) => {
                let found = self.storage.locate(repo, digest).await?;
                let trace = self.permission(repo, digest, &found, &stored).await?;
                return self.stored(&stored, range, trace);
            }
            Filling::Under { follower, outcome, unverified } => (follower, outcome, unverified),
        };
        let opened = match tokio::time::timeout(UNVERIFIED, follower.head()).await {
            // Whatever holds it up, this repository's own upstream does not.
            Err(_) if unverified => return self.pass(&source, digest, expected, range).await,
            Err(_) => follower.head().await,
            Ok(opened) => opened,
        };
        match (opened, follower.source_state()) {
            (_, Some(SourceState::Refused(error))) => {
                let failure = FillFailure::Upstream(error);
                self.negative.remember(repo, Missed::Blob(*digest), &PullError::Fill(failure.clone()));
                Err(PullError::Fill(failure))
            }
            // Another repository's upstream, which is wrong about the length.
            (Ok(opened), _) if held.is_some_and(|held| held != opened.total) => {
                self.pass(&source, digest, expected, range).await
            }
            (Ok(opened), standing) => {
                if !matches!(standing, Some(SourceState::Has)) {
                    // The bytes come by way of another repository, and this one's upstream has not said anything yet.
                    match self.agree(&source, repo, digest, opened.total).await {
                        // One of the two upstreams is wrong. This one's answer is all that this client asked for.
                        Err(PullError::Upstream { error, .. }) if matches!(*error, UpstreamError::Untrue { .. }) => {
                            return self.pass(&source, digest, expected, range).await;
                        }
                        agreed => agreed?,
                    }
                    if !follower.agree(opened.total) {
                        return Err(PullError::Fill(FillFailure::Abandoned));
                    }
                }
                let trace = trace(outcome, &source.upstream, started.elapsed());
                self.follow(source, *digest, follower, opened, range, trace).await
            }
            (Err(FillFailure::NoRoom | FillFailure::Storage(_)), _) => {
                self.pass(&source, digest, expected, range).await
            }
            (Err(failure), _) => Err(PullError::Fill(follower.told(failure))),
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
        self.negative.check(repo, Missed::Blob(*digest))?;
        match self.claim(*digest, source, link.as_ref().is_some_and(LinkRecord::is_held)).await? {
            Claim::Stored(stored) => Ok(Filling::Stored(stored)),
            Claim::Lead(leader, follower) => {
                self.tasks.spawn(self.drive().run(leader, link.map(|link| link.size)));
                Ok(Filling::Under { follower, outcome: Outcome::Filled, unverified: false })
            }
            Claim::Follow { follower, unverified } => {
                self.metrics.fill_joined(source.upstream.name());
                if unverified {
                    // Somebody else's repository has it; whether this one does is for its upstream to say (S5).
                    // It is heard before the bytes are waited for, and weighed when their length is
                    // known.
                    self.ask_blob(source, repo, digest).await?;
                    follower.offer();
                }
                Ok(Filling::Under { follower, outcome: Outcome::Joined, unverified })
            }
        }
    }

    fn stored(&self, stored: &StoredBlob, range: Option<&ByteRanges>, trace: Trace) -> Result<BlobAnswer, PullError> {
        let ranges = over(range, stored.size)?;
        let wanted = Wanted::new(stored.size, ranges.as_ref());
        let body = BlobBody::stored(self.disk.clone(), Arc::clone(&stored.file), wanted);
        Ok(BlobAnswer { size: stored.size, ranges, body, trace })
    }

    async fn follow(
        &self,
        source: Source,
        digest: Digest,
        follower: Follower<Origin>,
        opened: FillHead,
        range: Option<&ByteRanges>,
        trace: Trace,
    ) -> Result<BlobAnswer, PullError> {
        let size = opened.total;
        let ranges = match over(range, size) {
            // A manifest may have named too short a length: upstream's own word is asked for.
            Err(PullError::Range { .. }) => return self.pass(&source, &digest, None, range).await,
            ranges => ranges?,
        };
        let origin = Origin::from(&source);
        let hidden = |ranges: &ContentRanges| follower.hides(ranges.start()..ranges.end(), trusts(&origin, true));
        if let Some(ranges) = &ranges
            && (is_far(ranges, opened.readable) || (is_small(ranges) && hidden(ranges)))
        {
            return self.pass(&source, &digest, Some(size), range).await;
        }
        let (whole, ranged) = (ranges.as_ref().is_none_or(ContentRanges::is_whole), ranges.is_some());
        let following =
            Following { follower, file: opened.file, readable: 0..0, origin, digest, whole, ranged, passing: None };
        let body = BlobBody::following(self.disk.clone(), following, Wanted::new(size, ranges.as_ref()));
        Ok(BlobAnswer { size, ranges, body, trace })
    }

    /// Straight from upstream, nothing kept. `size` is what a manifest names, or what a fill was
    /// told: an answer that states another is refused before a head is sent, unless HEAD states the
    /// same.
    async fn pass(
        &self,
        source: &Source,
        digest: &Digest,
        size: Option<u64>,
        range: Option<&ByteRanges>,
    ) -> Result<BlobAnswer, PullError> {
        let started = Instant::now();
        let failed = |error| self.upstream_error(ErrorCode::BlobUnknown, error);
        let untrue = |message: String| failed(UpstreamError::Untrue { message });
        let known = size.filter(|size| *size > 0);
        let size = match known {
            Some(size) => size,
            None => match source.upstream.head_blob(&source.name, digest).await.map_err(failed)? {
                Some(size) => size,
                None => {
                    let size = source.upstream.blob_size_by_a_byte(&source.name, digest).await.map_err(failed)?;
                    size.ok_or_else(|| untrue("upstream does not tell how long the blob is".to_owned()))?
                }
            },
        };
        let ranges = match over(range, size) {
            // A manifest's length may be too short for them.
            Err(none) if known.is_some() => match source.upstream.head_blob(&source.name, digest).await {
                Ok(Some(head)) if head > size => return Box::pin(self.pass(source, digest, Some(head), range)).await,
                Ok(_) | Err(_) => return Err(none),
            },
            ranges => ranges?,
        };
        // One answer of upstream serves them all, or none of them: then the client gets the whole.
        let ranges = ranges.filter(ContentRanges::is_ascending);
        let first = ranges.as_ref().map_or(0, ContentRanges::start);
        let last = ranges.as_ref().map(|ranges| ranges.end() - 1);
        let answer = source.upstream.blob(&source.name, digest, first, last).await.map_err(failed)?;
        let size = match answer.total {
            _ if answer.page => return Err(untrue("the answer is a web page, and no blob".to_owned())),
            // Of the whole, the answer knows the length better than a HEAD.
            Some(total) if known.is_none() && ranges.is_none() && (total > 0 || size == 0) => total,
            Some(total) if total != size => {
                let head = source.upstream.head_blob(&source.name, digest).await.map_err(failed)?;
                if known.is_some() && head == Some(total) {
                    return Box::pin(self.pass(source, digest, head, range)).await;
                }
                return Err(untrue("the blob has another length there than elsewhere".to_owned()));
            }
            Some(_) | None => size,
        };
        let whole = ranges.as_ref().is_none_or(ContentRanges::is_whole);
        let proof = whole.then(|| Proof { hasher: Hasher::new(digest.algorithm()), digest: *digest, size });
        let passing = Passing::new(answer.into(), first, proof).ok_or(PullError::Lost)?;
        let body = BlobBody::passing(self.disk.clone(), passing, Wanted::new(size, ranges.as_ref()));
        Ok(BlobAnswer { size, ranges, body, trace: trace(Outcome::Bypassed, &source.upstream, started.elapsed()) })
    }

    async fn claim(
        &self,
        digest: Digest,
        source: &Source,
        linked: bool,
    ) -> Result<Claim<Origin, StoredBlob>, PullError> {
        Ok(self.fills.claim(digest, Origin::from(source), linked, self.storage.content(&digest)).await?)
    }
}

fn over(range: Option<&ByteRanges>, size: u64) -> Result<Option<ContentRanges>, PullError> {
    range.map(|range| range.resolve(size)).transpose().map_err(|none| PullError::Range { total: none.total })
}

/// Whether the ranges are not waited for (F8): all begin far past what can be read, and one request
/// upstream brings them without much that is not asked for. Others are followed, so that no request
/// costs more than one upstream.
fn is_far(ranges: &ContentRanges, readable: u64) -> bool {
    ranges.start() > readable.saturating_add(FAR) && ranges.is_ascending() && ranges.gaps() <= GAPS
}

/// Whether one small request upstream brings the ranges. The whole is not asked for twice.
fn is_small(ranges: &ContentRanges) -> bool {
    ranges.is_ascending() && ranges.end() - ranges.start() <= SMALL && !ranges.is_whole()
}

pub(super) fn trace(outcome: Outcome, upstream: &Registry, upstream_time: Duration) -> Trace {
    Trace { outcome, upstream: Some(upstream.name().clone()), upstream_time }
}

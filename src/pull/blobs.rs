//! Blobs: from the store, by a fill, or passed through.
//!
//! `blob` retries `blob_cached`, which answers from memory, or else by `blob_uncached`: from the
//! store, by following a fill, or straight from upstream. `http` calls `blob` and `blob_size`.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BlobAnswer, BlobBody, BlobHead, PullError, PullThrough, Trace,
    answer::trace,
    body::{Following, Passing, Proof, Wanted, trusts},
    fill::{Claim, FillFailure, FillHead, Follower, Origin, SourceState, UpstreamRepository},
    memory::Missed,
    records,
};
use crate::{
    oci::{ByteRanges, ContentRanges, Digest, ErrorCode, Hasher, Outcome, Repository},
    storage::{Found, LinkRecord, LinkRight, StoredBlob},
    upstream::UpstreamError,
};

/// A range that begins this many bytes past those that a fill has so far is not waited for (F8).
const FAR: u64 = 32 << 20;
/// How many bytes between several such ranges may be fetched along with them.
const GAPS: u64 = 1 << 20;
/// Ranges that lie within this many bytes do not wait for the proof of a leftover, or of another
/// registry's bytes: they are passed through. Longer ones wait, so that upstream sends no large
/// range twice.
const SMALL: u64 = 1 << 20;

/// How long a request that joins another repository's download waits for its head. Then the blob is
/// passed through (S30).
const UNVERIFIED: Duration = Duration::from_secs(10);

/// The outcome of a claim.
pub(super) enum Filling {
    /// The blob is here by now.
    Stored(StoredBlob),
    /// The blob is being filled.
    Under {
        /// Its reader.
        follower: Follower<Origin>,
        /// `filled` if this request began the fill, else `joined`.
        outcome: Outcome,
        /// Whether it was begun for other repositories only, so that this one's upstream was asked.
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
        // The fill that this request joined may have ended, or its leader may have died: look
        // again.
        let mut elsewhere = false;
        // On the heap, because seldom: 2,256 bytes to fetch again, and 6,560 to pass through.
        for _ in 0..3 {
            match self.blob_cached(repo, digest, range).await {
                Err(PullError::Fill(FillFailure::Abandoned)) => elsewhere = false,
                Err(PullError::Fill(FillFailure::Elsewhere)) => elsewhere = true,
                Err(PullError::Unknown { .. }) if Box::pin(self.refetched_blob(repo, digest)).await => {}
                answer => return answer,
            }
        }
        if elsewhere {
            // Another registry's downloads fail again and again.
            let source = self.source(repo, ErrorCode::BlobUnknown)?;
            return Box::pin(self.pass(&source, digest, None, range)).await;
        }
        Err(PullError::Fill(FillFailure::Abandoned))
    }

    /// A blob's length in bytes. Begins a download only if neither a manifest nor upstream states
    /// it. With `stays` the client may push to this repository, and a blob that the repository
    /// holds stays here for the grace (K7).
    pub async fn blob_size(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        stays: bool,
    ) -> Result<BlobHead, PullError> {
        let found = self.storage.locate_unnoticed(repo, digest, stays).await?;
        if let Some(stored) = &found.stored {
            let trace = self.permission(repo, digest, &found, stored).await?;
            return Ok(BlobHead { size: stored.size, trace });
        }
        self.absent_size(repo, digest, &found)
            .await
            .map_err(|error| self.away(repo, digest, found.link.as_ref(), error))
    }

    /// The length of a blob that is not here.
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
        // Stated by a manifest, or of bytes that were here once. 0 states nothing.
        let known = named.map(|link| link.size).filter(|size| *size > 0);
        let size = match known.or(self.ask_blob(&source, repo, digest).await?) {
            Some(size) => size,
            None => match self.ask_a_byte(&source, repo, digest).await? {
                Some(size) => size,
                // Only all of its bytes tell how many they are.
                None => return self.counted(repo, digest).await,
            },
        };
        if named.is_none() {
            // A manifest that is pushed under this name next may need the blob, and then the link
            // says where it can be had. The link does not hold it (S23), and its size is unproven.
            self.link(repo, records::link(*digest, "", 0, LinkRight::Named(*digest))).await?;
        }
        Ok(BlobHead { size, trace: trace(Outcome::Bypassed, &source.upstream, started.elapsed()) })
    }

    /// The length of a blob if no answer states it: the blob is downloaded, as for a GET.
    async fn counted(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<BlobHead, PullError> {
        let BlobAnswer { size, trace, .. } = self.blob(repo, digest, None).await?;
        Ok(BlobHead { size, trace })
    }

    /// From memory: a blob that is open because it was just asked for.
    async fn blob_cached(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
    ) -> Result<BlobAnswer, PullError> {
        let version = self.storage.version(repo);
        // A file that was cut short or removed meanwhile is looked for again.
        let whole = |stored: &StoredBlob| {
            stored.file.metadata().is_ok_and(|metadata| metadata.len() == stored.size && metadata.nlink() > 0)
        };
        let warm = self.warm_blobs.get(version, repo, digest).and_then(|kept| kept.get());
        if let Some(stored) = warm.filter(whole) {
            return self.stored(&stored, range, self.hit(repo));
        }
        // On the heap: 8,736 bytes that a hit does not need.
        Box::pin(self.blob_uncached(repo, digest, range, version)).await
    }

    /// From the store, or as one that is not here.
    async fn blob_uncached(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        range: Option<&ByteRanges>,
        version: u64,
    ) -> Result<BlobAnswer, PullError> {
        let found = self.storage.locate(repo, digest).await?;
        if let Some(stored) = &found.stored {
            if found.is_held() {
                self.warm_blobs.insert(version, repo, digest, &self.storage.keep_open(digest, stored));
            }
            let trace = self.permission(repo, digest, &found, stored).await?;
            return self.stored(stored, range, trace);
        }
        let named = found.link.clone();
        self.absent_blob(repo, digest, range, found)
            .await
            .map_err(|error| self.away(repo, digest, named.as_ref(), error))
    }

    /// A blob that is not here: by a fill, or passed through.
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
        let head = match tokio::time::timeout(UNVERIFIED, follower.head()).await {
            // This repository's own upstream is not what holds it up.
            Err(_) if unverified => return self.pass(&source, digest, expected, range).await,
            Err(_) => follower.head().await,
            Ok(head) => head,
        };
        match (head, follower.source_state()) {
            (_, Some(SourceState::Refused(error))) => {
                let failure = FillFailure::Upstream(error);
                self.negative.remember(repo, Missed::Blob(*digest), &PullError::Fill(failure.clone()));
                Err(PullError::Fill(failure))
            }
            // Another repository's upstream is wrong about the length.
            (Ok(head), _) if held.is_some_and(|held| held != head.total) => {
                self.pass(&source, digest, expected, range).await
            }
            (Ok(head), state) => {
                if !matches!(state, Some(SourceState::Has)) {
                    // The bytes come from another repository, and this one's upstream has not
                    // answered yet.
                    match self.agree(&source, repo, digest, head.total).await {
                        // One of the two upstreams is wrong. This client asked for this one's
                        // answer.
                        Err(PullError::Upstream { error, .. }) if matches!(*error, UpstreamError::Untrue { .. }) => {
                            return self.pass(&source, digest, expected, range).await;
                        }
                        agreed => agreed?,
                    }
                    if !follower.agree(head.total) {
                        return Err(PullError::Fill(FillFailure::Abandoned));
                    }
                }
                let trace = trace(outcome, &source.upstream, started.elapsed());
                self.follow(source, *digest, follower, head, range, trace).await
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
        source: &UpstreamRepository,
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
                    // Another repository has the blob. Whether this one has it, its own upstream
                    // says (S5). It is asked before the bytes are waited for, and its answer is
                    // weighed when their length is known.
                    self.ask_blob(source, repo, digest).await?;
                    follower.offer();
                }
                Ok(Filling::Under { follower, outcome: Outcome::Joined, unverified })
            }
        }
    }

    fn stored(&self, stored: &StoredBlob, range: Option<&ByteRanges>, trace: Trace) -> Result<BlobAnswer, PullError> {
        let ranges = resolve(range, stored.size)?;
        let wanted = Wanted::new(stored.size, ranges.as_ref());
        let body = BlobBody::stored(self.disk.clone(), Arc::clone(&stored.file), wanted);
        Ok(BlobAnswer { size: stored.size, ranges, body, trace })
    }

    async fn follow(
        &self,
        source: UpstreamRepository,
        digest: Digest,
        follower: Follower<Origin>,
        head: FillHead,
        range: Option<&ByteRanges>,
        trace: Trace,
    ) -> Result<BlobAnswer, PullError> {
        let size = head.total;
        let ranges = match resolve(range, size) {
            // A manifest may have named too short a length: upstream is asked for it.
            Err(PullError::Range { .. }) => return self.pass(&source, &digest, None, range).await,
            ranges => ranges?,
        };
        let origin = Origin::from(&source);
        let hidden = |ranges: &ContentRanges| follower.hides(ranges.start()..ranges.end(), trusts(&origin, true));
        if let Some(ranges) = &ranges
            && (is_far(ranges, head.readable) || (is_small(ranges) && hidden(ranges)))
        {
            return self.pass(&source, &digest, Some(size), range).await;
        }
        let (whole, ranged) = (ranges.as_ref().is_none_or(ContentRanges::is_whole), ranges.is_some());
        let following =
            Following { follower, file: head.file, readable: 0..0, origin, digest, whole, ranged, passing: None };
        let body = BlobBody::following(self.disk.clone(), following, Wanted::new(size, ranges.as_ref()));
        Ok(BlobAnswer { size, ranges, body, trace })
    }

    /// Straight from upstream, without keeping anything. `size` is the length that a manifest names
    /// or that a fill told. An answer that states another length is refused before a head is sent,
    /// unless HEAD states that length too.
    async fn pass(
        &self,
        source: &UpstreamRepository,
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
        let ranges = match resolve(range, size) {
            // A manifest's length may be too short for them.
            Err(none) if known.is_some() => match source.upstream.head_blob(&source.name, digest).await {
                Ok(Some(head)) if head > size => return Box::pin(self.pass(source, digest, Some(head), range)).await,
                Ok(_) | Err(_) => return Err(none),
            },
            ranges => ranges?,
        };
        // One answer of upstream serves all ranges, or none: then the client gets the whole.
        let ranges = ranges.filter(ContentRanges::is_ascending);
        let first = ranges.as_ref().map_or(0, ContentRanges::start);
        let last = ranges.as_ref().map(|ranges| ranges.end() - 1);
        let answer = source.upstream.blob(&source.name, digest, first, last).await.map_err(failed)?;
        let size = match answer.total {
            _ if answer.page => return Err(untrue("the answer is a web page, and no blob".to_owned())),
            // For the whole, the answer knows the length better than a HEAD.
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
        source: &UpstreamRepository,
        linked: bool,
    ) -> Result<Claim<Origin, StoredBlob>, PullError> {
        Ok(self.fills.claim(digest, Origin::from(source), linked, self.storage.content(&digest)).await?)
    }
}

fn resolve(range: Option<&ByteRanges>, size: u64) -> Result<Option<ContentRanges>, PullError> {
    range.map(|range| range.resolve(size)).transpose().map_err(|none| PullError::Range { total: none.total })
}

/// Whether the ranges are not waited for (F8): all begin far past the readable bytes, and one
/// request upstream brings them with few other bytes. Other ranges are followed, so that no request
/// costs more than one upstream.
fn is_far(ranges: &ContentRanges, readable: u64) -> bool {
    ranges.start() > readable.saturating_add(FAR) && ranges.is_ascending() && ranges.gaps() <= GAPS
}

/// Whether one small request upstream brings the ranges. The whole is never small: it is not asked
/// for twice.
fn is_small(ranges: &ContentRanges) -> bool {
    ranges.is_ascending() && ranges.end() - ranges.start() <= SMALL && !ranges.is_whole()
}

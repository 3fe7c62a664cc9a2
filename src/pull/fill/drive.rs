//! The leader's work: fetch, hash, write, advertise, prove, commit; and take a broken source up again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    super::records::{self, no_room},
    FillFailure, Leader,
    sources::refuses,
};
use crate::{
    metrics::Metrics,
    oci::{Digest, Namespace, Repository, RepositoryName},
    storage::{DiskThreads, Origin, Part, Storage, StorageError},
    upstream::{BlobAnswer, Upstream, UpstreamError, fetcher::FetchError},
};

/// How long a fill goes on without a single new byte before it gives up. The part stays for the next claim.
const NO_PROGRESS: Duration = Duration::from_secs(60);
/// How often a fill asks before its first byte: clients are waiting for a status line.
const FIRST_ATTEMPTS: usize = 2;
/// One write: large enough to make large folios, small enough to keep nobody waiting for what is behind it.
const WRITE: usize = 1 << 20;

/// Where a digest can be had.
#[derive(Clone)]
pub(crate) struct Source {
    /// The registry.
    pub(crate) upstream: Arc<Upstream>,
    /// The repository there.
    pub(crate) name: RepositoryName,
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.name == other.name && self.upstream.name() == other.upstream.name()
    }
}

/// What a fill needs of its surroundings.
#[derive(Clone)]
pub(crate) struct Drive {
    pub(crate) storage: Arc<Storage>,
    pub(crate) disk: DiskThreads,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends every fill with its part kept.
    pub(crate) stop: CancellationToken,
}

impl Drive {
    /// Drives the fill to its end. `expected` is the length that a manifest gave, in bytes. Run on a task of its own.
    pub(crate) async fn run(self, leader: Leader<Source>, expected: Option<u64>) {
        let started = Instant::now();
        let first = leader.sources().first().map(|source| source.upstream.name().clone());
        if let Some(upstream) = &first {
            self.metrics.fill_started(upstream);
        }
        // A length of zero would be believed unasked.
        let total = expected.filter(|length| *length > 0);
        let mut download = Download { drive: &self, leader: &leader, part: None, total, resumed: 0 };
        let result = download.run().await;
        let resumed = download.resumed;
        match download.end(result).await {
            Ok(size) => {
                tracing::info!(digest = %leader.digest(), bytes = size, resumed,
                    duration_ms = started.elapsed().as_millis() as u64, "blob filled");
                leader.complete(size);
            }
            Err(failure) => {
                if let Some(upstream) = &first {
                    self.metrics.fill_failed(upstream);
                }
                tracing::warn!(digest = %leader.digest(), resumed, duration_ms = started.elapsed().as_millis() as u64,
                    failure = %failure, "fill failed");
                leader.fail(failure);
            }
        }
    }
}

/// One fill under way.
struct Download<'a> {
    drive: &'a Drive,
    leader: &'a Leader<Source>,
    /// `None` before it is opened, and while the disk thread has it.
    part: Option<Part>,
    total: Option<u64>,
    /// How often the source was taken up again.
    resumed: u32,
}

impl Download<'_> {
    async fn run(&mut self) -> Result<(), FillFailure> {
        self.open().await?;
        if self.offset() > 0 {
            self.take_up().await?;
        }
        let mut attempts = 0;
        let mut seen = self.offset();
        let mut deadline = Instant::now() + NO_PROGRESS;
        while self.total.is_none_or(|total| self.offset() < total) {
            let sources = self.leader.sources();
            let source = sources.get(attempts % sources.len().max(1)).ok_or(FillFailure::Abandoned)?;
            let failure = match self.attempt(source).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            if let FillFailure::Upstream(error) = &failure
                && refuses(error)
            {
                self.leader.refused(source, Arc::clone(error));
            }
            if self.offset() > seen {
                (seen, deadline, attempts) = (self.offset(), Instant::now() + NO_PROGRESS, 0);
            }
            attempts += 1;
            // A source that refused is not among these any more.
            let others = self.leader.sources().len();
            let again = match &failure {
                FillFailure::Upstream(error) if refuses(error) => others > 0 && attempts <= sources.len(),
                FillFailure::Upstream(error) if error.is_outage() && seen > 0 => Instant::now() < deadline,
                // Whoever waited so long for nothing is told; only another place may be quicker.
                FillFailure::Upstream(error) if has_waited(error) => attempts < others,
                // The content network's refusals, a length that is not true: the next answer may be another.
                FillFailure::Upstream(_) => attempts < FIRST_ATTEMPTS.max(others) + usize::from(seen > 0),
                FillFailure::Corrupt
                | FillFailure::NoRoom
                | FillFailure::Storage(_)
                | FillFailure::Abandoned
                | FillFailure::Stopping => false,
            };
            if !again {
                return Err(failure);
            }
            self.resumed += 1;
            self.drive.metrics.fill_resumed(source.upstream.name());
            tracing::info!(digest = %self.leader.digest(), bytes = seen, upstream = %source.upstream.name(),
                failure = %failure, "taking the download up again");
            let pause = Duration::from_millis(100 << attempts.min(5));
            tokio::select! {
                () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.prove().await
    }

    /// Opens the part, with what an earlier download left of it.
    async fn open(&mut self) -> Result<(), FillFailure> {
        let (storage, digest, total) = (Arc::clone(&self.drive.storage), self.leader.digest(), self.total);
        let opened = self.drive.disk.run(move || {
            if !storage.room_for(total.unwrap_or(0)) {
                return Err(FillFailure::NoRoom);
            }
            storage.parts.open(digest, total).map_err(FillFailure::from)
        });
        let part = opened.await.map_err(|_| FillFailure::Abandoned)??;
        self.total = self.total.or(part.total());
        self.part = Some(part);
        Ok(())
    }

    /// Shows readers what an earlier download left, once a source vouches for whoever began this one: the earlier one may
    /// have been for another repository (S5).
    async fn take_up(&mut self) -> Result<(), FillFailure> {
        if self.leader.sure_sources().is_empty() {
            let Some(source) = self.leader.sources().into_iter().next() else { return Err(FillFailure::Abandoned) };
            let digest = self.leader.digest();
            let asked = tokio::select! {
                biased;
                () = self.drive.stop.cancelled() => return Err(FillFailure::Stopping),
                asked = source.upstream.head_blob(&source.name, &digest) => asked,
            };
            match asked {
                Ok(_) => self.leader.has(&source),
                Err(error) => {
                    let error = Arc::new(error);
                    if refuses(&error) {
                        self.leader.refused(&source, Arc::clone(&error));
                    }
                    return Err(FillFailure::Upstream(error));
                }
            }
        }
        self.begin()
    }

    /// One request, from where the part ends to the end of the content.
    async fn attempt(&mut self, source: &Source) -> Result<(), FillFailure> {
        let from = self.offset();
        let (stop, digest) = (self.drive.stop.clone(), self.leader.digest());
        // A stop is heard only where nothing is lost by it: never while the disk thread has the part.
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(FillFailure::Stopping),
            answer = source.upstream.blob(&source.name, &digest, from, None) => answer,
        };
        let answer = match answer {
            // Nothing comes after what is here. Then it is the whole, or good for nothing.
            Err(UpstreamError::RangeNotSatisfiable) if from > 0 => return Ok(()),
            answer => answer?,
        };
        self.leader.has(source);
        self.learn_total(&answer).await?;
        self.begin()?;
        // A source that ignores Range begins at 0: what is here already is skipped, not written twice.
        let mut skip =
            from.checked_sub(answer.offset).ok_or_else(|| untrue("the answer begins past what was asked"))?;
        let mut body = answer.body;
        loop {
            let mut batch = Vec::new();
            let mut size = 0;
            let mut end = None;
            // Wait for the first piece; take along what else is there already.
            let mut next = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(FillFailure::Stopping),
                piece = body.chunk() => Some(piece),
            };
            while let Some(piece) = next {
                match piece {
                    Some(Ok(bytes)) => {
                        let bytes = skipped(bytes, &mut skip);
                        size += bytes.len();
                        batch.push(bytes);
                        next = if size < WRITE { body.chunk().now_or_never() } else { None };
                    }
                    Some(Err(error)) => {
                        end = Some(Err(UpstreamError::from(error)));
                        next = None;
                    }
                    None => {
                        end = Some(Ok(()));
                        next = None;
                    }
                }
            }
            if size > 0 {
                self.append(batch, size as u64).await?;
            }
            match end {
                None => {}
                Some(Ok(())) => return self.whole(),
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Takes the length from the first answer that says one; a second that says another is not about the same bytes.
    async fn learn_total(&mut self, answer: &BlobAnswer) -> Result<(), FillFailure> {
        match (self.total, answer.total) {
            (Some(known), Some(said)) if known != said && (self.offset() > 0 || self.leader.is_begun()) => {
                return Err(untrue(&format!("the blob is {said} bytes long there and {known} elsewhere")));
            }
            (Some(known), Some(said)) if known == said => {}
            // While nobody has been told a length, the source knows better than a manifest, which nobody may have checked.
            (Some(_) | None, Some(said)) => {
                // What is reserved is gone from the room: it is asked about before, and only once.
                self.room(said.saturating_sub(self.offset())).await?;
                self.total = Some(said);
                self.with_part(move |part| part.set_total(said)).await?;
            }
            (Some(_) | None, None) => {}
        }
        Ok(())
    }

    async fn room(&self, bytes: u64) -> Result<(), FillFailure> {
        let storage = Arc::clone(&self.drive.storage);
        let room = self.drive.disk.run(move || storage.room_for(bytes)).await;
        if room.map_err(|_| FillFailure::Abandoned)? { Ok(()) } else { Err(FillFailure::NoRoom) }
    }

    fn begin(&self) -> Result<(), FillFailure> {
        let file = self.part.as_ref().ok_or(FillFailure::Abandoned)?.reader()?;
        self.leader.begin(file, self.total);
        if let Some(total) = self.total {
            self.leader.set_total(total);
        }
        self.advertise();
        Ok(())
    }

    async fn append(&mut self, batch: Vec<Bytes>, size: u64) -> Result<(), FillFailure> {
        if self.total.is_some_and(|total| self.offset() + size > total) {
            return Err(FillFailure::Corrupt);
        }
        if self.total.is_none() {
            // Nothing was reserved, and it may never end.
            self.room(self.offset() + size).await?;
        }
        self.with_part(move |part| {
            part.append(batch)?;
            part.flush()
        })
        .await?;
        self.advertise();
        Ok(())
    }

    /// F1 and F2: what is in the file, but never its last byte before the digest is proven.
    fn advertise(&self) {
        let here = self.offset();
        let provable = self.total.map_or(here, |total| total.saturating_sub(1));
        self.leader.advance(here.min(provable));
    }

    /// The source said that this was all.
    fn whole(&self) -> Result<(), FillFailure> {
        match self.total {
            Some(total) if self.offset() < total => Err(untrue("the blob ended early")),
            Some(_) | None => Ok(()),
        }
    }

    async fn prove(&mut self) -> Result<(), FillFailure> {
        if !self.with_part(Part::verify).await? {
            return Err(FillFailure::Corrupt);
        }
        let size = self.offset();
        self.total = Some(size);
        self.begin()?;
        self.leader.advance(size);
        Ok(())
    }

    /// Commits, or keeps for a resume, or throws away.
    async fn end(mut self, result: Result<(), FillFailure>) -> Result<u64, FillFailure> {
        let Some(part) = self.part.take() else {
            return Err(result.err().unwrap_or(FillFailure::Abandoned));
        };
        let (storage, sources) = (Arc::clone(&self.drive.storage), self.leader.sure_sources());
        let digest = self.leader.digest();
        let ended = self.drive.disk.run(move || match result {
            Ok(()) => {
                let size = part.commit()?.size;
                link(&storage, &sources, digest, size)?;
                Ok(size)
            }
            Err(failure) => {
                let tidied = match &failure {
                    // Whoever asks for what is nowhere leaves nothing on disk.
                    FillFailure::Upstream(_) | FillFailure::Stopping if part.offset() == 0 => part.discard(),
                    FillFailure::Upstream(_) | FillFailure::Stopping => part.park(),
                    FillFailure::Corrupt | FillFailure::NoRoom | FillFailure::Storage(_) | FillFailure::Abandoned => {
                        part.discard()
                    }
                };
                if let Err(error) = tidied {
                    tracing::warn!(digest = %digest, "what is left of a failed download stays as it is: {error}");
                }
                Err(failure)
            }
        });
        ended.await.map_err(|_| FillFailure::Abandoned)?
    }

    fn offset(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::offset)
    }

    /// Runs `work` on a disk thread, which has the part meanwhile.
    async fn with_part<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Part) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, FillFailure> {
        let mut part = self.part.take().ok_or(FillFailure::Abandoned)?;
        let done = self.drive.disk.run(move || {
            let result = work(&mut part);
            (part, result)
        });
        let (part, result) = done.await.map_err(|_| FillFailure::Abandoned)?;
        self.part = Some(part);
        Ok(result?)
    }
}

/// Every repository that the content was asked for in, and had it, holds it from now on.
fn link(storage: &Storage, sources: &[Source], digest: Digest, size: u64) -> Result<(), StorageError> {
    for source in sources {
        let namespace = Namespace::Upstream(source.upstream.name().clone());
        let repo = Repository { namespace, name: source.name.clone() };
        if storage.catalog.link(&repo, &digest)?.is_none() {
            storage.catalog.put_links(&repo, &[records::link(digest, "", size, Origin::Fetched)])?;
        }
    }
    Ok(())
}

fn skipped(mut bytes: Bytes, skip: &mut u64) -> Bytes {
    let cut = (*skip).min(bytes.len() as u64);
    *skip -= cut;
    bytes.split_off(cut as usize)
}

/// A timeout, or a rate limit that the request has waited for as long as it may.
fn has_waited(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Unreachable(FetchError::Timeout { .. })
            | UpstreamError::RateLimited { retry_after: Some(_), .. }
    )
}

fn untrue(message: &str) -> FillFailure {
    FillFailure::Upstream(Arc::new(UpstreamError::Untrue { message: message.into() }))
}

impl From<UpstreamError> for FillFailure {
    fn from(error: UpstreamError) -> Self {
        FillFailure::Upstream(Arc::new(error))
    }
}

impl From<StorageError> for FillFailure {
    fn from(error: StorageError) -> Self {
        if no_room(&error) { FillFailure::NoRoom } else { FillFailure::Storage(Arc::new(error)) }
    }
}

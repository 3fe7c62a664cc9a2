//! The leader's work: fetch, hash, write, advertise, prove and commit, and ask again after a
//! failure.
//!
//! [`Drive::run`] is the life of one fill, on a task of its own. It always settles the leader (F7).
//! What it asks next is decided by `queue` (which source) and `retry` (whether).

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::records,
    download::{Download, Drive},
    failure::FillFailure,
    leader::Leader,
    origin::Origin,
    pace::Pace,
    retry::{FailedAttempt, Next, Retry},
    sources::refuses,
};
use crate::{
    oci::Digest,
    storage::{LinkRecord, LinkRight, Part, Storage, StorageError},
};

impl Drive {
    /// Drives the fill to its end. `expected` is the length that a manifest names, in bytes. To be
    /// run on a task of its own.
    pub(crate) async fn run(self, leader: Leader<Origin>, expected: Option<u64>) {
        let started = Instant::now();
        let first = leader.sources().first().map(|source| source.upstream().clone());
        if let Some(upstream) = &first {
            self.metrics.fill_started(upstream);
        }
        let mut download = Download::new(&self, &leader, expected);
        let result = self.attempts(&mut download).await;
        let (resumed, outgrew) = (download.resumed, download.outgrew_its_name());
        if let (Err(_), Some(source)) = (&result, download.asked()) {
            leader.set_failed_at(source.clone());
        }
        match self.end(download, result).await {
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
                // The next fill goes by no manifest's length. A request that has no head yet begins
                // it.
                leader.fail(if outgrew { FillFailure::Abandoned } else { failure });
            }
        }
    }

    /// Asks one source after the other until the digest is proven.
    async fn attempts(&self, download: &mut Download<'_>) -> Result<(), FillFailure> {
        if download.begin().await? {
            return Ok(());
        }
        let leader = download.leader;
        let mut retry = Retry::new(download.offset());
        let mut pace = Pace::new(download.offset());
        loop {
            let sources = download.sources();
            let source = sources.first().ok_or(FillFailure::Abandoned)?;
            let (before, stands_in) = (download.offset(), download.is_substitute(source));
            let failure = match download.attempt(source).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let passed_over = download.queue.failed(source, download.offset().saturating_sub(before));
            if stands_in {
                download.queue.substitute_failed(source, &failure);
            }
            if let FillFailure::Upstream(error) = &failure
                && refuses(error)
            {
                leader.refused(source, Arc::clone(error));
            }
            let next = retry.next(&FailedAttempt {
                failure: &failure,
                here: download.offset(),
                spared: stands_in || passed_over,
                sources: sources.len(),
                left: download.sources().len(),
                untold: download.is_untold(),
            });
            let pause = match next {
                Next::Again(pause) if !pace.is_too_slow(retry.seen()) => pause,
                Next::Again(_) | Next::GiveUp => return Err(failure),
            };
            download.resumed += 1;
            self.metrics.fill_resumed(source.upstream());
            tracing::info!(digest = %leader.digest(), bytes = retry.seen(), upstream = %source.upstream(),
                failure = %failure, "taking the download up again");
            tokio::select! {
                () = self.stop.cancelled() => return Err(FillFailure::Stopping),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Commits the bytes, keeps them for a resume, or removes them.
    async fn end(&self, download: Download<'_>, result: Result<(), FillFailure>) -> Result<u64, FillFailure> {
        let (digest, sources) = (download.leader.digest(), download.leader.sure_sources());
        let (disputed, outgrew) = (download.is_disputed(), download.outgrew_its_name());
        let asked = download.sources();
        let Some(part) = download.into_part() else {
            return Err(result.err().unwrap_or(FillFailure::Abandoned));
        };
        let storage = Arc::clone(&self.storage);
        let ended = self.disk.run(move || match result {
            Ok(()) => {
                let size = part.commit()?.size;
                link(&storage, &sources, digest, size)?;
                Ok(size)
            }
            Err(failure) => {
                if outgrew && let Err(error) = unname_size(&storage, &asked, &digest) {
                    tracing::warn!(digest = %digest, "a length that is too short stays named: {error}");
                }
                if let Err(error) = put_down(part, &failure, disputed) {
                    tracing::warn!(digest = %digest, "cannot put away the bytes of a failed download: {error}");
                }
                Err(failure)
            }
        });
        ended.await.map_err(|_| FillFailure::Abandoned)?
    }
}

/// Keeps the bytes for the next claim if they can serve it. Bytes whose length is disputed cannot:
/// an honest source would be refused because of them.
fn put_down(part: Part, failure: &FillFailure, disputed: bool) -> Result<(), StorageError> {
    match failure {
        // A request for content that is nowhere leaves nothing on disk.
        FillFailure::Upstream(_) | FillFailure::Stopping if part.offset() == 0 || disputed => part.discard(),
        FillFailure::Upstream(_) | FillFailure::Stopping => part.park(),
        FillFailure::Corrupt
        | FillFailure::NoRoom
        | FillFailure::Storage(_)
        | FillFailure::Abandoned
        | FillFailure::Elsewhere => part.discard(),
    }
}

/// Forgets the length that a manifest names: the next fill tells none before the digest is proven.
fn unname_size(storage: &Storage, sources: &[Origin], digest: &Digest) -> Result<(), StorageError> {
    for source in sources {
        let repo = source.repository();
        if let Some(link) = storage.catalog.link(&repo, digest)?.filter(|link| !link.is_held()) {
            storage.catalog.put_links(&repo, &[LinkRecord { size: 0, ..link }])?;
        }
    }
    Ok(())
}

/// Each repository that was asked for the content, and had it, holds it from now on: a link that
/// only named it becomes one that holds it (S23).
fn link(storage: &Storage, sources: &[Origin], digest: Digest, size: u64) -> Result<(), StorageError> {
    for source in sources {
        let repo = source.repository();
        let present = storage.catalog.link(&repo, &digest)?;
        if present.as_ref().is_none_or(|link| !link.is_held()) {
            storage.catalog.put_links(&repo, &[records::link(digest, "", size, LinkRight::Fetched)])?;
        }
    }
    Ok(())
}

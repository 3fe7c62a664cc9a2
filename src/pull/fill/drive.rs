//! The leader's work: fetch, hash, write, advertise, prove and commit, and ask again after a
//! failure.
//!
//! [`Drive::run`] is the life of one fill, on a task of its own. It always settles the leader (F7).
//! What it asks next is decided by `queue` (which source) and `retry` (whether).

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::records,
    failure::FillFailure,
    leader::Leader,
    origin::Origin,
    pace::Pace,
    retry::{FailedAttempt, Next, Retry},
    sources::refuses,
    transfer::{Drive, Transfer},
};
use crate::{
    oci::Digest,
    storage::{self, Change, IfLinked, LinkRight, StorageError},
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
        let mut download = Transfer::new(&self, &leader, expected);
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
    async fn attempts(&self, download: &mut Transfer<'_>) -> Result<(), FillFailure> {
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
    async fn end(&self, download: Transfer<'_>, result: Result<(), FillFailure>) -> Result<u64, FillFailure> {
        let (leader, digest) = (download.leader, download.leader.digest());
        let (disputed, outgrew) = (download.is_disputed(), download.outgrew_its_name());
        let asked = download.sources();
        let Some(part) = download.into_part() else {
            return Err(result.err().unwrap_or(FillFailure::Abandoned));
        };
        match result {
            Ok(()) => {
                let size = part.commit().await?.size;
                self.link(leader, digest, size).await?;
                Ok(size)
            }
            Err(failure) => {
                let asked = asked.iter().map(Origin::repository).collect();
                if outgrew && let Err(error) = self.storage.forget_named_length(asked, &digest).await {
                    tracing::warn!(digest = %digest, "a length that is too short stays named: {error}");
                }
                if let Err(error) = put_down(part, &failure, disputed).await {
                    tracing::warn!(digest = %digest, "cannot put away the bytes of a failed download: {error}");
                }
                Err(failure)
            }
        }
    }

    /// Every repository that the content was asked for in, and had it, holds it from now on: a name
    /// becomes a possession (S23). A source may turn out to have it while this writes: its clients
    /// are told so already, and so it holds the content, too.
    async fn link(&self, leader: &Leader<Origin>, digest: Digest, size: u64) -> Result<(), FillFailure> {
        let mut linked: Vec<Origin> = Vec::new();
        loop {
            let sure = leader.sure_sources();
            let Some(source) = sure.into_iter().find(|source| !linked.contains(source)) else { return Ok(()) };
            let link = records::link(digest, "", size, LinkRight::Fetched);
            self.storage.commit(Change::link(&source.repository(), link, IfLinked::KeepIfHeld)).await?;
            linked.push(source);
        }
    }
}

/// Keeps the bytes for the next claim if they can serve it. Bytes whose length is disputed cannot:
/// an honest source would be refused because of them.
async fn put_down(part: storage::Download, failure: &FillFailure, disputed: bool) -> Result<(), StorageError> {
    match failure {
        // A request for content that is nowhere leaves nothing on disk.
        FillFailure::Upstream(_) | FillFailure::Stopping if part.offset() == 0 || disputed => part.discard().await,
        FillFailure::Upstream(_) | FillFailure::Stopping => part.park().await,
        FillFailure::Corrupt
        | FillFailure::NoRoom
        | FillFailure::Storage(_)
        | FillFailure::Abandoned
        | FillFailure::Elsewhere => part.discard().await,
    }
}

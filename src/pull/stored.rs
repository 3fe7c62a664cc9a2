//! Blobs that must be in the store before an answer is given: a pushed manifest names them, or an
//! operator wants them here.
//!
//! `push` calls this for a part that the mirrored repository of the same name may have, `elsewhere`
//! for content that has rotted, `configs` for configs, and `prefetch` for all of an image.

use std::{sync::Arc, time::Duration};

use super::{
    PullError, PullThrough,
    blobs::Filling,
    fill::{FillFailure, SourceState},
    memory::Missed,
};
use crate::oci::{Digest, ErrorCode, Outcome, Repository};

/// How often a caller that watches is told how far a download is.
const EVERY: Duration = Duration::from_millis(250);

/// How far a download is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Underway {
    /// Whether this caller began it, or joined it.
    pub(super) outcome: Outcome,
    /// How many bytes can be read.
    pub(super) bytes: u64,
    /// How many there will be, if that is known.
    pub(super) of: Option<u64>,
}

impl PullThrough {
    /// Makes sure that a blob of `repo` is in the store, and says how many bytes it has. The fill
    /// goes on when the caller leaves.
    pub async fn stored_blob(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<u64, PullError> {
        Ok(self.stored_blob_watched(repo, digest, |_| {}).await?.0)
    }

    /// The same. Meanwhile `watch` is told how far the download is, at once and a few times a
    /// second. The outcome is `hit` if nothing had to be downloaded.
    pub(super) async fn stored_blob_watched(
        self: &Arc<Self>,
        repo: &Repository,
        digest: &Digest,
        mut watch: impl FnMut(Underway),
    ) -> Result<(u64, Outcome), PullError> {
        let mut outcome = Outcome::Hit;
        // As with a blob that is served: the fill that was joined may have ended, or been
        // abandoned.
        for _ in 0..3 {
            let found = self.storage.locate(repo, digest).await?;
            if let Some(stored) = &found.stored {
                self.permission(repo, digest, &found, stored).await?;
                return Ok((stored.size, outcome));
            }
            let source = self.source(repo, ErrorCode::BlobUnknown)?;
            let filling = self.fill(repo, digest, &source, found.link).await?;
            let Filling::Under { mut follower, outcome: how, .. } = filling else { continue };
            outcome = how;
            let committed = loop {
                let (bytes, of) = follower.far();
                watch(Underway { outcome, bytes, of });
                if let Ok(committed) = tokio::time::timeout(EVERY, follower.committed()).await {
                    break committed;
                }
            };
            match (committed, follower.source_state()) {
                // Committed: the next look says whether this repository may have it.
                (Ok(_), _) => {}
                (Err(_), Some(SourceState::Refused(error))) => {
                    let error = PullError::Fill(FillFailure::Upstream(error));
                    self.negative.remember(repo, Missed::Blob(*digest), &error);
                    return Err(error);
                }
                (Err(failure), _) => match follower.told(failure) {
                    FillFailure::Abandoned | FillFailure::Elsewhere => {}
                    failure => return Err(PullError::Fill(failure)),
                },
            }
        }
        Err(PullError::Fill(FillFailure::Abandoned))
    }
}

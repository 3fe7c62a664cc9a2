//! Blobs that must be in the store before an answer is given: a pushed manifest names them.
//!
//! `push` calls this for a part that the mirrored repository of the same name may have, `elsewhere`
//! for content that has rotted, and `configs` for configs.

use std::sync::Arc;

use super::{
    PullError, PullThrough,
    blobs::Filling,
    fill::{FillFailure, SourceState},
    memory::Missed,
};
use crate::oci::{Digest, ErrorCode, Repository};

impl PullThrough {
    /// Makes sure that a blob of `repo` is in the store, and says how many bytes it has. The fill
    /// goes on when the caller leaves.
    pub async fn stored_blob(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<u64, PullError> {
        // As with a blob that is served: the fill that was joined may have ended, or been
        // abandoned.
        for _ in 0..3 {
            let found = self.storage.locate(repo, digest).await?;
            if let Some(stored) = &found.stored {
                self.permission(repo, digest, &found, stored).await?;
                return Ok(stored.size);
            }
            let source = self.source(repo, ErrorCode::BlobUnknown)?;
            let filling = self.fill(repo, digest, &source, found.link).await?;
            let Filling::Under { mut follower, .. } = filling else { continue };
            match (follower.committed().await, follower.source_state()) {
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

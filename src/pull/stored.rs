//! Blobs that shall be here, whole, before something else is said: a manifest that names them was pushed.

use std::sync::Arc;

use super::{PullError, PullThrough, blobs::Filling, fill::FillFailure};
use crate::oci::{Digest, ErrorCode, Repository};

impl PullThrough {
    /// Makes sure that a blob of `repo` is in the store, and says how many bytes it has. Goes on, as every fill does, when the
    /// caller leaves.
    pub async fn stored_blob(self: &Arc<Self>, repo: &Repository, digest: &Digest) -> Result<u64, PullError> {
        // As with a blob that is served: what was joined may be over, or abandoned.
        for _ in 0..3 {
            let found = self.find_blob(repo, digest).await?;
            if let Some(stored) = &found.stored {
                self.permission(repo, digest, &found, stored).await?;
                return Ok(stored.size);
            }
            let source = self.source(repo, ErrorCode::BlobUnknown)?;
            let Filling::Under(mut follower, _) = self.fill(repo, digest, &source, found.link).await? else { continue };
            match follower.committed().await {
                Ok(size) => return Ok(size),
                Err(FillFailure::Abandoned) => {}
                Err(failure) => {
                    self.remember_missing(repo, digest, &failure);
                    return Err(PullError::Fill(failure));
                }
            }
        }
        Err(PullError::Fill(FillFailure::Abandoned))
    }
}

//! Uploads within one request: `POST ?digest=` with the whole blob as its body.
//!
//! The client never learns the name of such an upload, so no other request can go on with it. When
//! the request is over, an upload that has not become a blob is cancelled. Called by http.

use std::sync::Arc;

use super::{Push, PushError};
use crate::{
    oci::{Algorithm, Repository},
    storage::UploadId,
};

/// An upload of one request. Dropped before [`ended`](Self::ended), it is cancelled on a task that
/// outlives the request.
pub struct SingleUpload {
    push: Arc<Push>,
    repo: Repository,
    id: UploadId,
    ended: bool,
}

impl Push {
    /// Begins an upload to `repo` for this request alone, with a digest of this algorithm. It does
    /// not count as open (`sessions.rs`).
    pub async fn begin_single(
        self: &Arc<Self>,
        repo: &Repository,
        algorithm: Algorithm,
    ) -> Result<SingleUpload, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        // If the client has left meanwhile, the result is dropped and the upload cancelled.
        self.run_detached(async move {
            let id = this.storage.begin_upload(&repo, Some(algorithm)).await?;
            Ok(SingleUpload { push: this, repo, id, ended: false })
        })
        .await
    }
}

impl SingleUpload {
    /// The name that [`Push::open`] takes.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// The upload has become a blob: there is nothing to cancel.
    pub fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for SingleUpload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (push, repo, id) = (Arc::clone(&self.push), self.repo.clone(), self.id);
        self.push.tasks.spawn(async move {
            match push.cancel(&repo, id).await {
                // Already gone: its digest was wrong, or it became a blob after its client had
                // left.
                Ok(()) | Err(PushError::UploadUnknown) => {}
                Err(error) => tracing::warn!(repo = %repo, %error, "the rest of a broken upload stays for a day"),
            }
        });
    }
}

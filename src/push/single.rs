//! Uploads that one request does from begin to end. No other could go on with one, so what is left of it when the request is
//! over is no use to anybody.

use std::sync::Arc;

use super::{Push, PushError};
use crate::{
    oci::{Algorithm, Repository},
    storage::UploadId,
};

/// An upload that goes with the request that began it: dropped, it is cancelled, on a task that nobody's leaving ends.
pub struct Single {
    push: Arc<Push>,
    repo: Repository,
    id: UploadId,
    ended: bool,
}

impl Push {
    /// Begins an upload to `repo` that goes with the answer, with a digest of this algorithm. It
    /// takes no place among the open ones (`sessions.rs`).
    pub async fn begin_single(self: &Arc<Self>, repo: &Repository, algorithm: Algorithm) -> Result<Single, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        // Where the client has left meanwhile the answer is dropped, and the upload cancelled.
        self.run_detached(async move {
            let id = this.storage.begin_upload(&repo, Some(algorithm)).await?;
            Ok(Single { push: this, repo, id, ended: false })
        })
        .await
    }
}

impl Single {
    /// Its name, to open it by.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// It has become a blob: there is nothing to cancel.
    pub fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (push, repo, id) = (Arc::clone(&self.push), self.repo.clone(), self.id);
        self.push.tasks.spawn(async move {
            match push.cancel(&repo, id).await {
                // It is gone already where its digest was wrong, or where it became a blob after its client had left.
                Ok(()) | Err(PushError::UploadUnknown) => {}
                Err(error) => tracing::warn!(repo = %repo, %error, "what is left of a broken upload stays for a day"),
            }
        });
    }
}

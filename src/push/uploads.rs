//! The life of an upload: begun, opened by one request after the other, finished or cancelled.
//!
//! At most one request writes to an upload; another one waits for it a while and is then
//! [`PushError::Busy`]. The bytes go through [`UploadWriter`]; `sessions.rs` counts the open
//! uploads. Called by http.

use std::{sync::Arc, time::Duration};

use super::{Push, PushError, UploadWriter, sessions::UploadPermit};
use crate::{
    oci::{Algorithm, Repository},
    storage::{Upload, UploadId},
};

/// A request waits this long for another one that is writing to its upload. A client that lost its
/// connection comes back before lanyard has noticed the end of the old one.
const PATIENCE: Duration = Duration::from_secs(10);

/// A new upload tries to discard this many idle ones that turn out to be in use.
const TRIES: usize = 16;

impl Push {
    /// Begins an upload to `repo`. `owner` names the client, the same in all its requests.
    /// `algorithm` is that of the future digest, if the client names one.
    pub async fn begin(
        self: &Arc<Self>,
        repo: &Repository,
        owner: &str,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadId, PushError> {
        let permit = self.permit(owner).await?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        // Detached, so that every upload on disk is counted.
        self.run_detached(async move {
            let id = this.storage.begin_upload(&repo, algorithm).await?;
            permit.opened(id);
            Ok(id)
        })
        .await
    }

    /// A permit for one more upload of `owner`. At a limit an idle upload is discarded.
    async fn permit(&self, owner: &str) -> Result<UploadPermit, PushError> {
        if self.sessions.lacks_leftovers() {
            self.sessions.add_leftovers(self.storage.uploads().await?);
        }
        let mut tries = 0;
        loop {
            let full = match self.sessions.permit(owner) {
                Ok(permit) => return Ok(permit),
                Err(full) => full,
            };
            let (Some(id), true) = (full.idle, tries < TRIES) else { return Err(full.error) };
            tries += 1;
            match self.storage.discard_upload(&id).await.map_err(PushError::from) {
                // An upload that is not there any more was swept.
                Ok(was_there) => {
                    self.sessions.removed(&id);
                    if was_there {
                        tracing::info!(upload = %id, "an idle upload was discarded for a new one");
                    }
                }
                // A request has opened it meanwhile, and is about to note that.
                Err(PushError::Busy) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens an upload for writing. `at` is the offset at which the client goes on. If the upload
    /// ends elsewhere, the error is [`PushError::OutOfOrder`] and nothing changes.
    pub async fn open(
        self: &Arc<Self>,
        repo: &Repository,
        id: UploadId,
        at: Option<u64>,
    ) -> Result<UploadWriter, PushError> {
        let mut using = Use::new(self, id);
        let upload = self.take(repo, id).await?;
        let offset = upload.offset();
        if at.is_some_and(|at| at != offset) {
            drop(upload);
            self.sessions.released.notify_waiters();
            return Err(PushError::OutOfOrder { offset });
        }
        // From here on the task notes the end of the use.
        using.id = None;
        Ok(UploadWriter::start(self, repo.clone(), id, upload))
    }

    async fn take(&self, repo: &Repository, id: UploadId) -> Result<Upload, PushError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut released = std::pin::pin!(self.sessions.released.notified());
            // From here on no notice is missed, also before it is awaited.
            released.as_mut().enable();
            match self.storage.open_upload(repo, &id).await.map_err(PushError::from) {
                Err(PushError::Busy) => {
                    tokio::time::timeout_at(deadline, released).await.map_err(|_| PushError::Busy)?;
                }
                opened => return opened?.ok_or(PushError::UploadUnknown),
            }
        }
    }

    /// How many bytes of the upload are on disk.
    pub async fn status(&self, repo: &Repository, id: UploadId) -> Result<u64, PushError> {
        self.storage.upload_offset(repo, &id).await?.ok_or(PushError::UploadUnknown)
    }

    /// Cancels the upload and removes its bytes.
    pub async fn cancel(self: &Arc<Self>, repo: &Repository, id: UploadId) -> Result<(), PushError> {
        // No request may be writing to it.
        let upload = self.take(repo, id).await?;
        let (this, at) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            drop(upload);
            let there = this.storage.cancel_upload(&at, &id).await;
            this.sessions.released.notify_waiters();
            match there? {
                true => {
                    this.sessions.removed(&id);
                    Ok(())
                }
                false => Err(PushError::UploadUnknown),
            }
        })
        .await
    }
}

/// A request that uses an upload, or waits for it. Counted in
/// [`Sessions`](super::sessions::Sessions).
struct Use<'a> {
    push: &'a Push,
    /// `None`: the task counts it now.
    id: Option<UploadId>,
}

impl<'a> Use<'a> {
    fn new(push: &'a Push, id: UploadId) -> Self {
        push.sessions.begin_use(&id);
        Use { push, id: Some(id) }
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.push.sessions.end_use(&id);
        }
    }
}

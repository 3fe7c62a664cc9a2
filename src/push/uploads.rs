//! Uploads from begin to end; the bytes themselves are `writing.rs`.

use std::{sync::Arc, time::Duration};

use super::{Push, PushError, Writing, sessions::Slot};
use crate::{
    oci::{Algorithm, Repository},
    storage::{Upload, UploadId},
};

/// How long a request waits for another one that is writing to its upload: a client that lost its connection comes back
/// before the end of the old one has been noticed.
const TURN: Duration = Duration::from_secs(10);

/// How many uploads that turn out to be wanted are asked to make place for another.
const TRIES: usize = 16;

impl Push {
    /// Begins an upload to `repo` for the client `owner`, a word that is the same for all its
    /// requests. `algorithm`: that of the digest it will have, where the client says so.
    pub async fn begin(
        self: &Arc<Self>,
        repo: &Repository,
        owner: &str,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadId, PushError> {
        let slot = self.slot(owner).await?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        // To the end, so that every upload on disk is counted.
        self.run_detached(async move {
            let id = this.storage.begin_upload(&repo, algorithm).await?;
            slot.used_by(id);
            Ok(id)
        })
        .await
    }

    /// A slot for `owner`; an idle upload goes to make one where that is needed.
    async fn slot(&self, owner: &str) -> Result<Slot, PushError> {
        if self.sessions.is_unstocked() {
            self.sessions.stock(self.storage.uploads().await?);
        }
        let mut tries = 0;
        loop {
            let full = match self.sessions.slot(owner) {
                Ok(slot) => return Ok(slot),
                Err(full) => full,
            };
            let (Some(id), true) = (full.idle, tries < TRIES) else { return Err(full.error) };
            tries += 1;
            match self.storage.discard_upload(&id).await.map_err(PushError::from) {
                // One that is not there was swept.
                Ok(was_there) => {
                    self.sessions.gone(&id);
                    if was_there {
                        tracing::info!(upload = %id, "an idle upload makes place for another one");
                    }
                }
                // A request has taken it up meanwhile, and is about to say so.
                Err(PushError::Busy) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens an upload for writing. `at`: where the client believes that it goes on; anywhere else is
    /// [`PushError::OutOfOrder`], and nothing changes.
    pub async fn open(
        self: &Arc<Self>,
        repo: &Repository,
        id: UploadId,
        at: Option<u64>,
    ) -> Result<Writing, PushError> {
        let mut taken = Taken::new(self, id);
        let upload = self.take(repo, id).await?;
        let offset = upload.offset();
        if at.is_some_and(|at| at != offset) {
            drop(upload);
            self.sessions.released.notify_waiters();
            return Err(PushError::OutOfOrder { offset });
        }
        // From here on the task says when it is done.
        taken.id = None;
        Ok(Writing::start(self, repo.clone(), id, upload))
    }

    async fn take(&self, repo: &Repository, id: UploadId) -> Result<Upload, PushError> {
        let deadline = tokio::time::Instant::now() + TURN;
        loop {
            let mut released = std::pin::pin!(self.sessions.released.notified());
            // From here on nothing is missed, whatever happens before it is awaited.
            released.as_mut().enable();
            match self.storage.open_upload(repo, &id).await.map_err(PushError::from) {
                Err(PushError::Busy) => {
                    tokio::time::timeout_at(deadline, released).await.map_err(|_| PushError::Busy)?;
                }
                opened => return opened?.ok_or(PushError::UploadUnknown),
            }
        }
    }

    /// How many bytes of the upload are safe.
    pub async fn status(&self, repo: &Repository, id: UploadId) -> Result<u64, PushError> {
        self.storage.upload_offset(repo, &id).await?.ok_or(PushError::UploadUnknown)
    }

    /// Ends the upload and removes what came.
    pub async fn cancel(self: &Arc<Self>, repo: &Repository, id: UploadId) -> Result<(), PushError> {
        // Nobody must be writing to it.
        let upload = self.take(repo, id).await?;
        let (this, at) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            drop(upload);
            let there = this.storage.cancel_upload(&at, &id).await;
            this.sessions.released.notify_waiters();
            match there? {
                true => {
                    this.sessions.gone(&id);
                    Ok(())
                }
                false => Err(PushError::UploadUnknown),
            }
        })
        .await
    }
}

/// A request that has an upload, or waits for it.
struct Taken<'a> {
    push: &'a Push,
    /// None: another has it now.
    id: Option<UploadId>,
}

impl<'a> Taken<'a> {
    fn new(push: &'a Push, id: UploadId) -> Self {
        push.sessions.taken(&id);
        Taken { push, id: Some(id) }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.push.sessions.left(&id);
        }
    }
}

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

/// After how long without a request an upload makes place for another one of its client, where that has no other place.
const IDLE: Duration = Duration::from_secs(600);

impl Push {
    /// Begins an upload to `repo` for the client `owner`, a word that is the same for all its
    /// requests. `algorithm`: that of the digest it will have, where the client says so.
    pub async fn begin(
        self: &Arc<Self>,
        repo: &Repository,
        owner: &str,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadId, PushError> {
        let slot = self.slot(owner, IDLE).await?;
        let (this, repo) = (Arc::clone(self), repo.clone());
        // To the end, so that every upload on disk is counted.
        self.to_the_end(async move {
            let at = repo.clone();
            let begun = this.on_disk(move |storage| {
                if !storage.room_to_host(0) {
                    return Ok(None);
                }
                match algorithm {
                    Some(algorithm) => storage.uploads.begin_with(&at, algorithm).map(Some),
                    None => storage.uploads.begin(&at).map(Some),
                }
            });
            let id = begun.await?.ok_or(PushError::NoRoom)?;
            slot.used_by(id, repo);
            Ok(id)
        })
        .await
    }

    async fn slot(&self, owner: &str, idle: Duration) -> Result<Slot, PushError> {
        let open = self.on_disk(|storage| Ok(storage.uploads.count())).await?;
        let refused = match self.sessions.slot(owner, open) {
            Ok(slot) => return Ok(slot),
            Err(refused) => refused,
        };
        // Some may have been swept, and one may have been left.
        let mine = self.sessions.of(owner);
        let gone = self
            .on_disk(move |storage| {
                let mut gone = Vec::new();
                for (id, repo, _) in &mine {
                    if storage.uploads.offset(repo, id)?.is_none() {
                        gone.push(*id);
                    }
                }
                if gone.is_empty()
                    && let Some((id, repo, _)) = mine.first().filter(|(_, _, since)| *since >= idle)
                    && storage.uploads.cancel(repo, id)?
                {
                    tracing::info!(repo = %repo, "an upload that was left makes place for another one of its client");
                    gone.push(*id);
                }
                Ok(gone)
            })
            .await?;
        if gone.is_empty() {
            return Err(refused);
        }
        gone.iter().for_each(|id| self.sessions.gone(id));
        self.sessions.slot(owner, open)
    }

    /// Opens an upload for writing. `at`: where the client believes that it goes on; anywhere else is
    /// [`PushError::OutOfOrder`], and nothing changes.
    pub async fn open(
        self: &Arc<Self>,
        repo: &Repository,
        id: UploadId,
        at: Option<u64>,
    ) -> Result<Writing, PushError> {
        let upload = self.take(repo, id).await?;
        self.sessions.used(&id);
        let offset = upload.offset();
        if at.is_some_and(|at| at != offset) {
            drop(upload);
            self.sessions.released.notify_waiters();
            return Err(PushError::OutOfOrder { offset });
        }
        Ok(Writing::start(self, repo.clone(), id, upload))
    }

    async fn take(&self, repo: &Repository, id: UploadId) -> Result<Upload, PushError> {
        let deadline = tokio::time::Instant::now() + TURN;
        loop {
            let mut released = std::pin::pin!(self.sessions.released.notified());
            // From here on nothing is missed, whatever happens before it is awaited.
            released.as_mut().enable();
            let at = repo.clone();
            match self.on_disk(move |storage| storage.uploads.open(&at, &id)).await {
                Err(PushError::Busy) => {
                    tokio::time::timeout_at(deadline, released).await.map_err(|_| PushError::Busy)?;
                }
                opened => return opened?.ok_or(PushError::UploadUnknown),
            }
        }
    }

    /// How many bytes of the upload are safe.
    pub async fn status(&self, repo: &Repository, id: UploadId) -> Result<u64, PushError> {
        let at = repo.clone();
        let offset = self.on_disk(move |storage| storage.uploads.offset(&at, &id)).await?;
        offset.ok_or(PushError::UploadUnknown)
    }

    /// Ends the upload and removes what came.
    pub async fn cancel(self: &Arc<Self>, repo: &Repository, id: UploadId) -> Result<(), PushError> {
        // Nobody must be writing to it.
        let upload = self.take(repo, id).await?;
        let (this, at) = (Arc::clone(self), repo.clone());
        self.to_the_end(async move {
            let there = this
                .on_disk(move |storage| {
                    drop(upload);
                    storage.uploads.cancel(&at, &id)
                })
                .await;
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

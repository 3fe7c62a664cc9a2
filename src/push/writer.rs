//! Writes the body of one request into an upload.
//!
//! A task owns the upload, so that a client that leaves does not cut a write short. The request has
//! the handle, [`UploadWriter`]:
//!
//! | the handle | the task |
//! |---|---|
//! | [`UploadWriter::write`] waits while the task is behind | gathers pieces; storage writes them |
//! | [`UploadWriter::park`] | makes the bytes durable; the upload waits for its next request |
//! | [`UploadWriter::finish`] | proves the digest, commits, links, and only then answers |
//! | is dropped: the client left, or its body broke off | parks |
//!
//! An upload that meets a full disk is cancelled: its bytes would only keep other clients from
//! pushing.
//!
//! The task holds at most [`PIECES`] pieces and one write. The hash of a large upload is at most
//! three writes behind. So a fast client and a slow disk cost little memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Push, PushError};
use crate::{
    oci::{Algorithm, Digest, Repository},
    storage::{Upload, UploadId},
};

/// At most this many pieces wait for the disk.
const PIECES: usize = 8;
/// One write, in bytes: large enough to make large folios.
const WRITE: usize = 1 << 20;

/// One request to the task.
enum Message {
    Take(Bytes),
    Park(oneshot::Sender<Result<u64, PushError>>),
    Finish(Digest, oneshot::Sender<Result<u64, PushError>>),
}

/// The handle on an upload that is being written to.
pub struct UploadWriter {
    messages: mpsc::Sender<Message>,
    failed: oneshot::Receiver<PushError>,
    algorithm: Option<Algorithm>,
}

impl UploadWriter {
    pub(super) fn start(push: &Arc<Push>, repo: Repository, id: UploadId, upload: Upload) -> UploadWriter {
        let (messages, received) = mpsc::channel(PIECES);
        let (tell, failed) = oneshot::channel();
        let algorithm = upload.algorithm();
        let task = Task { push: Arc::clone(push), repo, id, upload: Some(upload), messages: received, next: None };
        push.tasks.spawn(task.run(tell));
        UploadWriter { messages, failed, algorithm }
    }

    /// Refuses a digest of another algorithm than the one named at the beginning. The upload stays
    /// as it is, and the client may finish it with another digest.
    pub fn check_algorithm(&self, digest: &Digest) -> Result<(), PushError> {
        match self.algorithm {
            Some(algorithm) if algorithm != digest.algorithm() => {
                Err(PushError::WrongAlgorithm { algorithm, digest: *digest })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the next bytes. Returns when the task has room for more, before these are written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), PushError> {
        match self.messages.send(Message::Take(bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Makes all bytes durable and leaves the upload for its next request. Returns its offset in
    /// bytes.
    pub async fn park(mut self) -> Result<u64, PushError> {
        let (tell, told) = oneshot::channel();
        self.end(Message::Park(tell), told).await
    }

    /// Makes the upload a blob of its repository and returns its size in bytes. A wrong digest ends
    /// the upload too.
    pub async fn finish(mut self, digest: Digest) -> Result<u64, PushError> {
        let (tell, told) = oneshot::channel();
        self.end(Message::Finish(digest, tell), told).await
    }

    async fn end(
        &mut self,
        message: Message,
        told: oneshot::Receiver<Result<u64, PushError>>,
    ) -> Result<u64, PushError> {
        // If the task has ended already, `told` is closed too.
        let _ = self.messages.send(message).await;
        match told.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().await),
        }
    }

    /// The error with which the task has ended.
    async fn failure(&mut self) -> PushError {
        (&mut self.failed).await.unwrap_or(PushError::Lost)
    }
}

/// The owner of the upload.
struct Task {
    push: Arc<Push>,
    repo: Repository,
    id: UploadId,
    /// `None` while storage writes to it, and at the end.
    upload: Option<Upload>,
    messages: mpsc::Receiver<Message>,
    /// The message behind the gathered pieces.
    next: Option<Message>,
}

impl Task {
    async fn run(mut self, failed: oneshot::Sender<PushError>) {
        loop {
            let message = match self.next.take() {
                Some(message) => Some(message),
                None => self.messages.recv().await,
            };
            match message {
                Some(Message::Take(first)) => {
                    let batch = self.gather(first);
                    let appended = self.append(batch).await;
                    if appended.is_err() {
                        // Earlier writes are good, and the client may go on behind them.
                        self.released(&appended).await;
                        let _ = appended.map_err(|error| failed.send(error));
                        return;
                    }
                }
                Some(Message::Park(tell)) => {
                    let parked = self.park().await;
                    // Released before the answer: the client may send its next request at once.
                    self.released(&parked).await;
                    let _ = tell.send(parked);
                    return;
                }
                Some(Message::Finish(digest, tell)) => {
                    let finished = self.finish(digest).await;
                    self.released(&finished).await;
                    let _ = tell.send(finished);
                    return;
                }
                None => {
                    let parked = self.park().await;
                    if let Err(error) = &parked {
                        tracing::warn!(repo = %self.repo, %error, "the bytes of a broken upload cannot be kept");
                    }
                    return self.released(&parked).await;
                }
            }
        }
    }

    /// The piece and those that have come behind it, up to one write.
    fn gather(&mut self, first: Bytes) -> Vec<Bytes> {
        let mut size = first.len();
        let mut batch = vec![first];
        while size < WRITE {
            match self.messages.try_recv() {
                Ok(Message::Take(bytes)) => {
                    size += bytes.len();
                    batch.push(bytes);
                }
                Ok(message) => {
                    self.next = Some(message);
                    break;
                }
                Err(_) => break,
            }
        }
        batch
    }

    async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), PushError> {
        let upload = self.upload.take().ok_or(PushError::Lost)?;
        self.upload = Some(upload.append(batch).await?);
        Ok(())
    }

    async fn park(&mut self) -> Result<u64, PushError> {
        Ok(self.upload.take().ok_or(PushError::Lost)?.park().await?)
    }

    async fn finish(&mut self, digest: Digest) -> Result<u64, PushError> {
        let upload = self.upload.take().ok_or(PushError::Lost)?;
        match upload.finish(digest).await {
            // The blob is leased: it stays until it is linked.
            Ok(stored) => {
                self.push.sessions.removed(&self.id);
                self.push.link_blob(&self.repo, digest, stored.size).await?;
                tracing::info!(repo = %self.repo, %digest, bytes = stored.size, "blob pushed");
                Ok(stored.size)
            }
            Err(error) => {
                if self.push.storage.upload_offset(&self.repo, &self.id).await?.is_none() {
                    self.push.sessions.removed(&self.id);
                }
                Err(error.into())
            }
        }
    }

    /// The upload is closed, and a request that waits for it may try again. An upload that met a
    /// full disk is cancelled: other uploads need its space.
    async fn released<T>(&self, ended: &Result<T, PushError>) {
        if let Err(PushError::NoRoom) = ended {
            // If this fails too, the collector removes the upload later.
            let _ = self.push.storage.cancel_upload(&self.repo, &self.id).await;
            self.push.sessions.removed(&self.id);
        }
        self.push.sessions.end_use(&self.id);
        self.push.sessions.released.notify_waiters();
    }
}

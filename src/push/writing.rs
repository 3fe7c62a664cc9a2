//! One request's bytes on their way into an upload.
//!
//! | the handle | the task that owns the upload |
//! |---|---|
//! | [`Writing::write`] waits while the task is behind | gathers what has come and writes it on a disk thread; the store hashes it |
//! | [`Writing::park`] | makes it durable; the upload waits for its next request |
//! | [`Writing::finish`] | proves the digest, commits, links, and only then tells |
//! | is dropped: the client left, or its body broke off | parks |
//!
//! An upload for which the disk has no room is no more: what came of it would only keep others from pushing.
//!
//! The task holds at most [`PIECES`] pieces and one write, and the hash of a large upload is three writes behind at most, so a fast
//! client and a slow disk cost little memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Push, PushError};
use crate::{
    oci::{Algorithm, Digest, Repository},
    storage::{Upload, UploadId},
};

/// How many pieces wait for the disk.
const PIECES: usize = 8;
/// One write, in bytes: large enough to make large folios.
const WRITE: usize = 1 << 20;

/// What the task is told.
enum Order {
    Take(Bytes),
    Park(oneshot::Sender<Result<u64, PushError>>),
    Finish(Digest, oneshot::Sender<Result<u64, PushError>>),
}

/// The handle on an upload that is being written to.
pub struct Writing {
    orders: mpsc::Sender<Order>,
    failed: oneshot::Receiver<PushError>,
    algorithm: Option<Algorithm>,
}

impl Writing {
    pub(super) fn start(push: &Arc<Push>, repo: Repository, id: UploadId, upload: Upload) -> Writing {
        let (orders, received) = mpsc::channel(PIECES);
        let (tell, failed) = oneshot::channel();
        let algorithm = upload.algorithm();
        let task = Task { push: Arc::clone(push), repo, id, upload: Some(upload), orders: received, next: None };
        push.tasks.spawn(task.run(tell));
        Writing { orders, failed, algorithm }
    }

    /// Whether the upload can end with this digest, as far as can be said before its last bytes are
    /// here. Where it cannot, nothing changes, and another digest can be told.
    pub fn may_have(&self, digest: &Digest) -> Result<(), PushError> {
        match self.algorithm {
            Some(algorithm) if algorithm != digest.algorithm() => {
                Err(PushError::WrongAlgorithm { algorithm, digest: *digest })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes the next bytes. Returns when there is room for more, not when these are written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), PushError> {
        match self.orders.send(Order::Take(bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Makes everything durable and leaves the upload for its next request. Its offset, in bytes.
    pub async fn park(mut self) -> Result<u64, PushError> {
        let (tell, told) = oneshot::channel();
        self.end(Order::Park(tell), told).await
    }

    /// Makes the upload a blob of its repository. Its size in bytes. A wrong digest ends the upload too.
    pub async fn finish(mut self, digest: Digest) -> Result<u64, PushError> {
        let (tell, told) = oneshot::channel();
        self.end(Order::Finish(digest, tell), told).await
    }

    async fn end(&mut self, order: Order, told: oneshot::Receiver<Result<u64, PushError>>) -> Result<u64, PushError> {
        // Where the task has ended before, `told` has, too.
        let _ = self.orders.send(order).await;
        match told.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().await),
        }
    }

    /// Why the task has ended.
    async fn failure(&mut self) -> PushError {
        (&mut self.failed).await.unwrap_or(PushError::Lost)
    }
}

/// The owner of the upload.
struct Task {
    push: Arc<Push>,
    repo: Repository,
    id: UploadId,
    /// `None` while a disk thread has it, and at the end.
    upload: Option<Upload>,
    orders: mpsc::Receiver<Order>,
    /// An order that came behind the pieces that were gathered.
    next: Option<Order>,
}

impl Task {
    async fn run(mut self, failed: oneshot::Sender<PushError>) {
        loop {
            let order = match self.next.take() {
                Some(order) => Some(order),
                None => self.orders.recv().await,
            };
            match order {
                Some(Order::Take(first)) => {
                    let batch = self.gather(first);
                    let appended = self.append(batch).await;
                    if appended.is_err() {
                        // What was written before is good, and the client may go on from there.
                        self.released(&appended).await;
                        let _ = appended.map_err(|error| failed.send(error));
                        return;
                    }
                }
                Some(Order::Park(tell)) => {
                    let parked = self.park().await;
                    // Released first: the client's next request may be on its way before this one is answered.
                    self.released(&parked).await;
                    let _ = tell.send(parked);
                    return;
                }
                Some(Order::Finish(digest, tell)) => {
                    let finished = self.finish(digest).await;
                    self.released(&finished).await;
                    let _ = tell.send(finished);
                    return;
                }
                None => {
                    let parked = self.park().await;
                    if let Err(error) = &parked {
                        tracing::warn!(repo = %self.repo, %error, "what came of a broken upload cannot be kept");
                    }
                    return self.released(&parked).await;
                }
            }
        }
    }

    /// The piece and what has come behind it.
    fn gather(&mut self, first: Bytes) -> Vec<Bytes> {
        let mut size = first.len();
        let mut batch = vec![first];
        while size < WRITE {
            match self.orders.try_recv() {
                Ok(Order::Take(bytes)) => {
                    size += bytes.len();
                    batch.push(bytes);
                }
                Ok(order) => {
                    self.next = Some(order);
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
            // It is leased: it stays until it is linked.
            Ok(stored) => {
                self.push.sessions.gone(&self.id);
                self.push.link_blob(&self.repo, digest, stored.size).await?;
                tracing::info!(repo = %self.repo, %digest, bytes = stored.size, "blob pushed");
                Ok(stored.size)
            }
            Err(error) => {
                if self.push.storage.upload_offset(&self.repo, &self.id).await?.is_none() {
                    self.push.sessions.gone(&self.id);
                }
                Err(error.into())
            }
        }
    }

    /// The upload is closed; whoever waits for it may look again. One that the disk has no room for cannot go on, and what
    /// it holds already is room that others need.
    async fn released<T>(&self, ended: &Result<T, PushError>) {
        if let Err(PushError::NoRoom) = ended {
            // Where this fails as well, the sweep takes it.
            let _ = self.push.storage.cancel_upload(&self.repo, &self.id).await;
            self.push.sessions.gone(&self.id);
        }
        self.push.sessions.left(&self.id);
        self.push.sessions.released.notify_waiters();
    }
}

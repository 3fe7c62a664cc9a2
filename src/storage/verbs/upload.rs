//! Stage: a push of a blob whose digest is known at its end.
//!
//! An upload belongs to the repository it was begun in and is unknown to every other. One request
//! writes it at a time: a second open is [`StorageError::UploadBusy`]. Dropped, it waits as it is;
//! parked, it also survives a power cut. [`Upload::finish`] proves the digest and makes it a blob.
//! Callers: push; the retention, which sweeps idle uploads.

use bytes::Bytes;

use crate::{
    oci::{Algorithm, Digest, Repository},
    runtime::BlockingPool,
    storage::{RoomNeed, Storage, StorageError, StoredBlob, UploadId, files::Files, uploads},
};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// An upload that is open for writing. See the module.
#[derive(Debug)]
pub struct Upload {
    files: Arc<Files>,
    pool: BlockingPool,
    upload: uploads::Upload,
}

impl Storage {
    /// Begins an upload, which is empty and waits. With an `algorithm` its digest must have that
    /// one, and its bytes are hashed with it from the first on.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] if the disk has no more free than `min_free`, and cached content
    /// makes no room in two seconds.
    pub async fn begin_upload(
        &self,
        repository: &Repository,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadId, StorageError> {
        let repository = repository.clone();
        room_to_push(&self.files, &self.writing, 0).await?;
        self.write_with(move |files| match algorithm {
            Some(algorithm) => files.uploads.begin_with(&repository, algorithm),
            None => files.uploads.begin(&repository),
        })
        .await
    }

    /// Opens an upload for writing; `None` if the repository has none of this name.
    ///
    /// # Errors
    /// [`StorageError::UploadBusy`] while another request has it open.
    pub async fn open_upload(&self, repository: &Repository, id: &UploadId) -> Result<Option<Upload>, StorageError> {
        let (repository, id) = (repository.clone(), *id);
        let opened = self.write_with(move |files| files.uploads.open(&repository, &id)).await?;
        Ok(opened.map(|upload| Upload { files: Arc::clone(&self.files), pool: self.writing.clone(), upload }))
    }

    /// How many bytes of an upload are safe; `None` if the repository has none of this name.
    ///
    /// # Errors
    /// The disk's.
    pub async fn upload_offset(&self, repository: &Repository, id: &UploadId) -> Result<Option<u64>, StorageError> {
        let (repository, id) = (repository.clone(), *id);
        self.read_with(move |files| files.uploads.offset(&repository, &id)).await
    }

    /// Removes an upload of the repository. Says whether it was there.
    ///
    /// # Errors
    /// [`StorageError::UploadBusy`] while a request has it open.
    pub async fn cancel_upload(&self, repository: &Repository, id: &UploadId) -> Result<bool, StorageError> {
        let (repository, id) = (repository.clone(), *id);
        self.write_with(move |files| files.uploads.cancel(&repository, &id)).await
    }

    /// Removes an idle upload of any repository. Says whether it was there.
    ///
    /// # Errors
    /// [`StorageError::UploadBusy`] while a request has it open.
    pub async fn discard_upload(&self, id: &UploadId) -> Result<bool, StorageError> {
        let id = *id;
        self.write_with(move |files| files.uploads.discard(&id)).await
    }

    /// Every upload on disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn uploads(&self) -> Result<Vec<UploadId>, StorageError> {
        self.read_with(|files| files.uploads.all()).await
    }

    /// The uploads that were not written to for this long.
    ///
    /// # Errors
    /// The disk's.
    pub async fn idle_uploads(&self, for_at_least: Duration) -> Result<Vec<UploadId>, StorageError> {
        self.read_with(move |files| files.uploads.idle(for_at_least)).await
    }

    /// Removes the uploads that were not written to for this long. Says how many.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sweep_uploads(&self, older_than: Duration) -> Result<usize, StorageError> {
        self.write_with(move |files| files.uploads.sweep(older_than)).await
    }

    /// The repositories that an upload was written to within this time.
    ///
    /// # Errors
    /// The disk's.
    pub async fn pushed_to(&self, recent: Duration) -> Result<HashSet<Repository>, StorageError> {
        self.read_with(move |files| files.uploads.under_way(recent)).await
    }

    /// How many uploads are on disk, under way or waiting. Lists their folder.
    ///
    /// # Errors
    /// The disk's.
    pub async fn upload_count(&self) -> Result<usize, StorageError> {
        self.read_with(|files| Ok(files.uploads.all()?.len())).await
    }
}

impl Upload {
    /// How many bytes it was given: where the next chunk begins.
    pub fn offset(&self) -> u64 {
        self.upload.offset()
    }

    /// The algorithm that its digest must be of, if that was said when it was begun.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.upload.algorithm()
    }

    /// Takes the next bytes and gives the upload back. If `min_free` would not be left, it waits
    /// for cached content to make room, two seconds at most.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] also if `min_free` would not be left. The upload is closed then;
    /// what was taken before is kept.
    pub async fn append(self, batch: Vec<Bytes>) -> Result<Upload, StorageError> {
        let Upload { files, pool, mut upload } = self;
        let length = batch.iter().map(Bytes::len).sum::<usize>() as u64;
        let begun = {
            let files = Arc::clone(&files);
            pool.run(move || match files.room_to_push(length) {
                Ok(()) => upload.append(batch).map(|()| (upload, None)),
                Err(StorageError::NoSpace { .. }) => Ok((upload, Some(batch))),
                Err(error) => Err(error),
            })
        };
        let (mut upload, batch) = begun.await.map_err(|_| StorageError::Lost)??;
        if let Some(batch) = batch {
            room_to_push(&files, &pool, length).await?;
            let appended = pool.run(move || upload.append(batch).map(|()| upload));
            upload = appended.await.map_err(|_| StorageError::Lost)??;
        }
        Ok(Upload { files, pool, upload })
    }

    /// Ends a chunk: everything that was given survives a power cut. Says where the next one
    /// begins.
    ///
    /// # Errors
    /// The disk's.
    pub async fn park(self) -> Result<u64, StorageError> {
        let Upload { pool, upload, .. } = self;
        pool.run(move || upload.park()).await.map_err(|_| StorageError::Lost)?
    }

    /// Proves the digest and makes the upload a blob, durably. It is leased from then on, and no
    /// repository links it: that is the caller's next step.
    ///
    /// # Errors
    /// [`StorageError::WrongDigest`] if the bytes have another digest; nothing of them is kept
    /// then. After another error [`Storage::upload_offset`] says whether the upload is still there.
    pub async fn finish(self, digest: Digest) -> Result<StoredBlob, StorageError> {
        let Upload { pool, upload, .. } = self;
        pool.run(move || upload.finish(&digest)).await.map_err(|_| StorageError::Lost)?
    }
}

/// Takes room on the disk for `bytes` that are pushed. Cached content makes room for them.
async fn room_to_push(files: &Arc<Files>, pool: &BlockingPool, bytes: u64) -> Result<(), StorageError> {
    let look = || {
        let files = Arc::clone(files);
        async move { pool.run(move || files.room_to_push(bytes)).await.map_err(|_| StorageError::Lost) }
    };
    let no_space = match look().await? {
        Err(no_space @ StorageError::NoSpace { .. }) => no_space,
        room => return room,
    };
    let Some(mut line) = files.disk.room_queue.first(RoomNeed { push: true, ..RoomNeed::of(bytes) }).await else {
        return Err(no_space);
    };
    loop {
        line.looks();
        let room = look().await?;
        if room.is_ok() {
            line.found();
            return room;
        }
        if !line.again().await {
            return room;
        }
    }
}

//! Stage: a download, which is content of a known digest on its way in. Readers follow its file.
//!
//! [`Storage::download`] opens it; [`Download::commit`] makes it a blob. Dropped or parked it stays
//! on disk to be taken up again, and keeps its bytes in the count against `max_size`. A verb that
//! was interrupted by its caller runs to its end and then parks.
//!
//! A second download of a digest at a time is [`StorageError::Busy`]. Callers: the leader of a
//! fill.

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use crate::{
    runtime::BlockingPool,
    storage::{Reservation, RoomNeed, Storage, StorageError, StoredBlob, downloads::PartFile, files::Files},
};

/// A download under way. See the module.
#[derive(Debug)]
pub struct Download {
    /// `None` while a thread has it, and for good after a panic there.
    part: Option<PartFile>,
    files: Arc<Files>,
    pool: BlockingPool,
}

impl Storage {
    /// Begins a download with the room that was reserved for it, or takes up what an earlier one
    /// left: [`Download::offset`] says where to go on. Leftovers longer than `most` bytes are not
    /// taken up.
    ///
    /// # Errors
    /// [`StorageError::Busy`] while another download of this digest is open.
    pub async fn download(&self, reservation: Reservation, most: Option<u64>) -> Result<Download, StorageError> {
        let part = self.write_with(move |files| files.downloads.open_reserved(reservation, most)).await?;
        Ok(Download { part: Some(part), files: Arc::clone(&self.files), pool: self.writing.clone() })
    }
}

impl Download {
    /// How many bytes readers can read; also where the source is to go on.
    pub fn offset(&self) -> u64 {
        self.part.as_ref().map_or(0, PartFile::offset)
    }

    /// The size in bytes that the content will have, as its source stated. It may be wrong.
    pub fn total(&self) -> Option<u64> {
        self.part.as_ref().and_then(PartFile::total)
    }

    /// The sources that its bytes came from, as they were noted.
    pub fn sources(&self) -> &[String] {
        self.part.as_ref().map_or(&[], PartFile::sources)
    }

    /// A descriptor of its own for reading, by position. It stays good after the commit and the
    /// discard and, with the old bytes, after a restart.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn reader(&self) -> Result<Arc<File>, StorageError> {
        self.part.as_ref().ok_or(StorageError::Lost)?.reader()
    }

    /// Reserves room for `bytes` in all, those that are here included, of content that will have
    /// `total`. Says whether there is room: within `max_size`, and `min_free` left on the disk.
    /// Waits for the eviction as [`Storage::reserve_by_evicting`] does, where `total` could fit.
    ///
    /// # Errors
    /// [`StorageError::Lost`], as for every verb that follows.
    pub async fn reserve(&mut self, bytes: u64, total: u64) -> Result<bool, StorageError> {
        let (files, more) = (Arc::clone(&self.files), bytes.saturating_sub(self.offset()));
        if self.with(move |part| Ok(part.reserve(bytes))).await? {
            return Ok(true);
        }
        if !files.could_fit(total) {
            return Ok(false);
        }
        let own = self.part.as_ref().map_or(0, PartFile::reserved);
        let need = RoomNeed { own, ..RoomNeed::of(more) };
        let Some(mut line) = files.disk.room_queue.first(need).await else { return Ok(false) };
        loop {
            line.looks();
            if self.with(move |part| Ok(part.reserve(bytes))).await? {
                line.found();
                return Ok(true);
            }
            if !line.again().await {
                return Ok(false);
            }
        }
    }

    /// The same for content whose length nobody knows, of which `here` bytes are here soon. It may
    /// never end, so cached content makes room for it only up to half of all that could be here.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn reserve_unsized(&mut self, here: u64) -> Result<bool, StorageError> {
        self.reserve(here, here.saturating_mul(2)).await
    }

    /// Notes the source that bytes come from next, so that it is known after a restart too, and the
    /// content's size as the source of all bytes that are here stated it; disk blocks are taken a
    /// step ahead of them. `None`: some bytes came without a size.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] if there is no room for the step. The download can be used all the
    /// same.
    pub async fn comes_from(&mut self, source: String, total: Option<u64>) -> Result<(), StorageError> {
        self.with(move |part| {
            part.set_total(total)?;
            part.add_source(&source)
        })
        .await
    }

    /// Takes the next bytes and makes them readable.
    ///
    /// # Errors
    /// The disk's. The download ends at [`offset`](Self::offset) then; bytes beyond it are to be
    /// fetched again.
    pub async fn append(&mut self, batch: Vec<Bytes>) -> Result<(), StorageError> {
        self.with(move |part| {
            part.append(batch)?;
            part.flush()
        })
        .await
    }

    /// Whether the bytes have the digest. Takes a while where an earlier process wrote some of
    /// them: they are read again.
    ///
    /// # Errors
    /// The disk's.
    pub async fn verify(&mut self) -> Result<bool, StorageError> {
        self.with(PartFile::verify).await
    }

    /// Begins again with no bytes, no size and no source, in a new file: readers of the old one see
    /// no byte of the new.
    ///
    /// # Errors
    /// The disk's.
    pub async fn restart(&mut self) -> Result<(), StorageError> {
        self.with(PartFile::restart).await
    }

    /// Makes it a blob, durably; it is leased and no repository links it yet.
    ///
    /// # Errors
    /// [`StorageError::Unproven`] without a [`verify`](Self::verify) that said so; it is parked
    /// then. After any other error its bytes are gone.
    pub async fn commit(self) -> Result<StoredBlob, StorageError> {
        self.end(PartFile::commit).await
    }

    /// Keeps it on disk, so that it can be taken up again even after a power cut.
    ///
    /// # Errors
    /// The disk's.
    pub async fn park(self) -> Result<(), StorageError> {
        self.end(PartFile::park).await
    }

    /// Removes it from disk. Readers keep what they have.
    ///
    /// # Errors
    /// The disk's.
    pub async fn discard(self) -> Result<(), StorageError> {
        self.end(PartFile::discard).await
    }

    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut PartFile) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let mut part = self.part.take().ok_or(StorageError::Lost)?;
        let done = self.pool.run(move || {
            let result = work(&mut part);
            (part, result)
        });
        let (part, result) = done.await.map_err(|_| StorageError::Lost)?;
        self.part = Some(part);
        result
    }

    async fn end<T: Send + 'static>(
        mut self,
        work: impl FnOnce(PartFile) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let part = self.part.take().ok_or(StorageError::Lost)?;
        self.pool.run(move || work(part)).await.map_err(|_| StorageError::Lost)?
    }
}

//! One download under way.
//!
//! | state | entered by | then |
//! |---|---|---|
//! | open | `Downloads::open_reserved` | readers follow up to [`PartFile::offset`] |
//! | proven | [`PartFile::verify`] | it may be committed; another byte unproves it |
//! | blob | [`PartFile::commit`] | readers read on from the blob |
//! | waiting | [`PartFile::park`], drop | it can be taken up again |
//! | removed | [`PartFile::discard`] | readers keep the bytes that they have open |
//!
//! Callers: the verbs of `verbs/download.rs`.

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use crate::{
    oci::Digest,
    storage::{
        Reservation, StorageError, StoredBlob, blobs,
        disk::Disk,
        keyed_lock::KeyGuard,
        partial::{PartialFile, PartialFolder, PartialMeta},
    },
};

/// The file's name.
pub(super) const PART: &str = "part";

/// A download under way. Dropped, it stays on disk to be taken up again.
#[derive(Debug)]
pub(crate) struct PartFile {
    disk: Arc<Disk>,
    guard: KeyGuard<Digest>,
    partial: PartialFile,
    room: Reservation,
    /// It is removed, or has become a blob.
    gone: bool,
    /// Some of it was written by an earlier download.
    resumed: bool,
    proven: bool,
}

impl PartFile {
    pub(super) fn open(
        disk: Arc<Disk>,
        boot: Option<Arc<str>>,
        guard: KeyGuard<Digest>,
        mut room: Reservation,
        most: Option<u64>,
    ) -> Result<PartFile, StorageError> {
        drop(disk.writing()?);
        let folder = PartialFolder { path: disk.layout.fill(&guard.key), name: PART, boot };
        let algorithm = guard.key.algorithm();
        let fits = |_: &PartialMeta, length| most.is_none_or(|most| length <= most);
        if let Some(mut partial) = PartialFile::take_up(folder.clone(), algorithm, &disk.hash_threads, fits)? {
            partial.checkpoint_if_due()?;
            let resumed = partial.written() > 0;
            return Ok(PartFile { disk, guard, partial, room, gone: false, resumed, proven: false });
        }
        match PartialFile::begin(folder.clone(), algorithm, &disk.hash_threads, PartialMeta::default()) {
            Ok(partial) => Ok(PartFile { disk, guard, partial, room, gone: false, resumed: false, proven: false }),
            Err(error) => {
                // A full disk is not filled further with folders of downloads that never began.
                if folder.remove().is_ok() {
                    room.keeps(0);
                }
                Err(error)
            }
        }
    }

    /// How many bytes readers can read; also where the upstream goes on after an error or a
    /// restart.
    pub(crate) fn offset(&self) -> u64 {
        self.partial.written()
    }

    /// The size in bytes that the blob will have, as the source of these bytes stated. It may be
    /// wrong.
    pub(crate) fn total(&self) -> Option<u64> {
        self.partial.meta().total
    }

    /// The sources that its bytes came from.
    pub(crate) fn sources(&self) -> &[String] {
        &self.partial.meta().sources
    }

    /// Notes a source that bytes come from next, so that it is known after a restart too.
    pub(crate) fn add_source(&mut self, source: &str) -> Result<(), StorageError> {
        if self.sources().iter().any(|known| known == source) { Ok(()) } else { self.partial.add_source(source) }
    }

    /// Sets the blob's size, as the source of all present bytes stated it, and reserves space a
    /// step ahead of them; `None`: some bytes came without a size.
    ///
    /// Errors: [`StorageError::NoSpace`] if there is no room for the step. The part can be used all
    /// the same.
    pub(crate) fn set_total(&mut self, total: Option<u64>) -> Result<(), StorageError> {
        if self.total() == total { Ok(()) } else { self.partial.set_total(total) }
    }

    /// Makes the reservation `total` bytes in all. Says whether there is room: within `max_size`,
    /// and on the disk for the missing bytes.
    pub(crate) fn reserve(&mut self, total: u64) -> bool {
        let has_room = self.disk.has_space(total.saturating_sub(self.partial.written()))
            && self.room.grow_to(total, || self.disk.cached());
        self.partial.may_take(self.room.bytes());
        has_room
    }

    /// The bytes of its reservation.
    pub(crate) fn reserved(&self) -> u64 {
        self.room.bytes()
    }

    /// Whether the hash is that of the bytes in the file.
    #[cfg(test)]
    pub(in crate::storage) fn agrees(&self) -> bool {
        self.partial.digest().unwrap() == self.partial.reread().unwrap()
    }

    /// A descriptor of its own for reading, by position. It stays good after
    /// [`commit`](Self::commit), after [`discard`](Self::discard), and, with the old bytes, after
    /// [`restart`](Self::restart).
    pub(crate) fn reader(&self) -> Result<Arc<File>, StorageError> {
        let file = self.partial.reader()?;
        // Who reads it may go on to after the commit.
        self.disk.readers.note(&self.guard.key, &file);
        Ok(file)
    }

    /// Takes the next bytes. Small pieces are buffered: [`flush`](Self::flush) makes them readable.
    ///
    /// After an error the part ends at [`offset`](Self::offset), and bytes beyond it have to be
    /// fetched again.
    pub(crate) fn append(&mut self, batch: Vec<Bytes>) -> Result<(), StorageError> {
        self.proven = false;
        self.partial.append(batch)
    }

    /// Makes all appended bytes readable.
    pub(crate) fn flush(&mut self) -> Result<(), StorageError> {
        self.partial.flush()
    }

    /// Whether the bytes are the blob. Only the digest counts, not the size that a source stated.
    pub(crate) fn verify(&mut self) -> Result<bool, StorageError> {
        self.flush()?;
        self.proven = self.partial.digest()? == self.guard.key;
        if self.proven && self.resumed {
            // The saved hash covers the bytes as they were written, not as the disk has kept them
            // since.
            self.proven = self.partial.reread()? == self.guard.key;
        }
        Ok(self.proven)
    }

    /// Makes it a blob, durably.
    ///
    /// Errors: [`StorageError::Unproven`] without a [`verify`](Self::verify) that said `true`; then
    /// it waits as if parked. After any other error it is removed, so that the disk has space for
    /// other content.
    pub(crate) fn commit(mut self) -> Result<StoredBlob, StorageError> {
        if !self.proven {
            return Err(StorageError::Unproven(self.guard.key));
        }
        // No client was told that it stays.
        let hold = self.disk.leases.hold_cached([self.guard.key]);
        let committed = blobs::commit(&self.disk, &self.guard.key, &mut self.partial, hold, || self.room.counted());
        self.gone = committed.is_ok() || self.partial.folder().remove().is_ok();
        committed
    }

    /// Keeps it on disk, so that it can be taken up again even after a power cut.
    pub(crate) fn park(mut self) -> Result<(), StorageError> {
        self.partial.park()
    }

    /// Removes it from disk.
    pub(crate) fn discard(mut self) -> Result<(), StorageError> {
        let discarded = self.partial.discard();
        self.gone = discarded.is_ok();
        discarded
    }

    /// Begins again with no bytes and no size, in a new file: readers of the old one see no byte of
    /// the new.
    pub(crate) fn restart(&mut self) -> Result<(), StorageError> {
        (self.resumed, self.proven) = (false, false);
        self.partial.restart()
    }
}

impl Drop for PartFile {
    /// Bytes that stay on disk go on to count against `max_size`.
    fn drop(&mut self) {
        self.room.keeps(if self.gone { 0 } else { self.partial.written() });
    }
}

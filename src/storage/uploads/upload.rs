//! A push of a blob that one request has open for writing.
//!
//! | state | entered by | then |
//! |---|---|---|
//! | open | [`Uploads::open`](super::Uploads::open) | bytes are added; a second open fails |
//! | waiting | [`Upload::park`] | all bytes survive a power cut; the next open goes on after them |
//! | waiting | a drop without `park` | the next open goes on after the bytes that the file has |
//! | ended | [`Upload::finish`] | the bytes are a blob; with another digest they are removed |
//!
//! Callers: the verbs of `verbs/upload.rs`.

use std::sync::Arc;

use bytes::Bytes;

use super::{UploadId, Uses};
use crate::{
    oci::{Algorithm, Digest, Hasher},
    storage::{
        StorageError, StoredBlob, blobs,
        disk::Disk,
        keyed_lock::KeyGuard,
        partial::{PartialFile, hash_from},
    },
};

/// A push under way, and the right to write it. Dropped, it waits as it is.
#[derive(Debug)]
pub(crate) struct Upload {
    disk: Arc<Disk>,
    guard: KeyGuard<UploadId>,
    partial: PartialFile,
    uses: Uses,
}

impl Upload {
    pub(super) fn new(disk: Arc<Disk>, guard: KeyGuard<UploadId>, partial: PartialFile, uses: Uses) -> Self {
        Upload { disk, guard, partial, uses }
    }

    /// The upload's name.
    pub(crate) fn id(&self) -> UploadId {
        self.guard.key
    }

    /// How many bytes it was given: where the next chunk begins.
    pub(crate) fn offset(&self) -> u64 {
        self.partial.given()
    }

    /// The algorithm that its digest must have, if that was said when it was begun.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.partial.meta().algorithm
    }

    /// Takes the next bytes.
    ///
    /// After an error drop it: the bytes that are in the file are kept, and the next
    /// [`open`](super::Uploads::open) says how many. Those in the write buffer, fewer than 256 KiB,
    /// are lost.
    pub(crate) fn append(&mut self, batch: Vec<Bytes>) -> Result<(), StorageError> {
        self.partial.append(batch)
    }

    /// The end of a chunk: all bytes so far survive a power cut from now on. Returns the offset
    /// where the next chunk begins.
    pub(crate) fn park(mut self) -> Result<u64, StorageError> {
        self.partial.park()?;
        Ok(self.partial.written())
    }

    /// The end of the push: proves the digest, and makes it a blob, durably. The blob is leased
    /// from now on, and no repository links it: that is the caller's next step.
    ///
    /// Errors: [`StorageError::WrongDigest`] if the bytes have another digest, and then they are
    /// removed.
    pub(crate) fn finish(mut self, digest: &Digest) -> Result<StoredBlob, StorageError> {
        drop(self.disk.writing()?);
        self.partial.flush()?;
        if self.proves(digest)? {
            let hold = self.disk.leases.hold([*digest]);
            let stored = blobs::commit(&self.disk, digest, &mut self.partial, hold, || {})?;
            self.uses.gone(&self.id());
            return Ok(stored);
        }
        self.partial.discard()?;
        self.uses.gone(&self.id());
        Err(StorageError::WrongDigest(*digest))
    }

    /// One hash is kept while the bytes come in: that of the algorithm that was said at the
    /// beginning, or else SHA-256. For a digest of the other algorithm the file is read once more.
    /// So it is where an earlier process began the upload: its saved hash covers the bytes as they
    /// were written, not as the disk has kept them since.
    fn proves(&self, digest: &Digest) -> Result<bool, StorageError> {
        let found = match digest.algorithm() {
            algorithm if algorithm == self.partial.algorithm() && self.uses.is_own(&self.id()) => {
                self.partial.digest()?
            }
            algorithm => {
                let mut hasher = Hasher::new(algorithm);
                hash_from(&mut hasher, self.partial.reader()?.as_ref(), 0)
                    .map_err(StorageError::io("reading", &self.partial.folder().file_path()))?;
                hasher.finish()
            }
        };
        Ok(found == *digest)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uses.left(&self.guard.key);
    }
}

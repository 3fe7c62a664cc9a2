//! One push of a blob under way.
//!
//! | | by | after which |
//! |---|---|---|
//! | open | [`Uploads::open`](super::Uploads::open) | bytes are appended |
//! | waiting | [`Upload::park`], drop | it is taken up again where it ends |
//! | gone | [`Upload::finish`] | it is a blob, or nothing if it was not what was promised |

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
    claim: KeyGuard<UploadId>,
    partial: PartialFile,
    uses: Uses,
}

impl Upload {
    pub(super) fn new(disk: Arc<Disk>, claim: KeyGuard<UploadId>, partial: PartialFile, uses: Uses) -> Self {
        Upload { disk, claim, partial, uses }
    }

    /// Its name.
    pub(crate) fn id(&self) -> UploadId {
        self.claim.key
    }

    /// How many bytes it was given: where the next chunk begins.
    pub(crate) fn offset(&self) -> u64 {
        self.partial.given()
    }

    /// The algorithm that its digest was said to be of when it was begun.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.partial.meta().algorithm
    }

    /// Takes the next bytes.
    ///
    /// After an error drop it: what arrived before is kept, and the next [`open`](super::Uploads::open) says how much.
    pub(crate) fn append(&mut self, batch: Vec<Bytes>) -> Result<(), StorageError> {
        self.partial.append(batch)
    }

    /// The end of a chunk: everything that was given survives a power cut from now on. Says where the next one begins.
    pub(crate) fn park(mut self) -> Result<u64, StorageError> {
        self.partial.park()?;
        Ok(self.partial.written())
    }

    /// The end of the push: proves the digest, and makes it a blob, durably. It is leased from now on and linked by
    /// nobody: that is the caller's next step.
    ///
    /// Errors: [`StorageError::WrongDigest`] if the bytes are not what the digest says, and then nothing of them is
    /// kept.
    pub(crate) fn finish(mut self, digest: &Digest) -> Result<StoredBlob, StorageError> {
        drop(self.disk.writing()?);
        self.partial.flush()?;
        if self.proves(digest)? {
            let stored = blobs::commit(&self.disk, digest, &mut self.partial)?;
            self.uses.gone(&self.id());
            return Ok(stored);
        }
        self.partial.discard()?;
        self.uses.gone(&self.id());
        Err(StorageError::WrongDigest(*digest))
    }

    /// One hash is kept while the bytes come in: that of the algorithm that was said at the
    /// beginning, or else SHA-256. For a digest of the other they are read once more. So they are
    /// where an earlier process began: its saved hash vouches for what was written then, not for
    /// what the disk has kept since.
    fn proves(&self, digest: &Digest) -> Result<bool, StorageError> {
        let found = match digest.algorithm() {
            algorithm if algorithm == self.partial.algorithm() && self.uses.is_own(&self.id()) => {
                self.partial.digest()?
            }
            algorithm => {
                let mut hasher = Hasher::new(algorithm);
                hash_from(&mut hasher, self.partial.reader()?.as_ref(), 0)
                    .map_err(StorageError::io("reading", &self.partial.place().path()))?;
                hasher.finish()
            }
        };
        Ok(found == *digest)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uses.left(&self.claim.key);
    }
}

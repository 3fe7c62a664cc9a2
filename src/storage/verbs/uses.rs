//! Uses: how stored content was used, for the order in which it is evicted.
//!
//! A use is a hint. An orderly stop keeps the last uses and their counts exactly. After a crash the
//! last uses are right to an hour, as the files' access times show them, and the counts begin anew:
//! 2 for content that was used a day or more after it came, else 1. Nothing of it is synced; a
//! power cut may cost the uses of the last minutes.
//!
//! Callers: pull notes; an evictor reads.

use crate::{
    oci::Digest,
    runtime::clock,
    storage::{BlobUse, Storage, StorageError},
};

impl Storage {
    /// Notes that a manifest was given out, from memory or from the disk, and that the parts that
    /// it names are in use: the last use of those that are here rises, their count does not. Parts
    /// are config and layers, and of an index its children with theirs; 4,096 in all.
    ///
    /// It happens once a minute for a manifest, in the background: the call returns at once, and a
    /// reader may see some parts before others. A hint: it may be lost. No disk, and a lock for a
    /// moment: not for every request, but for each one that does not answer from what was looked up
    /// within the last minute.
    pub fn note_use(&self, manifest: &Digest) {
        self.files.manifest_uses.note(manifest, clock::now());
    }

    /// How content was used; `None` if it is not here. From the index, or else one look at its
    /// file, which shows it as after a crash.
    ///
    /// # Errors
    /// The disk's.
    pub async fn use_of(&self, digest: &Digest) -> Result<Option<BlobUse>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| files.blobs.use_of(&digest)).await
    }

    /// Shows all content and how it was used, each once, in no order that a caller may rely on;
    /// then returns `found`, which `show` may gather into. Content that comes or goes meanwhile may
    /// be shown or not, and a use that comes meanwhile likewise.
    ///
    /// One scan of the index, page by page; no memory grows with it. While the index is not ready,
    /// or goes off, the files of the 512 folders are looked at. `show` runs on a thread that may
    /// block, under no lock.
    ///
    /// # Errors
    /// A folder cannot be listed, or a file not be looked at. `found` is lost then.
    pub async fn residents<T: Send + 'static>(
        &self,
        mut found: T,
        mut show: impl FnMut(&mut T, Digest, BlobUse) + Send + 'static,
    ) -> Result<T, StorageError> {
        self.read_with(move |files| {
            files.blobs.uses(|digest, blob| show(&mut found, digest, blob))?;
            Ok(found)
        })
        .await
    }
}

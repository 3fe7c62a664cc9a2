//! Uses: how stored content was used, for the order in which it is evicted.
//!
//! A use is a hint. An orderly stop keeps the last uses and their counts exactly. After a crash the
//! last uses are right to an hour, as the files' access times show them, and the counts begin anew:
//! 2 for content that was used a day or more after it came, else 1. Nothing of it is synced; a
//! power cut may cost the uses of the last minutes.
//!
//! Callers: pull notes; the retention and the administration read.

use crate::{
    oci::{Digest, Repository},
    runtime::clock,
    storage::{BlobUse, Storage, StorageError, blob_use::is_future},
};

/// Content whose last use is in the future, of a scan by [`Storage::residents`].
#[derive(Debug)]
pub struct AheadOfTime {
    /// In milliseconds since 1970.
    now: u64,
    latest: u64,
    digests: Vec<Digest>,
}

impl AheadOfTime {
    /// Begins a scan at `now`, in milliseconds since 1970.
    pub fn at(now: u64) -> AheadOfTime {
        AheadOfTime { now, latest: now, digests: Vec::new() }
    }

    /// Takes note of content, if its last use is in the future.
    pub fn see(&mut self, digest: &Digest, used: BlobUse) {
        if is_future(used.last, self.now) {
            self.latest = self.latest.max(used.last);
            self.digests.push(*digest);
        }
    }
}

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

    /// Notes bytes of a blob that a client of a mirrored name was given from here. A hint; no disk,
    /// and a lock for a moment: for every answer.
    pub fn note_served(&self, digest: &Digest, bytes: u64) {
        self.files.manifest_uses.note_served(digest, bytes);
    }

    /// Brings what was noted by [`note_served`](Self::note_served) to the index, where
    /// [`use_of`](Self::use_of) shows it soon. Otherwise it comes there within half a minute.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn count_served(&self) -> Result<(), StorageError> {
        self.read_with(|files| {
            files.manifest_uses.count_served(&files.blobs);
            Ok(())
        })
        .await
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

    /// How content was used, as [`use_of`](Self::use_of) says, and the repositories that link it;
    /// `None` if it is not here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn use_and_holders(&self, digest: &Digest) -> Result<Option<(BlobUse, Vec<Repository>)>, StorageError> {
        let digest = *digest;
        self.read_with(move |files| {
            let used = files.blobs.use_of(&digest)?;
            used.map(|used| Ok((used, files.catalog.holders(&digest)?))).transpose()
        })
        .await
    }

    /// Sets back last uses that come from a clock that was ahead, the latest to the present, so
    /// that this content ages again, in the order that it has. A hint; no disk.
    pub fn set_back(&self, ahead: AheadOfTime) {
        let AheadOfTime { now, latest, digests } = ahead;
        self.files.disk.index.set_back(digests, latest.saturating_sub(now), now);
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

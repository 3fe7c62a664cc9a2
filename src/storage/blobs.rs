//! Blobs and manifests: complete, verified, immutable.
//!
//! Promises: a file that [`BlobStore::open`] gives was verified against its digest before it got
//! its name. It stays readable while it is open, also if its name is removed. New content has a
//! lease ([`Leases`](super::leases::Leases)): it is not collected before a repository links it. To
//! open a blob is to use it, unless the method says otherwise.
//!
//! Callers: the verbs, the downloads and the uploads (`commit`), the check, and the rebuild.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    BlobUse, Finder, StorageError, access_time,
    blob_iter::{self, BlobIter},
    blocks,
    catalog::Catalog,
    disk::Disk,
    durable,
    index::Entry,
    leases::{Hold, Respect},
    partial::PartialFile,
    quarantine::{found_rotten, quarantine},
    readers::StoredBlob,
    rot::is_loss,
};
use crate::oci::{Digest, Hasher};
use crate::runtime::clock;

/// From so many bytes on, a buffer is allocated with [`ROOMY`] bytes of capacity, of which only the
/// used part costs memory: an allocator gives so large a buffer back to the kernel as soon as it is
/// free, and would keep the memory of smaller ones.
const LARGE: u64 = 256 << 10;
const ROOMY: usize = 33 << 20;

/// Blobs that are taken from the index at once.
const PAGE: usize = 4096;

/// The first `size` bytes of a file; fewer where it is shorter.
fn whole(file: &File, size: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    if size <= LARGE || bytes.try_reserve_exact(ROOMY).is_err() {
        bytes.reserve_exact(size as usize);
    }
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The blobs in the data folder, as files.
#[derive(Clone, Debug)]
pub(crate) struct BlobStore {
    pub(super) disk: Arc<Disk>,
}

/// The result of an attempt to remove a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It is gone, and this many bytes are free.
    Removed(u64),
    /// A repository links it.
    Held,
    /// No repository links it, but a push may be about to: [`Leases`](super::leases::Leases).
    Leased,
    /// It was not here.
    Absent,
}

impl BlobStore {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        BlobStore { disk }
    }

    /// Opens a blob; `None` if it is not here. It is a use: the index counts it, and the file's
    /// access time shows it.
    ///
    /// The access time is set here and not by the index's thread: the file is open, its times were
    /// looked at for its size, and the index may be off. Requests for a blob that is still open
    /// from the last minute do not come here.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<StoredBlob>, StorageError> {
        let Some((blob, metadata)) = self.look(digest, |path| File::open(path))? else { return Ok(None) };
        let now = clock::now();
        self.disk.index.touch(digest, clock::milliseconds());
        if self.disk.stamps.is_due(digest, &metadata, now) {
            access_time::set(&blob.file, now);
        }
        Ok(Some(blob))
    }

    /// Opens a blob, which is no use of it.
    pub(crate) fn open_unnoticed(&self, digest: &Digest) -> Result<Option<StoredBlob>, StorageError> {
        Ok(self.look(digest, |path| access_time::open_unnoticed(path, 0))?.map(|(blob, _)| blob))
    }

    /// Opens a blob with `open`.
    fn look(
        &self,
        digest: &Digest,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> Result<Option<(StoredBlob, Metadata)>, StorageError> {
        let path = self.disk.layout.blob(digest);
        if self.disk.rots.is_stuck(digest) {
            return Ok(None);
        }
        let file = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_loss(&error) => {
                found_rotten(&self.disk, digest, None, Finder::Read);
                return Ok(None);
            }
            opened => opened.map_err(StorageError::io("opening", &path))?,
        };
        let metadata = file.metadata().map_err(StorageError::io("looking at", &path))?;
        let file = Arc::new(file);
        self.disk.readers.note(digest, &file);
        Ok(Some((StoredBlob { file, size: metadata.len() }, metadata)))
    }

    /// Shows a use at `now`, in seconds since 1970, in the access time of the blob's file. Says
    /// whether the blob is here.
    pub(super) fn stamp(&self, digest: &Digest, now: u64) -> bool {
        let path = self.disk.layout.blob(digest);
        let Ok(metadata) = fs::metadata(&path) else { return false };
        if self.disk.stamps.is_due(digest, &metadata, now)
            && let Ok(file) = File::open(&path)
        {
            access_time::set(&file, now);
        }
        true
    }

    /// How a blob was used; `None` if it is not here. From the index, or else one look at its file.
    pub(crate) fn use_of(&self, digest: &Digest) -> Result<Option<BlobUse>, StorageError> {
        if let Some(known) = self.disk.index.blob(digest) {
            return Ok(known);
        }
        let path = self.disk.layout.blob(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(BlobUse::of_file(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("looking at", &path)(error)),
        }
    }

    /// Shows the use of every blob that is here, each once, in the order of digests by the index
    /// and folder by folder by the files. A blob that comes or goes meanwhile may be shown or not.
    pub(crate) fn uses(&self, mut show: impl FnMut(Digest, BlobUse)) -> Result<(), StorageError> {
        let mut last = None;
        while let Some(page) = self.disk.index.blobs_after(last.as_ref(), PAGE) {
            let Some((end, _)) = page.last() else { return Ok(()) };
            last = Some(*end);
            page.into_iter().for_each(|(digest, blob)| show(digest, blob));
        }
        // The index is not ready, or has just gone off: then the files show the rest.
        for (algorithm, first) in blob_iter::all() {
            let shown = blob_iter::look_into(&self.disk.layout, algorithm, first, |digest, file| {
                if last.is_some_and(|last| digest <= last) {
                    return Ok(());
                }
                match file.metadata() {
                    Ok(metadata) => show(digest, BlobUse::of_file(&metadata)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            });
            shown.map_err(StorageError::io("listing", &self.disk.layout.shard(algorithm, first)))?;
        }
        Ok(())
    }

    /// The size in bytes of a blob; `None` if it is not here.
    pub(crate) fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let path = self.disk.layout.blob(digest);
        match fs::metadata(&path) {
            Ok(_) if self.disk.rots.is_stuck(digest) => Ok(None),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("looking at", &path)(error)),
        }
    }

    /// Stores content that is in memory: a manifest. It is durable when this returns. A file that
    /// is here already stays if it has the same bytes, and is replaced if it has rotted.
    ///
    /// Errors: [`StorageError::WrongDigest`] if `bytes` have another digest, and then nothing is
    /// stored.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StorageError> {
        if Hasher::digest(digest.algorithm(), bytes) != *digest {
            return Err(StorageError::WrongDigest(*digest));
        }
        // Whoever promises it to a client holds it as well.
        let _hold = self.disk.leases.hold_cached([*digest]);
        // A file that cannot be read counts as rotten.
        if holds(&self.disk.layout.blob(digest), bytes).unwrap_or(false) {
            return sync_folder(&self.disk, digest);
        }
        let temporary = self
            .disk
            .temporaries
            .holding(bytes)
            .map_err(StorageError::io("writing a temporary file for", &self.disk.layout.blob(digest)))?;
        place(&self.disk, digest, &temporary.path, bytes.len() as u64, || {})
    }

    /// Reads a blob of at most `max` bytes and verifies it again. Content that has rotted goes to
    /// the quarantine and reads as `None`, so that it is fetched again.
    pub(crate) fn read(&self, digest: &Digest, max: usize) -> Result<Option<Bytes>, StorageError> {
        self.verified(digest, max, self.open(digest)?)
    }

    /// The same, which is no use: neither the index nor the file's access time shows it.
    pub(crate) fn read_unnoticed(&self, digest: &Digest, max: usize) -> Result<Option<Bytes>, StorageError> {
        self.verified(digest, max, self.open_unnoticed(digest)?)
    }

    fn verified(&self, digest: &Digest, max: usize, opened: Option<StoredBlob>) -> Result<Option<Bytes>, StorageError> {
        let Some(StoredBlob { file, size }) = opened else { return Ok(None) };
        if size > max as u64 {
            return Err(StorageError::TooLarge { digest: *digest, size, max });
        }
        match whole(&file, size) {
            Ok(bytes) if Hasher::digest(digest.algorithm(), &bytes) == *digest => return Ok(Some(bytes)),
            Ok(_) => {}
            Err(error) if is_loss(&error) => {}
            Err(error) => return Err(StorageError::io("reading", &self.disk.layout.blob(digest))(error)),
        }
        found_rotten(&self.disk, digest, Some(&file), Finder::Read);
        Ok(None)
    }

    /// Gives back the disk space that a blob holds beyond its content. Returns the number of bytes.
    pub(crate) fn give_back(&self, digest: &Digest) -> Result<u64, StorageError> {
        let _permission = self.disk.writing()?;
        let path = self.disk.layout.blob(digest);
        let cut = |length| blocks::cut(&File::options().write(true).open(&path)?, length);
        self.disk.census.cut(digest, &path, cut).map_err(StorageError::io("cutting", &path))
    }

    /// Removes a blob that no repository links and no lease protects. Open readers keep it.
    ///
    /// This and a [`Catalog::put_links`] of the same digest never overlap: either the blob is kept,
    /// or the link is refused with [`StorageError::Gone`]. The catalogue looks for links in the
    /// files, not only in the index.
    pub(crate) fn remove_unheld(
        &self,
        digest: &Digest,
        catalog: &Catalog,
        respect: Respect,
    ) -> Result<Removal, StorageError> {
        let Some(_right) = self.disk.leases.begin_reclaim(digest, respect) else {
            return Ok(Removal::Leased);
        };
        let _permission = self.disk.writing()?;
        if catalog.is_held(digest)? {
            return Ok(Removal::Held);
        }
        let _change = self.disk.versions.removal();
        let path = self.disk.layout.blob(digest);
        // The folder is not synced: a blob that a power cut brings back is as unlinked as before.
        let away = || {
            fs::remove_file(&path)?;
            self.disk.index.write(None, vec![Entry::no_blob(digest)]);
            Ok(())
        };
        let size = self.disk.census.take(digest, &path, None, away).map_err(StorageError::io("removing", &path))?;
        self.disk.space.gained(size.unwrap_or(0));
        Ok(size.map_or(Removal::Absent, Removal::Removed))
    }

    /// Moves a rotten blob into the folder `quarantine`, whichever file has its name now. For the
    /// check, which has the data folder to itself. Open readers keep the file.
    pub(super) fn quarantine(&self, digest: &Digest) -> Result<(), StorageError> {
        quarantine(&self.disk, digest, None).map(drop)
    }

    /// Every blob that is here, in the order of digests. A blob that comes or goes meanwhile may be
    /// among them or not.
    pub(crate) fn all(&self) -> BlobIter {
        self.after(None)
    }

    /// The same, from the first blob after `last` on.
    pub(crate) fn after(&self, last: Option<Digest>) -> BlobIter {
        BlobIter::new(self.disk.layout.clone(), last)
    }
}

/// Makes a partial file that is complete and proven a blob, and removes the rest of its folder.
/// `_hold` is of its digest. `counted` is called when the census has its bytes.
pub(super) fn commit(
    disk: &Disk,
    digest: &Digest,
    partial: &mut PartialFile,
    _hold: Hold,
    counted: impl FnOnce(),
) -> Result<StoredBlob, StorageError> {
    partial.sync()?;
    let file = partial.reader()?;
    disk.readers.note(digest, &file);
    place(disk, digest, &partial.folder().file_path(), partial.written(), counted)?;
    if let Err(error) = partial.folder().remove() {
        tracing::warn!(%error, "the folder of received content cannot be removed");
    }
    Ok(StoredBlob { file, size: partial.written() })
}

/// Whether a file holds exactly these bytes.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut there = Vec::with_capacity(bytes.len() + 1);
    File::open(path)?.take(bytes.len() as u64 + 1).read_to_end(&mut there)?;
    Ok(there == bytes)
}

/// Gives synced and verified content its name, durably: the last steps of the commit protocol. A
/// blob that is here already is replaced, since it may have rotted; open readers keep it.
///
/// The caller holds the digest. `counted` is called when the census has its bytes.
fn place(disk: &Disk, digest: &Digest, from: &Path, size: u64, counted: impl FnOnce()) -> Result<(), StorageError> {
    let _permission = disk.writing()?;
    let to = disk.layout.blob(digest);
    let folder = to.parent().unwrap_or(&to);
    disk.folders.ensure(folder).map_err(StorageError::io("creating", folder))?;
    let mut blob = BlobUse::new(size, clock::milliseconds());
    if let Some(uses) = disk.came_back.stored(digest, size, blob.came) {
        blob.uses = uses.saturating_add(1);
    }
    disk.census
        .place(digest, from, &to, || disk.index.write(None, vec![Entry::blob(digest, blob)]))
        .map_err(StorageError::io("renaming into place", &to))?;
    counted();
    disk.rots.healed(digest);
    sync_folder(disk, digest)
}

/// Makes the blob's name survive a power cut. A name that was here before needs it too: the writer
/// that put it there may be between its rename and its sync, or have died there.
fn sync_folder(disk: &Disk, digest: &Digest) -> Result<(), StorageError> {
    let path = disk.layout.blob(digest);
    let folder = path.parent().unwrap_or(&path);
    match durable::sync_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        synced => synced.map_err(StorageError::io("syncing", folder)),
    }
}

//! Downloads under way: `fills/<digest>/{part,state}`.
//!
//! Promises: one [`PartFile`] per digest at a time; bytes are hashed as they are written; a part
//! gets a blob's name only when its digest is proven; and after the process died a download is
//! taken up again, or begun again where the table of [`partial`](super::partial) says so. Callers:
//! the verb `download`, and the rebuild, which tidies leftovers.

mod part_file;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, MutexGuard};

pub(crate) use part_file::PartFile;

use super::{Reservation, StorageError, blocks, disk::Disk, keyed_lock::KeyedLock, names, partial::PartialFolder};
use crate::oci::Digest;

/// An abandoned download is removed after this time.
pub(super) const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Leftovers that are kept at most; the oldest go first.
const KEPT: usize = 1000;

/// The downloads under way, and those that wait to be taken up again.
#[derive(Clone, Debug)]
pub(crate) struct Downloads {
    disk: Arc<Disk>,
    boot: Option<Arc<str>>,
    open: KeyedLock<Digest>,
    /// Held while a leftover is tidied: a download of the same digest that begins meanwhile waits
    /// until that is done.
    tidying: Arc<Mutex<()>>,
}

impl Downloads {
    pub(super) fn new(disk: Arc<Disk>, boot: Option<Arc<str>>) -> Self {
        Downloads { disk, boot, open: KeyedLock::default(), tidying: Arc::default() }
    }

    /// As [`open_reserved`](Self::open_reserved), without a bound.
    #[cfg(test)]
    pub(crate) fn open(&self, digest: Digest, most: Option<u64>) -> Result<PartFile, StorageError> {
        let room = self.disk.ledger.reserve(digest, 0, || 0);
        self.open_reserved(room.ok_or(StorageError::Busy(digest))?, most)
    }

    /// Begins a download in the room that is reserved for it, or takes up the bytes of an earlier
    /// one: [`PartFile::offset`] says where to go on. A leftover longer than `most` bytes is not
    /// taken up. `most` reserves no disk blocks: it is only a manifest's claim.
    ///
    /// Errors: [`StorageError::Busy`] while another `PartFile` of this digest lives.
    pub(crate) fn open_reserved(&self, mut room: Reservation, most: Option<u64>) -> Result<PartFile, StorageError> {
        let digest = room.digest();
        let guard = self.open.take(digest).or_else(|| {
            let _tidied = self.tidying();
            self.open.take(digest)
        });
        let Some(guard) = guard else {
            // The reservation of the other download covers the bytes on disk.
            room.keeps(0);
            return Err(StorageError::Busy(digest));
        };
        PartFile::open(Arc::clone(&self.disk), self.boot.clone(), guard, room, most)
    }

    /// The digests of which an earlier download left bytes, and of which no download is under way.
    pub(crate) fn leftovers(&self) -> Result<Vec<Digest>, StorageError> {
        let all = self.all()?.into_iter().map(|(digest, _)| digest);
        Ok(all.filter(|digest| !self.open.is_taken(digest)).collect())
    }

    /// The file that an earlier download may have left of a digest; `None` while one is under way.
    pub(super) fn leftover_file(&self, digest: &Digest) -> Option<PathBuf> {
        (!self.open.is_taken(digest)).then(|| self.leftover(digest).file_path())
    }

    /// Removes leftovers older than this, and the oldest beyond a thousand. Returns how many.
    pub(crate) fn sweep(&self, older_than: Duration) -> Result<usize, StorageError> {
        let mut all = self.all()?;
        all.sort_unstable_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        let now = SystemTime::now();
        let mut removed = 0;
        for (at, (digest, changed)) in all.into_iter().enumerate() {
            if at < KEPT && now.duration_since(changed).unwrap_or_default() < older_than {
                continue;
            }
            let _tidying = self.tidying();
            // Held over the removal: no download may begin with these files meanwhile.
            if let Some(guard) = self.open.take(digest) {
                let _permission = self.disk.writing()?;
                self.leftover(&guard.key).remove()?;
                self.disk.ledger.swept(&digest);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The bytes of each leftover, in the order in which [`discard_oldest`](Self::discard_oldest)
    /// removes them.
    pub(crate) fn leftover_sizes(&self) -> Result<Vec<u64>, StorageError> {
        let mut all = self.all()?;
        all.sort_unstable_by_key(|(_, changed)| *changed);
        let idle = all.into_iter().filter(|(digest, _)| !self.open.is_taken(digest));
        Ok(idle.map(|(digest, _)| self.size_of_leftover(&digest)).collect())
    }

    fn size_of_leftover(&self, digest: &Digest) -> u64 {
        fs::metadata(self.leftover(digest).file_path()).map_or(0, |metadata| blocks::taken(&metadata))
    }

    /// Removes the leftover that has not grown for longest. Returns its bytes.
    pub(crate) fn discard_oldest(&self) -> Result<Option<u64>, StorageError> {
        let mut all = self.all()?;
        all.sort_unstable_by_key(|(_, changed)| *changed);
        for (digest, _) in all {
            let _tidying = self.tidying();
            let Some(guard) = self.open.take(digest) else { continue };
            let _permission = self.disk.writing()?;
            let bytes = self.size_of_leftover(&digest);
            self.leftover(&guard.key).remove()?;
            self.disk.space.gained(bytes);
            self.disk.ledger.swept(&digest);
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    /// Gives back the disk space that leftovers hold beyond their content: a crash leaves reserved
    /// space behind. Returns the bytes.
    pub(crate) fn give_back(&self) -> Result<u64, StorageError> {
        let mut given = 0;
        for digest in self.leftovers()? {
            let _tidying = self.tidying();
            // A download that is under way needs no cut: taking it up has cut it.
            let Some(guard) = self.open.take(digest) else { continue };
            let _permission = self.disk.writing()?;
            given += self.leftover(&guard.key).give_back()?;
        }
        Ok(given)
    }

    /// Counts the bytes that earlier processes left against `max_size`.
    pub(super) fn count_leftovers(&self) -> Result<(), StorageError> {
        for (digest, _) in self.all()? {
            let file = self.disk.layout.fill(&digest).join(part_file::PART);
            if let Ok(metadata) = fs::metadata(file) {
                self.disk.ledger.found(digest, metadata.len());
            }
        }
        Ok(())
    }

    /// A leftover, to be tidied. It is not taken up, so its boot does not matter.
    fn leftover(&self, digest: &Digest) -> PartialFolder {
        PartialFolder { path: self.disk.layout.fill(digest), name: part_file::PART, boot: None }
    }

    fn tidying(&self) -> MutexGuard<'_, ()> {
        self.tidying.lock()
    }

    /// Every part on disk, and when it last grew.
    fn all(&self) -> Result<Vec<(Digest, SystemTime)>, StorageError> {
        let folder = self.disk.layout.fills();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StorageError::io("listing", &folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StorageError::io("listing", &folder))?;
            let Some(digest) = entry.file_name().to_str().and_then(names::parse_digest) else {
                continue;
            };
            let changed = fs::metadata(entry.path().join(part_file::PART)).or_else(|_| entry.metadata());
            all.extend(changed.and_then(|metadata| metadata.modified()).ok().map(|changed| (digest, changed)));
        }
        Ok(all)
    }
}

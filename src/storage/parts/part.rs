//! One download under way.
//!
//! | | by | after which |
//! |---|---|---|
//! | open | [`Parts::open`](super::Parts::open) | bytes are appended; readers follow up to [`Part::offset`] |
//! | proven | [`Part::verify`] | it may be committed; another byte unproves it |
//! | gone | [`Part::commit`] | it is a blob, and readers read on from it |
//! | gone | [`Part::park`], drop | it waits to be taken up again |
//! | gone | [`Part::discard`] | it never was; readers keep what they have |

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{
    Claim, remove,
    state::{self, Resumed, State},
};
use crate::{
    oci::{Digest, Hasher},
    storage::{StorageError, StoredBlob, blobs, disk::Disk, durable},
};

/// The file's name.
pub(super) const PART: &str = "part";

/// The smallest write, but for the last, in bytes: what is written in smaller ones is dearer to send later.
const PIECE: usize = 256 * 1024;

/// Progress between two checkpoints, in bytes: what a power cut can cost.
const CHECKPOINT: u64 = 32 << 20;

/// A download under way. Dropped, it stays on disk to be taken up again.
#[derive(Debug)]
pub struct Part {
    disk: Arc<Disk>,
    boot: Option<Arc<str>>,
    claim: Claim,
    folder: PathBuf,
    file: Arc<File>,
    hasher: HasherCell,
    written: u64,
    buffer: Vec<u8>,
    total: Option<u64>,
    saved: u64,
    checkpoint: Option<JoinHandle<Result<(), StorageError>>>,
    /// Some of it was written by an earlier download.
    resumed: bool,
    proven: bool,
}

/// A hasher whose inside is nobody's business.
struct HasherCell(Hasher);

impl std::fmt::Debug for HasherCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Part {
    pub(super) fn open(
        disk: Arc<Disk>,
        boot: Option<Arc<str>>,
        claim: Claim,
        total: Option<u64>,
    ) -> Result<Part, StorageError> {
        drop(disk.writing()?);
        let folder = disk.layout.fill(&claim.digest);
        let begun = folder.join(state::STATE).exists();
        let opened = Part::open_in(disk, boot, claim, total, folder.clone());
        if matches!(opened, Err(StorageError::NoSpace { .. })) && !begun {
            // A full disk is not filled further with folders of downloads that never began.
            let _ = remove(&folder);
        }
        opened
    }

    fn open_in(
        disk: Arc<Disk>,
        boot: Option<Arc<str>>,
        claim: Claim,
        total: Option<u64>,
        folder: PathBuf,
    ) -> Result<Part, StorageError> {
        durable::ensure_dir(&folder).map_err(StorageError::io("creating", &folder))?;
        let path = folder.join(PART);
        let algorithm = claim.digest.algorithm();
        let resumed = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => {
                let file = file.map_err(StorageError::io("opening", &path))?;
                let resumed = state::resume(&folder, &file, algorithm, boot.as_deref())?;
                resumed
                    .filter(|resumed| total.is_none_or(|total| resumed.offset <= total))
                    .map(|resumed| (file, resumed))
            }
        };
        let known = resumed.is_some();
        let (file, resumed) = match resumed {
            Some((file, resumed)) => {
                file.set_len(resumed.offset).map_err(StorageError::io("cutting", &path))?;
                (file, resumed)
            }
            None => (fresh(&path)?, Resumed { offset: 0, hasher: Hasher::new(algorithm), saved: 0, total: None }),
        };
        let mut part = Part {
            resumed: resumed.offset > 0,
            disk,
            boot,
            claim,
            folder,
            file: Arc::new(file),
            hasher: HasherCell(resumed.hasher),
            written: resumed.offset,
            buffer: Vec::new(),
            total: total.or(resumed.total),
            saved: resumed.saved,
            checkpoint: None,
            proven: false,
        };
        if !known {
            part.state().save(&part.folder, false)?;
        }
        part.reserve()?;
        part.checkpoint_if_due()?;
        Ok(part)
    }

    /// The digest that the bytes are to have.
    pub fn digest(&self) -> Digest {
        self.claim.digest
    }

    /// How many bytes readers can read; also where upstream is to go on after an error or a restart.
    pub fn offset(&self) -> u64 {
        self.written
    }

    /// The blob's size in bytes, if it is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Learns the blob's size, and reserves its space.
    ///
    /// Errors: [`StorageError::NoSpace`] if there is no room for it. The part can be used all the same.
    pub fn set_total(&mut self, total: u64) -> Result<(), StorageError> {
        if self.total == Some(total) {
            return Ok(());
        }
        self.total = Some(total);
        self.reserve()
    }

    /// A descriptor of its own for reading, by position. It stays good after [`commit`](Self::commit), after
    /// [`discard`](Self::discard), and, with the old bytes, after [`restart`](Self::restart).
    pub fn reader(&self) -> Result<Arc<File>, StorageError> {
        let path = self.folder.join(PART);
        File::open(&path).map(Arc::new).map_err(StorageError::io("opening", &path))
    }

    /// Takes the next bytes. Small ones are gathered: [`flush`](Self::flush) makes them readable.
    ///
    /// After an error the part ends at [`offset`](Self::offset), and bytes beyond it are to be fetched again.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.proven = false;
        if self.buffer.len() + bytes.len() < PIECE {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        if self.buffer.is_empty() {
            self.write(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
            self.flush()?;
        }
        self.checkpoint_if_due()
    }

    /// Makes everything that was appended readable.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// Whether the bytes are the blob: of its size, if that is known, and with its digest.
    pub fn verify(&mut self) -> Result<bool, StorageError> {
        self.flush()?;
        let size_is_right = self.total.is_none_or(|total| total == self.written);
        self.proven = size_is_right && self.hasher.0.clone().finish() == self.claim.digest;
        if self.proven && self.resumed {
            // The saved hash vouches for what was written then, not for what the disk has kept since.
            self.proven = self.reread()? == self.claim.digest;
        }
        Ok(self.proven)
    }

    /// The digest of what the file holds.
    fn reread(&self) -> Result<Digest, StorageError> {
        let mut hasher = Hasher::new(self.claim.digest.algorithm());
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < self.written {
            let length = (self.written - at).min(PIECE as u64) as usize;
            self.file.read_exact_at(&mut buffer[..length], at).map_err(StorageError::io("reading", &self.folder))?;
            hasher.update(&buffer[..length]);
            at += length as u64;
        }
        Ok(hasher.finish())
    }

    /// Makes it a blob, durably.
    ///
    /// Errors: [`StorageError::Unproven`] without a [`verify`](Self::verify) that said so; then it waits as if parked. After
    /// any other error nothing of it is left: a disk that does not take it now is not kept from taking something else.
    pub fn commit(mut self) -> Result<StoredBlob, StorageError> {
        if !self.proven {
            return Err(StorageError::Unproven(self.claim.digest));
        }
        let placed = self.place();
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(%error, "a finished download leaves something behind");
        }
        placed.map(|file| StoredBlob { file, size: self.written })
    }

    fn place(&mut self) -> Result<Arc<File>, StorageError> {
        self.finish_checkpoint()?;
        self.sync()?;
        let file = self.reader()?;
        blobs::place(&self.disk, &self.claim.digest, &self.folder.join(PART), self.written)?;
        Ok(file)
    }

    /// Keeps it on disk, so that it can be taken up again even after a power cut.
    pub fn park(mut self) -> Result<(), StorageError> {
        self.flush()?;
        self.finish_checkpoint()?;
        self.sync()?;
        self.state().save(&self.folder, true)
    }

    /// Removes it from disk.
    pub fn discard(mut self) -> Result<(), StorageError> {
        // How the checkpoint went no longer matters, only that it writes nothing any more.
        let _ = self.finish_checkpoint();
        remove(&self.folder)
    }

    /// Begins again with no bytes, in a new file: readers of the old one see no byte of the new.
    pub fn restart(&mut self) -> Result<(), StorageError> {
        // As in `discard`.
        let _ = self.finish_checkpoint();
        let path = self.folder.join(PART);
        self.file = Arc::new(fresh(&path)?);
        self.hasher = HasherCell(Hasher::new(self.claim.digest.algorithm()));
        (self.written, self.saved, self.resumed, self.proven) = (0, 0, false, false);
        self.buffer.clear();
        self.state().save(&self.folder, false)?;
        self.reserve()
    }

    /// Writes, and hashes what was written: the two never differ, whatever fails.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        // Hashed in pieces that the processor's cache still has from the write.
        for mut piece in bytes.chunks(PIECE) {
            while !piece.is_empty() {
                let count = match self.file.write_at(piece, self.written) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    count => count,
                };
                let count = count.map_err(StorageError::io("writing", &self.folder.join(PART)))?;
                let (done, rest) = piece.split_at(count);
                self.hasher.0.update(done);
                self.written += count as u64;
                piece = rest;
            }
        }
        Ok(())
    }

    /// Reserves the space of `total`, where the file system can. The file's length stays what was written.
    fn reserve(&mut self) -> Result<(), StorageError> {
        let Some(total) = self.total.filter(|total| *total > self.written && *total > PIECE as u64) else {
            return Ok(());
        };
        let path = self.folder.join(PART);
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.written, total - self.written) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                // What was reserved before space ran out is given back; growing first makes it a change of length.
                let _ = self.file.set_len(self.written + 1);
                let _ = self.file.set_len(self.written);
                Err(StorageError::io("reserving space for", &path)(error.into()))
            }
            // Not every file system can, and then writing tells.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn state(&self) -> State {
        State::new(self.boot.as_deref(), self.written, &self.hasher.0, self.total)
    }

    /// Every so often syncs the part and saves its state, on a thread beside the download. One that is slow is not
    /// waited for: the next comes later.
    fn checkpoint_if_due(&mut self) -> Result<(), StorageError> {
        if self.written - self.saved < CHECKPOINT
            || self.checkpoint.as_ref().is_some_and(|running| !running.is_finished())
        {
            return Ok(());
        }
        self.finish_checkpoint()?;
        self.saved = self.written;
        let (state, file, folder) = (self.state(), Arc::clone(&self.file), self.folder.clone());
        let body = move || {
            sync(&file, &folder)?;
            state.save(&folder, true)
        };
        let spawned = std::thread::Builder::new().name("lanyard-checkpoint".to_owned()).spawn(body);
        // Without a thread there is no checkpoint this time; the bytes are none the worse.
        self.checkpoint = spawned.ok();
        Ok(())
    }

    /// Awaits the checkpoint that runs. Its error is the download's: a failed sync is final.
    fn finish_checkpoint(&mut self) -> Result<(), StorageError> {
        match self.checkpoint.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        sync(&self.file, &self.folder)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(error) = self.finish_checkpoint() {
            tracing::warn!(%error, digest = %self.claim.digest, "a download cannot be kept for later");
        }
    }
}

/// A new, empty file in the place of what was there.
fn fresh(path: &Path) -> Result<File, StorageError> {
    durable::remove(path).and_then(|_| durable::create(path)).map_err(StorageError::io("creating", path))
}

/// Syncs the part. If that fails nobody knows what is on disk, so the state goes, and with it the right to go on.
fn sync(file: &File, folder: &Path) -> Result<(), StorageError> {
    let path = folder.join(PART);
    file.sync_data().map_err(|error| {
        let _ = fs::remove_file(folder.join(state::STATE));
        StorageError::io("syncing", &path)(error)
    })
}

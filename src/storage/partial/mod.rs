//! A partial file: `<folder>/<name>`, to which bytes are appended, and its hash in
//! `<folder>/state`.
//!
//! Promises: exactly the written bytes are hashed, also when a write fails. After a crash the file
//! is taken up:
//!
//! | the state file | the file is |
//! |---|---|
//! | names the boot that still runs | whole, since only the process died |
//! | names another boot, or none | cut to the durable offset, up to which it was synced |
//! | is damaged or missing, or promises too much | begun again, or forgotten: its owner says |
//!
//! In the first case the hash goes on from the durable offset.
//! Callers, one writer a file: [`super::downloads`], [`super::uploads`].

mod folder;
mod hashing;
mod state;
mod write_buffer;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
};

use bytes::{Buf as _, Bytes};
use hashing::Hashing;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use write_buffer::WriteBuffer;

pub(super) use folder::PartialFolder;
pub(super) use hashing::HashThreads;
pub(super) use state::{PartialMeta, State, boot_id, hash_from};

use super::{StorageError, blocks, durable};
use crate::oci::{Algorithm, Digest, Hasher};

/// The smallest write, except the last, in bytes: a file of smaller writes costs more to send
/// later.
const PIECE: usize = 256 * 1024;

/// The most pieces that the kernel takes in one write (IOV_MAX).
const PIECES: usize = 1024;

/// How much space is reserved ahead of the written bytes, in bytes: at least, and at most. The
/// length is the upstream's claim, and may be wrong.
const AHEAD: (u64, u64) = (64 << 20, 512 << 20);

/// Progress between two checkpoints, in bytes: a power cut can cost as much.
const CHECKPOINT: u64 = 32 << 20;

/// See the module. Dropped, it stays on disk to be taken up again.
pub(super) struct PartialFile {
    folder: PartialFolder,
    file: Arc<File>,
    algorithm: Algorithm,
    hashing: Hashing,
    written: u64,
    buffer: WriteBuffer,
    meta: PartialMeta,
    /// Up to here space is reserved.
    reserved: u64,
    /// No space is reserved beyond this.
    most: u64,
    saved: u64,
    checkpoint: Option<JoinHandle<Result<(), StorageError>>>,
}

impl PartialFile {
    /// Begins a new file, and replaces one that is there.
    pub(super) fn begin(
        folder: PartialFolder,
        algorithm: Algorithm,
        threads: &HashThreads,
        meta: PartialMeta,
    ) -> Result<PartialFile, StorageError> {
        // The folder is durable from the first state on that is saved durably: that syncs the
        // folder above as well.
        durable::ensure_dir(&folder.path).map_err(StorageError::io("creating", &folder.path))?;
        let file = Arc::new(fresh(&folder.file_path())?);
        let partial = PartialFile {
            folder,
            file,
            algorithm,
            hashing: Hashing::new(Hasher::new(algorithm), threads.clone()),
            written: 0,
            buffer: WriteBuffer::default(),
            meta,
            reserved: 0,
            most: u64::MAX,
            saved: 0,
            checkpoint: None,
        };
        partial.state()?.save(&partial.folder.path, false)?;
        Ok(partial)
    }

    /// Takes up the file that an earlier owner left, as far as it is good; `None` if nothing of it
    /// is, or if `wanted` refuses its meta data and length.
    pub(super) fn take_up(
        folder: PartialFolder,
        algorithm: Algorithm,
        threads: &HashThreads,
        wanted: impl FnOnce(&PartialMeta, u64) -> bool,
    ) -> Result<Option<PartialFile>, StorageError> {
        let path = folder.file_path();
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StorageError::io("opening", &path))?,
        };
        let resumed = state::resume(&folder.path, &file, algorithm, folder.boot.as_deref())?;
        let Some(resumed) = resumed.filter(|resumed| wanted(&resumed.meta, resumed.offset)) else {
            return Ok(None);
        };
        // This also gives back reserved space.
        file.set_len(resumed.offset).map_err(StorageError::io("cutting", &path))?;
        Ok(Some(PartialFile {
            folder,
            file: Arc::new(file),
            algorithm,
            hashing: Hashing::new(resumed.hasher, threads.clone()),
            written: resumed.offset,
            buffer: WriteBuffer::default(),
            meta: resumed.meta,
            reserved: resumed.offset,
            most: u64::MAX,
            saved: resumed.saved,
            checkpoint: None,
        }))
    }

    /// How many bytes are in the file.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes it was given: those of [`written`](Self::written), and those that are still
    /// buffered.
    pub(super) fn given(&self) -> u64 {
        self.written + self.buffer.length() as u64
    }

    /// The algorithm of its hash.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn meta(&self) -> &PartialMeta {
        &self.meta
    }

    pub(super) fn folder(&self) -> &PartialFolder {
        &self.folder
    }

    /// The digest of the bytes in the file.
    pub(super) fn digest(&self) -> Result<Digest, StorageError> {
        Ok(self.hasher()?.finish())
    }

    fn hasher(&self) -> Result<Hasher, StorageError> {
        self.hashing.hasher().map_err(StorageError::io("hashing", &self.folder.file_path()))
    }

    /// The digest of the bytes as the disk has kept them: reads the file again.
    pub(super) fn reread(&self) -> Result<Digest, StorageError> {
        let mut hasher = Hasher::new(self.algorithm);
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < self.written {
            let length = (self.written - at).min(PIECE as u64) as usize;
            let read = self.file.read_exact_at(&mut buffer[..length], at);
            read.map_err(StorageError::io("reading", &self.folder.file_path()))?;
            hasher.update(&buffer[..length]);
            at += length as u64;
        }
        Ok(hasher.finish())
    }

    /// A descriptor of its own for reading, by position. It stays good when the file is renamed or
    /// removed.
    pub(super) fn reader(&self) -> Result<Arc<File>, StorageError> {
        let path = self.folder.file_path();
        File::open(&path).map(Arc::new).map_err(StorageError::io("opening", &path))
    }

    /// Takes the next bytes. Few bytes are buffered until there are enough, or until
    /// [`flush`](Self::flush).
    pub(super) fn append(&mut self, batch: Vec<Bytes>) -> Result<(), StorageError> {
        batch.into_iter().for_each(|piece| self.buffer.push(piece));
        if self.buffer.length() < PIECE {
            return Ok(());
        }
        self.flush()
    }

    /// Writes the buffered bytes, and makes a checkpoint where one is due.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        self.reserve_if_due()?;
        self.write_buffered()?;
        self.checkpoint_if_due()
    }

    fn write_buffered(&mut self) -> Result<(), StorageError> {
        let (pieces, mut written) = (self.buffer.take(), Vec::new());
        let result = self.write(pieces, &mut written);
        // Also after an error the hash is that of the bytes in the file.
        self.hashing.update(written);
        result
    }

    /// Makes the bytes in the file survive a power cut. The state is not saved: this is for a file
    /// that is complete. Space that was reserved and not used is given back.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.finish_checkpoint()?;
        self.give_back();
        sync(&self.file, &self.folder)
    }

    /// Flushes, and makes everything survive a power cut so that it can be taken up again.
    pub(super) fn park(&mut self) -> Result<(), StorageError> {
        self.write_buffered()?;
        self.sync()?;
        self.state()?.save(&self.folder.path, true)?;
        self.saved = self.written;
        Ok(())
    }

    /// Removes it from disk.
    pub(super) fn discard(&mut self) -> Result<(), StorageError> {
        // The checkpoint's result no longer matters, only that it writes nothing any more.
        let _ = self.finish_checkpoint();
        // Readers keep the file, and with it the reserved space.
        self.give_back();
        self.folder.remove()
    }

    /// Begins again with no bytes, in a new file: readers of the old one see no byte of the new.
    pub(super) fn restart(&mut self) -> Result<(), StorageError> {
        // As in `discard`.
        let _ = self.finish_checkpoint();
        self.give_back();
        self.file = Arc::new(fresh(&self.folder.file_path())?);
        self.hashing.restart(Hasher::new(self.algorithm));
        (self.written, self.saved, self.reserved) = (0, 0, 0);
        self.meta.total = None;
        self.meta.sources.clear();
        drop(self.buffer.take());
        self.state()?.save(&self.folder.path, false)
    }

    /// Notes one more source that its bytes come from.
    pub(super) fn add_source(&mut self, source: &str) -> Result<(), StorageError> {
        self.meta.sources.push(source.to_owned());
        self.save_meta()
    }

    /// Sets the size that the file will have. Its space is reserved a step ahead of the written
    /// bytes, where the file system can; the file's length stays that of the written bytes. A size
    /// that no longer holds is removed from disk too, before bytes come that do not belong to it.
    pub(super) fn set_total(&mut self, total: Option<u64>) -> Result<(), StorageError> {
        let before = std::mem::replace(&mut self.meta.total, total);
        if before.is_some() && before != total {
            self.save_meta()?;
        }
        self.reserve_if_due()
    }

    /// Saves the state. A checkpoint under way is awaited, since it would write older data over
    /// this.
    fn save_meta(&mut self) -> Result<(), StorageError> {
        self.finish_checkpoint()?;
        self.state()?.save(&self.folder.path, false)
    }

    /// Writes all pieces with as few calls as possible. `written` gets the bytes that went out
    /// before an error.
    fn write(&mut self, pieces: Vec<Bytes>, written: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let mut left = VecDeque::from(pieces);
        while !left.is_empty() {
            let slices: Vec<_> = left.iter().take(PIECES).map(|piece| IoSlice::new(piece)).collect();
            let mut count = match rustix::io::pwritev(&*self.file, &slices, self.written) {
                Err(Errno::INTR) => continue,
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                count => count.map_err(io::Error::from),
            }
            .map_err(StorageError::io("writing", &self.folder.file_path()))?;
            self.written += count as u64;
            while let Some(piece) = left.front_mut().filter(|_| count > 0) {
                let done = count.min(piece.len());
                written.push(piece.slice(..done));
                piece.advance(done);
                count -= done;
                if piece.is_empty() {
                    left.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Sets how many bytes the file may take in all. It reserves no more.
    pub(super) fn may_take(&mut self, bytes: u64) {
        self.most = bytes;
    }

    /// Reserves the next step of the total that is known, before the last one is used up.
    fn reserve_if_due(&mut self) -> Result<(), StorageError> {
        let ahead = (self.written / 4).clamp(AHEAD.0, AHEAD.1);
        let Some(total) = self.meta.total.filter(|total| *total > self.reserved && *total > PIECE as u64) else {
            return Ok(());
        };
        if self.reserved > self.written + ahead / 2 {
            return Ok(());
        }
        let (from, to) = (self.reserved.max(self.written), total.min(self.written + ahead).min(self.most));
        if from >= to {
            return Ok(());
        }
        self.reserved = to;
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, from, to - from) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                // The space that was reserved before the disk was full is given back.
                self.give_back();
                Err(StorageError::io("reserving space for", &self.folder.file_path())(error.into()))
            }
            // Not every file system can reserve. Then a write fails when the disk is full.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives back space that was reserved and is not written. If that fails, the space stays taken
    /// until the next start or check.
    fn give_back(&mut self) {
        if self.reserved > self.written {
            self.reserved = self.written;
            if let Err(error) = blocks::cut(&self.file, self.written) {
                tracing::warn!(%error, folder = %self.folder.path.display(), "reserved space is not given back");
            }
        }
    }

    fn state(&self) -> Result<State, StorageError> {
        Ok(State::new(self.folder.boot.as_deref(), self.written, &self.hasher()?, self.meta.clone()))
    }

    /// After every [`CHECKPOINT`] bytes syncs the file and saves its state, on a thread beside the
    /// writer. The writer does not wait for a slow one: the next comes later.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), StorageError> {
        if self.written - self.saved < CHECKPOINT
            || self.checkpoint.as_ref().is_some_and(|running| !running.is_finished())
        {
            return Ok(());
        }
        self.finish_checkpoint()?;
        self.saved = self.written;
        let (state, file, folder) = (self.state()?, Arc::clone(&self.file), self.folder.clone());
        let body = move || {
            sync(&file, &folder)?;
            state.save(&folder.path, true)
        };
        let spawned = std::thread::Builder::new().name("lanyard-checkpoint".to_owned()).spawn(body);
        // Without a thread there is no checkpoint this time; no byte is lost by that.
        self.checkpoint = spawned.ok();
        Ok(())
    }

    /// Awaits the checkpoint that runs, and returns its error to the writer: a failed sync is
    /// final.
    fn finish_checkpoint(&mut self) -> Result<(), StorageError> {
        match self.checkpoint.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl std::fmt::Debug for PartialFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartialFile")
            .field("folder", &self.folder)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if let Err(error) = self.finish_checkpoint() {
            tracing::warn!(%error, folder = %self.folder.path.display(), "received content cannot be kept for later");
        }
        self.give_back();
    }
}

/// A new, empty file. One that is there is removed.
fn fresh(path: &Path) -> Result<File, StorageError> {
    durable::remove(path).and_then(|_| durable::create(path)).map_err(StorageError::io("creating", path))
}

/// Syncs the file. If that fails the content on disk is unknown, so the state file is removed, and
/// the file cannot be taken up again.
fn sync(file: &File, folder: &PartialFolder) -> Result<(), StorageError> {
    file.sync_data().map_err(|error| {
        let _ = fs::remove_file(folder.path.join(state::STATE));
        StorageError::io("syncing", &folder.file_path())(error)
    })
}

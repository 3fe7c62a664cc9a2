//! Reads a stored blob again and compares it with its digest.
//!
//! | way | reads | used by |
//! |---|---|---|
//! | [`Proof`], a piece at a time | the disk, by `O_DIRECT` | the scrub |
//! | [`BlobStore::prove_for`], at once | as a client would, the cache too | `pull` |
//! | [`BlobStore::prove`], at once | the same | `verbs/look.rs`, if a length is in doubt |
//!
//! Without `O_DIRECT` the file is read normally and its pages are dropped afterwards. The scrub's
//! reading is no use: no access time shows it. Rotten content is moved to the quarantine before the
//! caller is told. Callers: the verbs of `verbs/keep.rs`, and `verbs/look.rs`.

use std::{
    fs::File,
    io::{self, Read as _},
    num::NonZeroU64,
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use rustix::{fs::Advice, io::Errno};

use super::{
    Finder, StorageError, StoredBlob, access_time::open_unnoticed, blobs::BlobStore, disk::Disk,
    quarantine::found_rotten, rot::is_loss,
};
use crate::oci::{Digest, Hasher};

/// How much is read at once, in bytes.
pub const PIECE: usize = 1 << 20;

/// What `O_DIRECT` wants addresses, offsets and lengths to be multiples of, on every disk.
const BLOCK: usize = 4096;

/// See the module.
pub struct Proof {
    disk: Arc<Disk>,
    digest: Digest,
    file: File,
    direct: bool,
    hasher: Option<Hasher>,
    at: u64,
    buffer: Vec<u8>,
}

/// What a step of a [`Proof`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// So many bytes were read, and there are more.
    More(u64),
    /// That was all, and the blob is what its name says.
    Sound,
    /// The blob is not what its name says, or cannot be read. It is out of the way.
    Rotten,
}

impl BlobStore {
    /// As [`prove_for`](Self::prove_for), for an ordinary read.
    pub(crate) fn prove(&self, digest: &Digest) -> Result<Option<StoredBlob>, StorageError> {
        self.prove_for(digest, Finder::Read)
    }

    /// Reads a blob of any size and verifies it again, which takes a second per gigabyte or so.
    /// Content that has rotted, was cut short, or cannot be read goes to the quarantine and is
    /// `None`, so that it is fetched again.
    /// `finder` is named in the log and the counts. What is read is what a client would be given,
    /// the page cache included.
    pub(crate) fn prove_for(&self, digest: &Digest, finder: Finder) -> Result<Option<StoredBlob>, StorageError> {
        let Some(blob) = self.open(digest)? else { return Ok(None) };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = vec![0; 256 * 1024];
        let mut file = &*blob.file;
        let whole = loop {
            match file.read(&mut piece) {
                Ok(0) => break hasher.finish() == *digest,
                Ok(count) => hasher.update(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_loss(&error) => break false,
                Err(error) => return Err(StorageError::io("reading", &self.disk.layout.blob(digest))(error)),
            }
        };
        if whole {
            return Ok(Some(blob));
        }
        found_rotten(&self.disk, digest, Some(&blob.file), finder);
        Ok(None)
    }

    /// Begins to read a blob again, from the disk; `None` if it is not here.
    pub(crate) fn proof(&self, digest: &Digest) -> Result<Option<Proof>, StorageError> {
        let path = self.disk.layout.blob(digest);
        if self.disk.rots.is_stuck(digest) {
            return Ok(None);
        }
        let (file, direct) = match open_unnoticed(&path, direct_flag()) {
            Ok(file) => (Ok(file), true),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => (open_unnoticed(&path, 0), false),
            Err(error) => (Err(error), true),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_loss(&error) => {
                found_rotten(&self.disk, digest, None, Finder::Scrub);
                return Ok(None);
            }
            Err(error) => return Err(StorageError::io("opening", &path)(error)),
        };
        let hasher = Some(Hasher::new(digest.algorithm()));
        let buffer = vec![0; PIECE + BLOCK];
        Ok(Some(Proof { disk: Arc::clone(&self.disk), digest: *digest, file, direct, hasher, at: 0, buffer }))
    }
}

impl Proof {
    /// Reads and hashes the next piece. Not to be called again after another answer than
    /// [`Step::More`].
    pub fn step(&mut self) -> Result<Step, StorageError> {
        // The address, too, has to be a multiple.
        let skip = self.buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
        let read = loop {
            match self.file.read_at(&mut self.buffer[skip..skip + PIECE], self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A file system may refuse when it reads what it took when it opened, or refuse the
                // offset of a short read.
                Err(error) if self.direct && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    // From the first byte: it may be another file by now. One that is gone has
                    // no reader to harm.
                    let path = self.disk.layout.blob(&self.digest);
                    let Ok(file) = open_unnoticed(&path, 0) else { return Ok(Step::Sound) };
                    (self.file, self.direct, self.at) = (file, false, 0);
                    self.hasher = Some(Hasher::new(self.digest.algorithm()));
                }
                read => break read,
            }
        };
        let read = match read {
            Ok(read) => read,
            Err(error) if is_loss(&error) => return Ok(self.rotten()),
            Err(error) => return Err(StorageError::io("reading", &self.disk.layout.blob(&self.digest))(error)),
        };
        if read > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer[skip..skip + read]);
            }
            if !self.direct {
                // An advice: where it is not taken, nothing is lost.
                let _ = rustix::fs::fadvise(&self.file, self.at, NonZeroU64::new(read as u64), Advice::DontNeed);
            }
            self.at += read as u64;
            return Ok(Step::More(read as u64));
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.digest => Ok(self.rotten()),
            Some(_) | None => Ok(Step::Sound),
        }
    }

    fn rotten(&self) -> Step {
        found_rotten(&self.disk, &self.digest, Some(&self.file), Finder::Scrub);
        Step::Rotten
    }
}

fn direct_flag() -> i32 {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::OFlags::DIRECT.bits() as i32
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}

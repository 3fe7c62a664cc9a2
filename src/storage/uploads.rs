//! Stand-in for the uploads room.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    io::{Read, Write},
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{StorageError, StoredBlob, blobs, disk::Disk, durable};
use crate::oci::{Digest, Hasher, Repository};

/// The name of an upload: a UUID, version 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UploadId([u8; 16]);

/// Not a UUID.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not a UUID")]
pub struct NotAnUploadId;

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for UploadId {
    type Err = NotAnUploadId;

    fn from_str(s: &str) -> Result<Self, NotAnUploadId> {
        let hex: String = s.chars().filter(|c| *c != '-').collect();
        let mut id = [0; 16];
        if hex.len() != 32 || !hex.is_ascii() {
            return Err(NotAnUploadId);
        }
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).map_err(|_| NotAnUploadId)?;
        }
        let id = UploadId(id);
        if id.to_string() == s { Ok(id) } else { Err(NotAnUploadId) }
    }
}

/// Uploads under way.
#[derive(Clone, Debug)]
pub struct Uploads {
    disk: Arc<Disk>,
    open: Arc<Mutex<HashSet<UploadId>>>,
}

/// One upload, open for writing.
#[derive(Debug)]
pub struct Upload {
    uploads: Uploads,
    id: UploadId,
    file: File,
    offset: u64,
}

impl Uploads {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Uploads { disk, open: Arc::default() }
    }

    fn folder(&self, id: &UploadId) -> PathBuf {
        self.disk.layout.root().join("uploads").join(id.to_string())
    }

    /// Begins one.
    pub fn begin(&self, repo: &Repository) -> Result<UploadId, StorageError> {
        let mut id: [u8; 16] = rand::random();
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let id = UploadId(id);
        let folder = self.folder(&id);
        durable::ensure_dir(&folder).map_err(StorageError::io("creating", &folder))?;
        fs::write(folder.join("data"), "").map_err(StorageError::io("creating", &folder))?;
        fs::write(folder.join("repo"), repo.to_string()).map_err(StorageError::io("creating", &folder))?;
        Ok(id)
    }

    fn of(&self, repo: &Repository, id: &UploadId) -> bool {
        fs::read_to_string(self.folder(id).join("repo")).is_ok_and(|name| name == repo.to_string())
    }

    /// Opens one.
    pub fn open(&self, repo: &Repository, id: &UploadId) -> Result<Option<Upload>, StorageError> {
        if !self.of(repo, id) {
            return Ok(None);
        }
        if !self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(*id) {
            return Err(StorageError::UploadBusy(*id));
        }
        let path = self.folder(id).join("data");
        let file = File::options().read(true).append(true).open(&path).map_err(StorageError::io("opening", &path))?;
        let offset = file.metadata().map_err(StorageError::io("looking at", &path))?.len();
        Ok(Some(Upload { uploads: self.clone(), id: *id, file, offset }))
    }

    /// Its durable bytes.
    pub fn offset(&self, repo: &Repository, id: &UploadId) -> Result<Option<u64>, StorageError> {
        if !self.of(repo, id) {
            return Ok(None);
        }
        Ok(fs::metadata(self.folder(id).join("data")).ok().map(|m| m.len()))
    }

    /// Removes one.
    pub fn cancel(&self, repo: &Repository, id: &UploadId) -> Result<bool, StorageError> {
        Ok(self.of(repo, id) && fs::remove_dir_all(self.folder(id)).is_ok())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        fs::read_dir(self.disk.layout.root().join("uploads")).map_or(0, |entries| entries.count())
    }
}

impl Upload {
    /// How much there is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.uploads.folder(&self.id);
        self.file.write_all(bytes).map_err(StorageError::io("writing", &path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Keeps it.
    pub fn park(self) -> Result<u64, StorageError> {
        let path = self.uploads.folder(&self.id);
        self.file.sync_data().map_err(StorageError::io("syncing", &path))?;
        Ok(self.offset)
    }

    /// Makes it a blob.
    pub fn finish(self, digest: &Digest) -> Result<StoredBlob, StorageError> {
        let folder = self.uploads.folder(&self.id);
        let path = folder.join("data");
        let mut hasher = Hasher::new(digest.algorithm());
        let mut file = File::open(&path).map_err(StorageError::io("opening", &path))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(StorageError::io("reading", &path))? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        if hasher.finish() != *digest {
            let _ = fs::remove_dir_all(&folder);
            return Err(StorageError::WrongDigest(*digest));
        }
        self.file.sync_data().map_err(StorageError::io("syncing", &path))?;
        blobs::place(&self.uploads.disk, digest, &path, self.offset)?;
        let _ = fs::remove_dir_all(&folder);
        Ok(StoredBlob { file: Arc::new(file), size: self.offset })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploads.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What may not be collected yet.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<HashMap<Digest, Instant>>>);

impl Leases {
    /// Protects for an hour.
    pub fn touch(&self, digest: &Digest) {
        let until = Instant::now() + Duration::from_secs(3600);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, until);
    }
}

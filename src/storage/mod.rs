//! The disk: truth in files, and an index over them (DESIGN.md section 3).
//!
//! Promises:
//! - What a call acknowledged is there after `kill -9`, and, but for the unfinished tail of a download, after a power
//!   cut. What is not complete and verified is never visible as a blob.
//! - Files are the truth. The index may be deleted at any moment; nothing is lost and nothing waits for it.
//! - One process per folder. A second one is told which.
//! - A full disk is [`StorageError::NoSpace`], a read-only file system [`StorageError::ReadOnly`]; reading goes on.
//!
//! Everything here blocks: callers put it on threads that may. Everything is `Send + Sync`. Callers: the pull story,
//! the push story, the upkeep, and the app, which opens and closes it.

mod blobs;
mod blocks;
mod catalog;
mod census;
mod check;
mod claims;
mod disk;
mod durable;
mod error;
mod generations;
mod growing;
mod index;
mod layout;
mod leases;
mod lock;
mod names;
mod parts;
mod proof;
mod rebuild;
mod record;
mod rot;
mod scrubbing;
mod shards;
mod space;
#[cfg(test)]
mod tests;
mod uploads;

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    blobs::{BlobStore, FsBlobs, Removal, StoredBlob},
    catalog::{Catalog, LinkRecord, LinkRight, Presence, TagRecord},
    check::{CheckError, CheckOptions, CheckReport, Corrupt, Damaged, Mended, Missing, Needed, Reserved, check},
    error::{OpenError, StorageError},
    leases::{Claim, Hold, Leases, Respect},
    parts::{Part, Parts},
    proof::{PIECE, Proof, Step},
    rot::{Finder, RotCount},
    scrubbing::{Scrubbed, Scrubbing},
    shards::Stored,
    uploads::{Upload, UploadId, UploadIdError, Uploads},
};
use crate::{config::MinFree, oci::Digest};
use disk::{Disk, Gate};
use index::Index;
use layout::Layout;
use lock::Lock;
use rebuild::Rebuild;
use space::Space;

/// After which an abandoned download is removed.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How much may be kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// The most bytes of cached blobs, which are those that no hosted repository links; `None`: as many as fit.
    pub max_size: Option<u64>,
    /// The free space that is left to the disk.
    pub min_free: MinFree,
}

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Blobs, manifests included.
    pub blobs: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Of those bytes, the ones that a hosted repository links, whoever else does. The others are
    /// cached.
    pub hosted: u64,
    /// Of those blobs, the ones that a hosted repository links.
    pub hosted_blobs: u64,
    /// Whether everything is counted yet. After a crash it takes a while; until then this is a lower bound.
    pub complete: bool,
}

/// An open data folder.
#[derive(Debug)]
pub struct Storage {
    /// Blobs and manifests.
    pub blobs: BlobStore,
    /// Tags and links.
    pub catalog: Catalog,
    /// Downloads under way.
    pub parts: Parts,
    /// Pushes of blobs under way.
    pub uploads: Uploads,
    /// Who counts on content being here.
    pub leases: Leases,
    limits: Limits,
    rebuild: Rebuild,
    disk: Arc<Disk>,
}

/// What an orderly stop leaves: its presence says that nothing has changed since.
#[derive(Serialize, Deserialize)]
struct CleanMark {
    /// What the index must hold to be believed; `None` if it is not to be.
    token: Option<u64>,
    /// Who closed it, as in `LOCK`. A mark that was copied back from earlier names another than the last holder.
    #[serde(default)]
    holder: String,
    blobs: u64,
    bytes: u64,
    #[serde(default)]
    hosted: u64,
    #[serde(default)]
    hosted_blobs: u64,
}

impl Storage {
    /// Opens the folder `dir`, which is created if it is not there, and takes its lock. On a read-only file system a
    /// folder that already has data is opened for reading: [`writable`](Self::writable) is `false` then.
    ///
    /// Returns as soon as requests can be served; the index opens, or is filled from the files, in the background.
    pub fn open(dir: &Path, limits: Limits) -> Result<Storage, OpenError> {
        let layout = Layout::new(dir);
        match durable::ensure_dir(dir).map_err(OpenError::io(dir, dir)).and_then(|()| Lock::take(&layout)) {
            Err(OpenError::ReadOnly(_)) if layout.exists() => {
                let lock = Lock::take_read_only(&layout)?;
                layout.check_format()?;
                tracing::warn!(dir = %dir.display(), "the data folder is read-only: it is served, and nothing is stored");
                Ok(Self::build(layout, limits, lock.map(Arc::new), Gate::ReadOnly, None))
            }
            Err(error) => Err(error),
            Ok(lock) => {
                layout.check_format()?;
                // Who made it may have died before it synced this. The folder above need not be one that may be opened.
                let _ = durable::sync_dir(durable::above(dir));
                match layout.create() {
                    Err(error @ OpenError::NoSpace(_)) if layout.exists() => {
                        tracing::warn!(%error, "nothing is stored")
                    }
                    created => created?,
                }
                let mark = take_clean_mark(&layout, &lock)?;
                Ok(Self::build(layout, limits, Some(Arc::new(lock)), Gate::Open, mark))
            }
        }
    }

    fn build(layout: Layout, limits: Limits, lock: Option<Arc<Lock>>, gate: Gate, mark: Option<CleanMark>) -> Storage {
        let token = mark.as_ref().and_then(|mark| mark.token);
        let known = mark.map(|CleanMark { blobs, bytes, hosted, hosted_blobs, .. }| Usage {
            blobs,
            bytes,
            hosted,
            hosted_blobs,
            complete: true,
        });
        let index = match gate {
            Gate::Open => Index::start(layout.index(), token, Space::new(layout.root().to_owned(), limits.min_free)),
            Gate::ReadOnly | Gate::Closed => Index::none(),
        };
        let disk = Arc::new(Disk::new(layout, limits.min_free, lock, gate, known, index));
        let catalog = Catalog::new(Arc::clone(&disk));
        let boot: Option<Arc<str>> = growing::boot_id().map(Arc::from);
        let parts = Parts::new(Arc::clone(&disk), boot.clone());
        Storage {
            blobs: BlobStore::file_system(Arc::clone(&disk)),
            rebuild: Rebuild::start(Arc::clone(&disk), catalog.clone(), parts.clone()),
            catalog,
            parts,
            uploads: Uploads::new(Arc::clone(&disk), boot),
            leases: disk.leases.clone(),
            limits,
            disk,
        }
    }

    /// Waits until the index is filled and everything is counted, then closes. Says whether the next start finds a good
    /// index. For the check.
    fn fill_index(self) -> bool {
        self.rebuild.finish();
        self.close();
        record::read::<CleanMark>(&self.disk.layout.clean_mark())
            .is_ok_and(|mark| mark.is_some_and(|mark| mark.token.is_some()))
    }

    /// The orderly stop: awaits the background work, flushes the index and marks it clean. From then on everything can
    /// be read and nothing changed. A second call does nothing.
    pub fn close(&self) {
        self.rebuild.stop();
        if !self.disk.close_gate() {
            return;
        }
        let token = self.disk.index.close();
        let Usage { blobs, bytes, hosted, hosted_blobs, complete } = self.disk.census.usage();
        if !complete {
            return;
        }
        let path = self.disk.layout.clean_mark();
        let holder = self.disk.lock.as_ref().map(|lock| lock.holder.clone()).unwrap_or_default();
        let written = record::encode(&CleanMark { token, holder, blobs, bytes, hosted, hosted_blobs })
            .map_err(std::io::Error::other)
            .and_then(|text| self.disk.temporaries.replace(&path, &text))
            .and_then(|()| durable::sync_dir(self.disk.layout.root()));
        if let Err(error) = written {
            tracing::warn!(%error, "the index is not marked clean; the next start fills it anew");
        }
    }

    /// Whether anything can be stored now. Follows the file system, as of at most a second ago.
    pub fn writable(&self) -> bool {
        self.disk.writing().is_ok() && self.disk.space.file_system().is_none_or(|fs| !fs.read_only)
    }

    /// Whether `bytes` more may be cached: within `max_size`, and leaving `min_free`. Cheap enough for every request.
    pub fn room_for(&self, bytes: u64) -> bool {
        let fits = |max| {
            let usage = self.usage();
            usage.bytes.saturating_sub(usage.hosted).saturating_add(bytes) <= max
        };
        self.limits.max_size.is_none_or(fits) && self.writable() && self.disk.space.has_room(bytes)
    }

    /// Whether `bytes` more may be pushed, which are then written at once: leaving `min_free`. `max_size` is for what is cached.
    /// Where nothing can be written at all, it is the writing that says so.
    pub fn room_to_host(&self, bytes: u64) -> bool {
        !self.writable() || self.disk.space.take(bytes)
    }

    /// How much is kept.
    pub fn usage(&self) -> Usage {
        self.disk.census.usage()
    }

    /// What was found rotten since the start, by who found it.
    pub fn rotten(&self) -> [RotCount; 3] {
        self.disk.rots.found()
    }

    /// Whether reads come from the index. Files serve them otherwise, with the same answers.
    pub fn index_is_ready(&self) -> bool {
        self.disk.index.is_ready()
    }

    /// When the blob was last opened, in seconds since 1970, to about a minute; `None` if the index does not know.
    pub fn last_access(&self, digest: &Digest) -> Option<u64> {
        self.disk.index.accessed(digest)
    }
}

impl Drop for Storage {
    /// A drop without [`close`](Self::close) leaves what a crash leaves, but no thread.
    fn drop(&mut self) {
        self.rebuild.stop();
    }
}

/// Reads the clean mark and removes it, durably: from now on a crash leaves none.
fn take_clean_mark(layout: &Layout, lock: &Lock) -> Result<Option<CleanMark>, OpenError> {
    let path = layout.clean_mark();
    let mark: Option<CleanMark> = record::read(&path).ok().flatten();
    if durable::remove(&path).map_err(OpenError::io(layout.root(), &path))? {
        durable::sync_dir(layout.root()).map_err(OpenError::io(layout.root(), layout.root()))?;
    }
    Ok(mark.filter(|mark| mark.holder == lock.before))
}

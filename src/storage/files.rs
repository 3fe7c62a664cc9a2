//! An open data folder, as blocking code. The verbs of [`Storage`](super::Storage) are made of it.
//!
//! Opening takes the lock and returns as soon as requests can be served; the index opens, or is
//! filled from the files, in the background. [`Files::close`] is the orderly stop; a drop without
//! it leaves what a crash leaves. Callers: `Storage`; the check, which has the folder to itself.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    Lack, Limits, OpenError, Reservation, StorageError, Usage,
    blobs::BlobStore,
    catalog::{Catalog, FileCatalog},
    disk::{Disk, WriteGate},
    downloads::Downloads,
    durable,
    index::Index,
    layout::Layout,
    leases::Leases,
    lock::Lock,
    manifest_uses::ManifestUses,
    partial,
    pins::Pins,
    rebuild::Rebuild,
    record,
    room::Promise,
    rot::RotCount,
    space::Space,
    uploads::Uploads,
};
use crate::oci::Digest;

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Files {
    /// Blobs and manifests.
    pub(crate) blobs: BlobStore,
    /// Tags and links.
    pub(crate) catalog: Catalog,
    /// Downloads under way.
    pub(crate) downloads: Downloads,
    /// Pushes of blobs under way.
    pub(crate) uploads: Uploads,
    /// The images that are never evicted.
    pub(crate) pins: Pins,
    /// Keep content from being removed.
    pub(crate) leases: Leases,
    /// The uses of manifests and of what they name.
    pub(super) manifest_uses: ManifestUses,
    rebuild: Rebuild,
    pub(super) disk: Arc<Disk>,
}

/// What an orderly stop leaves: its presence says that nothing has changed since.
#[derive(Serialize, Deserialize)]
pub(super) struct CleanMark {
    /// What the index must hold to be believed; `None` if it is not to be.
    token: Option<u64>,
    /// The process that closed the folder, as in `LOCK`. A mark that was copied back from an
    /// earlier time names another process than the last holder.
    #[serde(default)]
    holder: String,
    blobs: u64,
    bytes: u64,
    #[serde(default)]
    hosted: u64,
    #[serde(default)]
    hosted_blobs: u64,
}

impl Files {
    /// Opens the folder `dir`, which is created if it is not there, and takes its lock. On a
    /// read-only file system a folder that already has data is opened for reading:
    /// [`writable`](Self::writable) is `false` then.
    ///
    /// Returns as soon as requests can be served; the index opens, or is filled from the files, in
    /// the background.
    pub(crate) fn open(dir: &Path, limits: Limits) -> Result<Files, OpenError> {
        let layout = Layout::new(dir);
        match durable::ensure_dir(dir).map_err(OpenError::io(dir, dir)).and_then(|()| Lock::take(&layout)) {
            Err(OpenError::ReadOnly(_)) if layout.exists() => {
                let lock = Lock::take_read_only(&layout)?;
                layout.check_format()?;
                tracing::warn!(dir = %dir.display(), "the data folder is read-only: it is served, and nothing is stored");
                Ok(Self::build(layout, limits, lock.map(Arc::new), WriteGate::ReadOnly, None))
            }
            Err(error) => Err(error),
            Ok(lock) => {
                layout.check_format()?;
                // The process that made the folder may have died before it synced the one above. An
                // error is ignored: this user may be unable to open that one.
                let _ = durable::sync_dir(durable::above(dir));
                match layout.create() {
                    Err(error @ OpenError::NoSpace(_)) if layout.exists() => {
                        tracing::warn!(%error, "nothing is stored")
                    }
                    created => created?,
                }
                let mark = take_clean_mark(&layout, &lock)?;
                Ok(Self::build(layout, limits, Some(Arc::new(lock)), WriteGate::Open, mark))
            }
        }
    }

    pub(super) fn build(
        layout: Layout,
        limits: Limits,
        lock: Option<Arc<Lock>>,
        gate: WriteGate,
        mark: Option<CleanMark>,
    ) -> Files {
        let token = mark.as_ref().and_then(|mark| mark.token);
        let known = mark.map(|CleanMark { blobs, bytes, hosted, hosted_blobs, .. }| Usage {
            blobs,
            bytes,
            hosted,
            hosted_blobs,
            complete: true,
        });
        let index = match gate {
            WriteGate::Open => {
                Index::start(layout.index(), token, Space::new(layout.root().to_owned(), limits.min_free))
            }
            WriteGate::ReadOnly | WriteGate::Closed => Index::none(),
        };
        let disk = Arc::new(Disk::new(layout, limits, lock, gate, known, index));
        let catalog = FileCatalog::new(Arc::clone(&disk));
        let boot: Option<Arc<str>> = partial::boot_id().map(Arc::from);
        let downloads = Downloads::new(Arc::clone(&disk), boot.clone());
        if let Err(error) = downloads.count_leftovers() {
            tracing::warn!(%error, "what unfinished downloads hold is not counted");
        }
        Files {
            blobs: BlobStore::new(Arc::clone(&disk)),
            rebuild: Rebuild::start(Arc::clone(&disk), catalog.clone(), downloads.clone()),
            manifest_uses: ManifestUses::start(BlobStore::new(Arc::clone(&disk))),
            catalog: Catalog::Files(catalog),
            downloads,
            uploads: Uploads::new(Arc::clone(&disk), boot),
            pins: Pins::new(Arc::clone(&disk)),
            leases: disk.leases.clone(),
            disk,
        }
    }

    /// Waits until the index is filled and everything is counted, then closes. Says whether the
    /// next start finds a good index. For the check.
    pub(super) fn fill_index(self) -> bool {
        self.rebuild.finish();
        self.close();
        record::read::<CleanMark>(&self.disk.layout.clean_mark())
            .is_ok_and(|mark| mark.is_some_and(|mark| mark.token.is_some()))
    }

    /// The orderly stop: awaits the background work, flushes the index and marks it clean. From
    /// then on everything can be read and nothing changed. A second call does nothing.
    pub(crate) fn close(&self) {
        self.rebuild.stop();
        self.manifest_uses.stop();
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
    pub(crate) fn writable(&self) -> bool {
        self.disk.writable()
    }

    /// Whether `bytes` more may be cached: within `max_size`, and leaving `min_free`.
    pub(crate) fn room_for(&self, bytes: u64) -> bool {
        self.disk.ledger.fits(bytes, || self.disk.cached()) && self.disk.has_space(bytes)
    }

    /// Whether `bytes` more could fit if all cached content went that may go. If only what stays is
    /// in the way, a refusal is counted.
    pub(crate) fn could_fit(&self, bytes: u64) -> bool {
        let Disk { ledger, space, room_queue, .. } = &*self.disk;
        if !self.writable() || ledger.max().is_some_and(|max| bytes > max) || !space.could_hold(bytes, None) {
            return false;
        }
        let fits = ledger.could_fit(bytes) && space.could_hold(bytes, self.may_go());
        if !fits {
            room_queue.refuse();
        }
        fits
    }

    /// How many bytes the eviction could set free at most, of downloads under way too once they are
    /// cached. `None`: not everything is counted yet.
    fn may_go(&self) -> Option<u64> {
        let (reserved, parked) = self.disk.ledger.promised();
        let cached = self.disk.cached().saturating_sub(self.disk.ledger.stays());
        self.usage().complete.then(|| cached.saturating_add(reserved).saturating_add(parked))
    }

    /// How many bytes have to go before `bytes` more fit. Where files are missing, it is the bytes
    /// of as many average blobs.
    pub(crate) fn lack(&self, bytes: u64) -> Lack {
        self.disk.give_back_what_was_read();
        let usage = self.usage();
        let of_files = self.disk.space.files_lack().saturating_mul((usage.bytes / usage.blobs.max(1)).max(1));
        Lack {
            of_max_size: self.disk.ledger.lack(bytes, || self.disk.cached()),
            of_disk: self.disk.space.lack(bytes).max(of_files),
            unconfirmed: self.disk.space.overdrawn(),
        }
    }

    /// Whether everything is counted that `max_size` limits.
    pub(crate) fn is_counted(&self) -> bool {
        !self.disk.ledger.is_bounded() || self.usage().complete
    }

    /// Room for content of a digest, with what an earlier download left of it.
    pub(crate) fn reserve(&self, digest: Digest, bytes: u64) -> Option<Reservation> {
        self.disk.give_back_what_was_read();
        let reservation = self.disk.ledger.reserve(digest, bytes, || self.disk.cached())?;
        self.disk.has_space(bytes).then_some(reservation)
    }

    /// Room for content that is in memory.
    pub(super) fn promise(&self, bytes: u64) -> Option<Promise> {
        let promise = self.disk.ledger.promise(bytes, || self.disk.cached())?;
        self.disk.has_space(bytes).then_some(promise)
    }

    /// Fails unless `bytes` more may be pushed, which are then written at once: leaving `min_free`;
    /// `max_size` is for what is cached. Where nothing can be written at all, the writing says so.
    pub(crate) fn room_to_push(&self, bytes: u64) -> Result<(), StorageError> {
        if !self.writable() {
            return Ok(());
        }
        if self.disk.space.take(bytes) {
            self.disk.space.pushed.fetch_add(bytes, Ordering::Relaxed);
            return Ok(());
        }
        Err(StorageError::NoSpace { doing: "making room in", path: self.disk.layout.root().to_owned() })
    }

    /// How much is kept.
    pub(crate) fn usage(&self) -> Usage {
        self.disk.census.usage()
    }

    /// What was found rotten since the start, by who found it.
    pub(crate) fn rotten(&self) -> [RotCount; 3] {
        self.disk.rots.found()
    }

    /// Whether reads come from the index. Files serve them otherwise, with the same answers.
    pub(crate) fn index_is_ready(&self) -> bool {
        self.disk.index.is_ready()
    }

    /// Waits until the index has everything that was queued for it.
    #[cfg(test)]
    pub(crate) fn index_has_caught_up(&self) {
        let nothing = self.disk.index.feed(Vec::new());
        nothing.recv().expect("the index is off");
    }
}

impl Drop for Files {
    /// A drop without [`close`](Self::close) leaves what a crash leaves, but no thread.
    fn drop(&mut self) {
        self.rebuild.stop();
        self.manifest_uses.stop();
    }
}

/// Reads the clean mark and removes it, durably: from now on a crash leaves none.
pub(super) fn take_clean_mark(layout: &Layout, lock: &Lock) -> Result<Option<CleanMark>, OpenError> {
    let path = layout.clean_mark();
    let mark: Option<CleanMark> = record::read(&path).ok().flatten();
    if durable::remove(&path).map_err(OpenError::io(layout.root(), &path))? {
        durable::sync_dir(layout.root()).map_err(OpenError::io(layout.root(), layout.root()))?;
    }
    Ok(mark.filter(|mark| mark.holder == lock.before))
}

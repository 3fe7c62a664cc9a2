//! The data folder: files are the truth, and an index lies over them (DESIGN.md section 3).
//!
//! [`Storage`] speaks about a hundred verbs, in nine groups: look, commit, stage, keep, pins, kept,
//! forget, room, uses (`verbs/`). An operator's looks are in `contents.rs`, `reasons.rs` and
//! `savings.rs`. Each verb is one hop to a thread that may block; those that are not `async` answer
//! from memory, or with a look or two at the disk, and say so.
//!
//! Promises:
//! - What a verb acknowledged is there after `kill -9` and, except for the unfinished tail of a
//!   download, after a power cut. Content that is not complete and verified is never visible.
//! - A verb that has begun runs to its end, also when its caller is dropped.
//! - Files are the truth. The index may be deleted at any moment; nothing is lost, and nothing
//!   waits for it.
//! - One process per folder. A second one is told which process has it.
//! - A full disk is [`StorageError::NoSpace`], a read-only file system [`StorageError::ReadOnly`];
//!   reading goes on.
//! - Downloads together never promise more bytes than `max_size` allows (`room.rs`).
//!
//! Callers: pull, push, the retention, the administration, and the app, which opens and closes it.

mod access_time;
mod blob_iter;
mod blob_use;
mod blobs;
mod blocks;
mod came_back;
mod catalog;
mod census;
mod check;
mod contents;
mod disk;
mod downloads;
mod durable;
mod error;
mod evict;
mod far;
mod files;
mod forget;
mod index;
mod kept_content;
mod keyed_lock;
mod layout;
mod leases;
mod lock;
mod manifest_uses;
mod names;
pub(crate) mod needs;
mod partial;
mod pins;
mod proof;
mod quarantine;
mod readers;
mod reasons;
mod rebuild;
mod record;
mod room;
mod room_queue;
mod rot;
mod savings;
mod scrubbing;
mod served;
mod space;
#[cfg(test)]
mod suite;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uploads;
mod usage;
mod verbs;
mod versions;

use std::{path::Path, sync::Arc};

use tokio::sync::Mutex;

use self::files::Files;
pub use self::{
    blob_use::BlobUse,
    blobs::Removal,
    came_back::Refetched,
    catalog::{LinkRecord, LinkRight, MOVES, PastTarget, Presence, TagHistory, TagRecord},
    check::{CheckError, CheckOptions, CheckReport, Corrupt, Damaged, Mended, Missing, Needed, Reserved, check},
    contents::{Contents, Part, PartKind, Untagged},
    error::{OpenError, StorageError},
    evict::{Eviction, KeptFor},
    far::{Far, FarError, FarOpenError, Finding, Page, PartMark, Reach, Session, Version},
    forget::{Gone, Leaving},
    kept_content::Wanted,
    leases::{Hold, Respect},
    needs::{Unneeded, Unsure},
    pins::{Pin, PinList, PinReason, Untold},
    proof::{PIECE, Proof, Step},
    readers::{KeptOpen, StoredBlob},
    reasons::Relation,
    room::Reservation,
    room_queue::{RoomNeed, RoomWaits},
    rot::{Finder, RotCount},
    savings::{Flow, SavingsRecord, UpstreamRecord},
    scrubbing::{Scrubbed, Scrubbing},
    space::disk_size,
    uploads::{UploadId, UploadIdError},
    usage::{Lack, Limits, Usage},
    verbs::{
        AheadOfTime, Change, CommitError, Download, Expectation, Found, HeldCommits, Holder, IfLinked, Prospect,
        Refusal, Tags, Unlinked, Upload, Walk,
    },
};
use crate::runtime::BlockingPool;

/// The number of locks that all repositories share. A hash of its name gives each one its lock.
const LOCKS: usize = 64;

/// How many writes and syncs may wait for the disk at a time.
const WRITERS: usize = 32;

/// An open data folder. Cheap to share; see the module for its promises.
#[derive(Clone, Debug)]
pub struct Storage {
    files: Arc<Files>,
    /// For reading.
    reading: BlockingPool,
    /// For work that ends in a sync: a slow disk then keeps no reader waiting.
    writing: BlockingPool,
    /// A commit holds the lock of its repository.
    commits: Arc<[Arc<Mutex<()>>]>,
}

impl Storage {
    /// Opens the folder `dir`, which is created if it is not there, and takes its lock. On a
    /// read-only file system a folder that already has data is opened for reading:
    /// [`writable`](Self::writable) is `false` then. Blocks for a moment; the index opens, or is
    /// filled from the files, in the background.
    ///
    /// Reads run on `pool`, writes on threads of their own of the same runtime.
    ///
    /// # Errors
    /// [`OpenError`]: one line each, which says what to do.
    pub fn open(dir: &Path, limits: Limits, pool: BlockingPool) -> Result<Storage, OpenError> {
        Ok(Self::of(Files::open(dir, limits)?, pool))
    }

    fn of(files: Files, pool: BlockingPool) -> Storage {
        Storage {
            files: Arc::new(files),
            writing: pool.apart(WRITERS),
            reading: pool,
            commits: (0..LOCKS).map(|_| Arc::default()).collect(),
        }
    }

    /// The same folder, with every verb on `pool`: background work keeps no client waiting.
    pub fn on(&self, pool: BlockingPool) -> Storage {
        Storage { reading: pool.clone(), writing: pool, ..self.clone() }
    }

    /// The orderly stop. Awaits the background work, flushes the index and marks it clean. From
    /// then on everything can be read and nothing changed. A second call does nothing. Blocks.
    pub fn close(&self) {
        self.files.close();
    }

    /// The blocking half, for tests that arrange files and look at them.
    #[cfg(test)]
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Runs `work` on a reading thread.
    async fn read_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let files = Arc::clone(&self.files);
        self.reading.run(move || work(&files)).await.map_err(|_| StorageError::Lost)?
    }

    /// Runs `work` on a writing thread.
    async fn write_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let files = Arc::clone(&self.files);
        self.writing.run(move || work(&files)).await.map_err(|_| StorageError::Lost)?
    }
}

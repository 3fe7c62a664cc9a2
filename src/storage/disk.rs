//! The state that the blobs, the catalogue, the downloads and the uploads share: paths, room,
//! counts, the index, leases, and the gate that every write passes.
//!
//! Promises: after [`Disk::close_gate`] no file changes that the index or the counts follow. The
//! gate's states are those of [`WriteGate`]; `ReadOnly` and `Closed` are final. Callers: the files
//! of this room.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{
    Limits, StorageError, Usage,
    access_time::Stamps,
    came_back::CameBack,
    census::Census,
    durable::{Folders, Temporaries},
    index::Index,
    layout::Layout,
    leases::Leases,
    lock::Lock,
    partial::HashThreads,
    readers::Readers,
    room::{Ledger, Promise},
    room_queue::RoomQueue,
    rot::Rots,
    space::Space,
    versions::Versions,
};
use crate::oci::Digest;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) layout: Layout,
    pub(super) temporaries: Temporaries,
    pub(super) folders: Folders,
    pub(super) space: Space,
    pub(super) ledger: Ledger,
    pub(super) census: Census,
    pub(super) index: Index,
    pub(super) leases: Leases,
    pub(super) versions: Versions,
    pub(super) rots: Rots,
    pub(super) readers: Readers,
    /// Removed content that somebody still reads. Its bytes count as reserved until then.
    unlinked: Mutex<Vec<(Digest, Promise)>>,
    pub(super) came_back: CameBack,
    pub(super) room_queue: Arc<RoomQueue>,
    pub(super) stamps: Stamps,
    pub(super) hash_threads: HashThreads,
    /// The lock of the folder. It lives as long as any part of this process can write.
    pub(super) lock: Option<Arc<Lock>>,
    pub(super) gate: RwLock<WriteGate>,
}

/// Whether the folder may be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteGate {
    /// Yes.
    Open,
    /// Never: the folder was opened on a read-only file system.
    ReadOnly,
    /// No more: the clean mark is written, or is about to be.
    Closed,
}

impl Disk {
    /// `known`: the usage at the last orderly stop.
    pub(super) fn new(
        layout: Layout,
        limits: Limits,
        lock: Option<Arc<Lock>>,
        gate: WriteGate,
        known: Option<Usage>,
        index: Index,
    ) -> Disk {
        let room_queue = Arc::new(RoomQueue::new());
        Disk {
            temporaries: Temporaries::new(layout.tmp()),
            folders: Folders::new(layout.root()),
            space: Space::new(layout.root().to_owned(), limits.min_free),
            ledger: Ledger::new(limits.max_size, Arc::clone(&room_queue)),
            census: Census::new(known),
            index,
            leases: Leases::new(),
            versions: Versions::new(),
            rots: Rots::default(),
            readers: Readers::new(),
            unlinked: Mutex::default(),
            came_back: CameBack::default(),
            room_queue,
            stamps: Stamps::new(),
            hash_threads: HashThreads::default(),
            layout,
            gate: RwLock::new(gate),
            lock,
        }
    }

    /// Whether content can be stored now, as of at most a second ago.
    pub(super) fn writable(&self) -> bool {
        self.writing().is_ok() && self.space.file_system().is_none_or(|fs| !fs.read_only)
    }

    /// Whether the disk has space for `bytes` more and leaves `min_free`.
    pub(super) fn has_space(&self, bytes: u64) -> bool {
        self.writable() && self.space.has_room(bytes)
    }

    /// Removed content that somebody reads counts as `leaving` until nobody does.
    pub(super) fn read_to_the_end(&self, digest: Digest, leaving: Promise) {
        self.unlinked.lock().push((digest, leaving));
    }

    /// Gives back the room of removed content that nobody reads any more.
    pub(super) fn give_back_what_was_read(&self) {
        let is_over = |(digest, _): &mut (Digest, Promise)| !self.readers.is_read(digest);
        let over: Vec<_> = self.unlinked.lock().extract_if(.., is_over).collect();
        // Outside of the lock: it wakes those who wait for room.
        drop(over);
    }

    /// The bytes of complete blobs that count against `max_size`: those that no hosted repository
    /// links.
    pub(super) fn cached(&self) -> u64 {
        let usage = self.census.usage();
        usage.bytes.saturating_sub(usage.hosted)
    }

    /// The permission to change files that the index or the counts follow; closing waits until it
    /// is dropped. A thread must not ask for it twice: a closing that began in between would wait
    /// for the thread, and the thread for the closing.
    pub(super) fn writing(&self) -> Result<RwLockReadGuard<'_, WriteGate>, StorageError> {
        let gate = self.gate.read();
        match *gate {
            WriteGate::Open => Ok(gate),
            WriteGate::ReadOnly => Err(StorageError::ReadOnly),
            WriteGate::Closed => Err(StorageError::Closed),
        }
    }

    /// Closes the gate for good. Says whether it was open until now.
    pub(super) fn close_gate(&self) -> bool {
        let mut gate = self.gate.write();
        let was = *gate;
        if was == WriteGate::Open {
            *gate = WriteGate::Closed;
        }
        was == WriteGate::Open
    }
}

//! What the blobs, the catalogue, the parts and the uploads stand on together: paths, room, counts, the index, leases,
//! and the gate.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::{
    Leases, StorageError, Usage,
    census::Census,
    durable::{Folders, Temporaries},
    generations::Generations,
    index::Index,
    layout::Layout,
    lock::Lock,
    rot::Rots,
    space::Space,
};
use crate::config::MinFree;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) layout: Layout,
    pub(super) temporaries: Temporaries,
    pub(super) folders: Folders,
    pub(super) space: Space,
    pub(super) census: Census,
    pub(super) index: Index,
    pub(super) leases: Leases,
    pub(super) generations: Generations,
    pub(super) rots: Rots,
    /// Held as long as anybody is left who could write.
    pub(super) lock: Option<Arc<Lock>>,
    pub(super) gate: RwLock<Gate>,
}

/// Whether the folder may be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// Never: it was opened on a read-only file system.
    ReadOnly,
    /// No more: the clean mark is about to be, or has been, written.
    Closed,
}

impl Disk {
    /// `known`: the usage at the last orderly stop.
    pub(super) fn new(
        layout: Layout,
        min_free: MinFree,
        lock: Option<Arc<Lock>>,
        gate: Gate,
        known: Option<Usage>,
        index: Index,
    ) -> Disk {
        Disk {
            temporaries: Temporaries::new(layout.tmp()),
            folders: Folders::new(layout.root()),
            space: Space::new(layout.root().to_owned(), min_free),
            census: Census::new(known),
            index,
            leases: Leases::new(),
            generations: Generations::new(),
            rots: Rots::default(),
            layout,
            gate: RwLock::new(gate),
            lock,
        }
    }

    /// The permission to change files that the index or the counts follow; closing waits until it is dropped. Not to
    /// be asked for twice by one thread.
    pub(super) fn writing(&self) -> Result<RwLockReadGuard<'_, Gate>, StorageError> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        match *gate {
            Gate::Open => Ok(gate),
            Gate::ReadOnly => Err(StorageError::ReadOnly),
            Gate::Closed => Err(StorageError::Closed),
        }
    }

    /// Lets nobody change anything any more. Says whether that was allowed until now.
    pub(super) fn close_gate(&self) -> bool {
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let was = *gate;
        if was == Gate::Open {
            *gate = Gate::Closed;
        }
        was == Gate::Open
    }
}

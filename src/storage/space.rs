//! How much room there is on the disk: the file system's own answer, asked at most once a second.
//!
//! Promises: an answer is at most a second old, and is lowered by the bytes that
//! [`Space::take`] was told of since. Callers: `Disk`, and the index, which stays off a full disk.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::config::MinFree;

/// How long an answer is believed. Many fills may begin within it; each also reserves its space on
/// the disk.
const BELIEVED: Duration = Duration::from_secs(1);

/// The file system of the data folder.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    min_free: MinFree,
    last: Mutex<Option<(Instant, FileSystem)>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    /// Its size, in bytes.
    pub(super) total: u64,
    /// The bytes that this user may still write.
    pub(super) free: u64,
    /// Mounted read-only, perhaps since it met an error.
    pub(super) read_only: bool,
}

impl Space {
    pub(super) fn new(dir: PathBuf, min_free: MinFree) -> Self {
        Space { dir, min_free, last: Mutex::new(None) }
    }

    /// The file system as of at most a second ago; `None` if it does not answer.
    pub(super) fn file_system(&self) -> Option<FileSystem> {
        let mut last = self.last.lock();
        if let Some((_, answer)) = last.filter(|(when, _)| when.elapsed() < BELIEVED) {
            return Some(answer);
        }
        let answer = statvfs(&self.dir).ok()?;
        let answer = FileSystem {
            total: answer.f_blocks.saturating_mul(answer.f_frsize),
            free: answer.f_bavail.saturating_mul(answer.f_frsize),
            read_only: answer.f_flag.contains(StatVfsMountFlags::RDONLY),
        };
        *last = Some((Instant::now(), answer));
        Some(answer)
    }

    /// Whether `bytes` more leave `min_free` free. `true` if the file system does not answer: the
    /// write will fail then.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.file_system().is_none_or(|fs| leaves(fs, self.min_free, bytes))
    }

    /// Until the file system is asked again, its answer is raised by bytes that were just removed.
    pub(super) fn gained(&self, bytes: u64) {
        if let Some((_, answer)) = &mut *self.last.lock() {
            answer.free = answer.free.saturating_add(bytes);
        }
    }

    /// How many bytes have to go before `bytes` more leave `min_free` free.
    pub(super) fn lack(&self, bytes: u64) -> u64 {
        self.file_system().map_or(0, |fs| floor(fs, self.min_free).saturating_add(bytes).saturating_sub(fs.free))
    }

    /// Whether `bytes` leave `min_free` on a disk that is empty otherwise.
    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        self.file_system().is_none_or(|fs| floor(fs, self.min_free).saturating_add(bytes) <= fs.total)
    }

    /// As [`has_room`](Self::has_room), for bytes that are written next: until the file system is
    /// asked again, its answer is lowered by them.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let room = self.has_room(bytes);
        if let (true, Some((_, answer))) = (room, &mut *self.last.lock()) {
            answer.free = answer.free.saturating_sub(bytes);
        }
        room
    }
}

fn leaves(fs: FileSystem, min_free: MinFree, bytes: u64) -> bool {
    !fs.read_only && fs.free.checked_sub(bytes).is_some_and(|left| left >= floor(fs, min_free))
}

/// The bytes that stay free.
fn floor(fs: FileSystem, min_free: MinFree) -> u64 {
    match min_free {
        MinFree::Bytes(floor) => floor,
        // A float is exact enough for a share of a disk, and `as` saturates.
        MinFree::Percent(share) => (fs.total as f64 * share / 100.0) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_what_the_operator_wants_free() {
        let fs = FileSystem { total: 1000, free: 150, read_only: false };
        for (min_free, bytes, room) in [
            (MinFree::Percent(10.0), 50, true),
            (MinFree::Percent(10.0), 51, false),
            (MinFree::Bytes(0), 150, true),
            (MinFree::Bytes(0), 151, false),
            (MinFree::Bytes(150), 0, true),
            (MinFree::Percent(100.0), 0, false),
        ] {
            assert_eq!(leaves(fs, min_free, bytes), room, "{min_free:?} {bytes}");
        }
        assert!(!leaves(FileSystem { read_only: true, ..fs }, MinFree::Bytes(0), 0));
    }

    #[test]
    fn asks_the_real_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path().to_owned(), MinFree::Bytes(0));
        assert!(space.file_system().unwrap().total > 0);
        assert!(space.has_room(1) && !space.has_room(u64::MAX));
        let free = space.file_system().unwrap().free;
        assert!(space.take(free / 2) && space.has_room(1) && !space.has_room(free - free / 2 + 1), "it is taken");
    }
}

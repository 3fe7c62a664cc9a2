//! How much room there is on the disk: the file system's own answer, asked at most once a second.
//!
//! A file system that has a bound of files (inodes) is full as well when few are left: small blobs
//! and the links to them use them up long before the bytes.
//!
//! Promises: an answer is at most a second old, and is lowered by the bytes that
//! [`Space::take`] was told of since, and raised by those that [`Space::gained`] was told of. btrfs
//! and ZFS count removed bytes as free only after their next transaction, on btrfs half a minute
//! later. There the removed bytes count as free until the file system says so too, or until it had
//! time to; otherwise the same lack would be made up for again and again. [`Space::overdrawn`]
//! tells what such a file system has not confirmed. Callers: `Disk`, and the index, which stays off
//! a full disk.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::config::MinFree;

/// How long an answer is believed. Many fills may begin within it; each also reserves its space on
/// the disk.
const BELIEVED: Duration = Duration::from_secs(1);

/// So many files stay free: one in a hundred, within these bounds, and one in four at most.
const FILES_FREE: (u64, u64) = (16, 1000);

/// How long an answer is believed that tells of few files: a download makes three or four.
const FEW_FILES_BELIEVED: Duration = Duration::from_millis(50);

/// The types of the file systems that count removed bytes as free later: btrfs and ZFS.
const LATE: [u64; 2] = [0x9123_683e, 0x2fc1_2fc1];

/// How long they may take. A btrfs ends a transaction every 30 seconds.
const CONFIRMED: Duration = Duration::from_secs(40);

/// The size in bytes of the file system that has, or will have, this folder. `None` if it does not
/// answer.
pub fn disk_size(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let answer = statvfs(there).ok()?;
    Some(answer.f_blocks.saturating_mul(answer.f_frsize))
}

/// The file system of the data folder.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    min_free: MinFree,
    last: Mutex<Option<Seen>>,
    /// The bytes that pushes have got since the start.
    pub(super) pushed: AtomicU64,
}

/// What the file system has told, and what it has not told yet.
#[derive(Debug)]
struct Seen {
    at: Instant,
    /// Its answer, with what is known beside it.
    answer: FileSystem,
    /// The free bytes that it told of.
    told: u64,
    /// Removed bytes, and when they were, the oldest first, of a file system that tells of them
    /// later; `None`: it tells at once.
    unconfirmed: Option<VecDeque<(Instant, u64)>>,
}

impl Seen {
    /// The removed bytes that the file system has not told of.
    fn expected(&self) -> u64 {
        self.unconfirmed.iter().flatten().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The removed bytes of an earlier look that are still to be told of, now that `told` are free.
    fn still_unconfirmed(self, told: u64, now: Instant) -> Option<VecDeque<(Instant, u64)>> {
        let mut unconfirmed = self.unconfirmed?;
        unconfirmed.retain(|(removed, _)| now.saturating_duration_since(*removed) < CONFIRMED);
        let mut confirmed = told.saturating_sub(self.told);
        while let Some((_, bytes)) = unconfirmed.front_mut() {
            let of_it = confirmed.min(*bytes);
            (confirmed, *bytes) = (confirmed - of_it, *bytes - of_it);
            if *bytes > 0 {
                break;
            }
            unconfirmed.pop_front();
        }
        Some(unconfirmed)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    /// Its size, in bytes.
    pub(super) total: u64,
    /// The bytes that this user may still write.
    pub(super) free: u64,
    /// Mounted read-only, perhaps since it met an error.
    pub(super) read_only: bool,
    /// The files that it can have, and those that this user may still make. `None`: it has no
    /// bound.
    pub(super) files: Option<(u64, u64)>,
}

impl FileSystem {
    /// How many files are missing of those that stay free.
    fn files_lack(self) -> u64 {
        self.files.map_or(0, |(total, free)| stay_free(total).saturating_sub(free))
    }

    /// Whether some more downloads could use up the files that may be used.
    fn has_few_files(self) -> bool {
        self.files.is_some_and(|(total, free)| free < stay_free(total).saturating_mul(4))
    }

    fn gains_files(&mut self, number: u64) {
        self.files = self.files.map(|(total, free)| (total, free.saturating_add(number)));
    }
}

impl Space {
    pub(super) fn new(dir: PathBuf, min_free: MinFree) -> Self {
        Space { dir, min_free, last: Mutex::new(None), pushed: AtomicU64::new(0) }
    }

    /// The file system as of at most a second ago; `None` if it does not answer.
    pub(super) fn file_system(&self) -> Option<FileSystem> {
        let mut last = self.last.lock();
        let believed = |seen: &Seen| if seen.answer.has_few_files() { FEW_FILES_BELIEVED } else { BELIEVED };
        if let Some(seen) = last.as_ref().filter(|seen| seen.at.elapsed() < believed(seen)) {
            return Some(seen.answer);
        }
        let answer = statvfs(&self.dir).ok()?;
        let mut answer = FileSystem {
            total: answer.f_blocks.saturating_mul(answer.f_frsize),
            free: answer.f_bavail.saturating_mul(answer.f_frsize),
            read_only: answer.f_flag.contains(StatVfsMountFlags::RDONLY),
            files: self.files(answer.f_files, answer.f_favail),
        };
        let (at, told) = (Instant::now(), answer.free);
        let unconfirmed = match last.take() {
            Some(seen) => seen.still_unconfirmed(told, at),
            None => self.is_late().then(VecDeque::new),
        };
        let mut seen = Seen { at, answer, told, unconfirmed };
        answer.free = told.saturating_add(seen.expected());
        seen.answer = answer;
        *last = Some(seen);
        Some(answer)
    }

    /// The files that there can be and those that are free, as the file system told. Some tell that
    /// none is free, whether or not that is so: those are asked for one.
    fn files(&self, total: u64, free: u64) -> Option<(u64, u64)> {
        let is_told = total > 0 && (free > 0 || makes_a_file(&self.dir).is_err());
        is_told.then_some((total, free))
    }

    /// Whether the file system counts removed bytes as free only later.
    fn is_late(&self) -> bool {
        // The field has another width and sign on each architecture; the number is one of 32 bits.
        statfs(&self.dir).is_ok_and(|answer| LATE.contains(&(answer.f_type as u64 & 0xffff_ffff)))
    }

    /// Whether `bytes` more leave `min_free` free. `true` if the file system does not answer: the
    /// write will fail then.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.file_system().is_none_or(|fs| leaves(fs, self.min_free, bytes))
    }

    /// Bytes were removed, with a file: the file system's answer is raised by them, until it is
    /// asked again or has confirmed them.
    pub(super) fn gained(&self, bytes: u64) {
        if let Some(seen) = &mut *self.last.lock() {
            seen.answer.free = seen.answer.free.saturating_add(bytes);
            seen.answer.gains_files(1);
            if let Some(unconfirmed) = &mut seen.unconfirmed {
                unconfirmed.push_back((Instant::now(), bytes));
            }
        }
    }

    /// How many bytes are missing of `min_free` as long as the file system has not confirmed what
    /// was removed.
    pub(super) fn overdrawn(&self) -> u64 {
        let Some(fs) = self.file_system() else { return 0 };
        let expected = self.last.lock().as_ref().map_or(0, Seen::expected);
        floor(fs, self.min_free).saturating_sub(fs.free.saturating_sub(expected))
    }

    /// How many bytes have to go before `bytes` more leave `min_free` free.
    pub(super) fn lack(&self, bytes: u64) -> u64 {
        self.file_system().map_or(0, |fs| floor(fs, self.min_free).saturating_add(bytes).saturating_sub(fs.free))
    }

    /// How many files have to go before a download or a push may make some.
    pub(super) fn files_lack(&self) -> u64 {
        self.file_system().map_or(0, FileSystem::files_lack)
    }

    /// Whether `bytes` leave `min_free` once `may_go` bytes are removed, or on a disk that is empty
    /// otherwise where that is not known.
    pub(super) fn could_hold(&self, bytes: u64, may_go: Option<u64>) -> bool {
        let room = |fs: FileSystem| may_go.map_or(fs.total, |may_go| fs.free.saturating_add(may_go).min(fs.total));
        self.file_system().is_none_or(|fs| floor(fs, self.min_free).saturating_add(bytes) <= room(fs))
    }

    /// As [`has_room`](Self::has_room), for bytes that are written next: until the file system is
    /// asked again, its answer is lowered by them.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let room = self.has_room(bytes);
        if let (true, Some(seen)) = (room, &mut *self.last.lock()) {
            seen.answer.free = seen.answer.free.saturating_sub(bytes);
        }
        room
    }
}

/// How many of so many files stay free.
fn stay_free(total: u64) -> u64 {
    (total / 100).clamp(FILES_FREE.0, FILES_FREE.1).min(total / 4)
}

/// Makes a file that is gone at once, in the folder that each start empties.
fn makes_a_file(dir: &Path) -> io::Result<()> {
    let path = dir.join("tmp").join("a-file");
    drop(File::create(&path)?);
    fs::remove_file(&path)
}

fn leaves(fs: FileSystem, min_free: MinFree, bytes: u64) -> bool {
    !fs.read_only && fs.files_lack() == 0 && fs.free.checked_sub(bytes).is_some_and(|left| left >= floor(fs, min_free))
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
        let fs = FileSystem { total: 1000, free: 150, read_only: false, files: None };
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
    fn a_disk_without_files_is_full() {
        let of = |files| FileSystem { total: 1000, free: 1000, read_only: false, files };
        for (files, lack) in [
            (None, 0),
            (Some((1_000_000, 1000)), 0),
            (Some((1_000_000, 400)), 600),
            (Some((20_000, 150)), 50),
            (Some((500, 16)), 0),
            (Some((500, 0)), 16),
            (Some((8, 1)), 1),
        ] {
            assert_eq!(of(files).files_lack(), lack, "{files:?}");
            assert_eq!(leaves(of(files), MinFree::Bytes(0), 0), lack == 0, "{files:?}");
        }
    }

    #[test]
    fn no_more_could_go_than_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path().to_owned(), MinFree::Bytes(0));
        let fs = space.file_system().unwrap();
        assert!(space.could_hold(fs.total, None) && !space.could_hold(fs.total + 1, None));
        assert!(space.could_hold(fs.free, Some(0)) && space.could_hold(fs.free + 1, Some(1)));
        assert!(!space.could_hold(fs.free + 1, Some(0)) && !space.could_hold(fs.total + 1, Some(u64::MAX)));
    }

    #[test]
    fn removed_bytes_count_until_a_late_file_system_confirms_them() {
        let now = Instant::now();
        let answer = FileSystem { total: 1000, free: 100, read_only: false, files: None };
        let seen = |removed: &[(u64, u64)]| {
            let removed = removed.iter().map(|(ago, bytes)| (now - Duration::from_secs(*ago), *bytes));
            Seen { at: now, answer, told: 100, unconfirmed: Some(removed.collect()) }
        };
        let left = |removed: &[(u64, u64)], told: u64| {
            let unconfirmed = seen(removed).still_unconfirmed(told, now);
            Seen { unconfirmed, ..seen(&[]) }.expected()
        };
        assert_eq!(left(&[(20, 30), (10, 40)], 100), 70, "it says nothing yet");
        assert_eq!(left(&[(20, 30), (10, 40)], 80), 70, "others write");
        assert_eq!(left(&[(20, 30), (10, 40)], 135), 35, "the oldest first");
        assert_eq!(left(&[(20, 30), (10, 40)], 900), 0);
        assert_eq!(left(&[(41, 30), (10, 40)], 100), 40, "something else holds them");
        let at_once = Seen { unconfirmed: None, ..seen(&[]) };
        assert!(at_once.expected() == 0 && at_once.still_unconfirmed(100, now).is_none());
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

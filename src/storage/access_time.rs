//! The access time of a blob's file is the blob's last use, right to an hour.
//!
//! The index forgets the last uses in every crash; the files keep them. lanyard sets the access
//! time itself, so `noatime` changes nothing. It is never synced: it survives `kill -9`, and a
//! power cut may cost the last minutes. It is a hint: where it cannot be set, as on a read-only
//! file system, that is no error. The modification time stays: it says when the blob came.
//!
//! Without `noatime` the kernel sets it too when a file is read. A read that is no use, such as the
//! scrub's, opens the file by [`open_unnoticed`].
//!
//! Callers: the blobs; the checks, which read unnoticed.

use std::{
    fs::{File, FileTimes, Metadata},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::io::Errno;

use crate::{oci::Digest, runtime::clock};

/// How far the access time may be from the last use, in seconds.
const GRAIN: u64 = 60 * 60;

/// How many digests are told apart.
const SLOTS: usize = 4096;

/// Which access times were set, or could not be set, in this hour.
///
/// The file's own times tell whether it is due. This table keeps two that open a file at the same
/// moment, and files whose times cannot be set, from a system call each: it has a fixed size and no
/// lock. Two digests that share a slot may be tried more often.
#[derive(Debug)]
pub(super) struct Stamps(Box<[AtomicU64]>);

impl Stamps {
    pub(super) fn new() -> Self {
        Stamps((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the access time is to be set to `now`, in seconds since 1970: at most once an hour
    /// for a blob. The caller sets it then.
    pub(super) fn is_due(&self, digest: &Digest, metadata: &Metadata, now: u64) -> bool {
        let shown = metadata.atime().max(metadata.mtime()).max(0).unsigned_abs();
        now.abs_diff(shown) >= GRAIN && self.is_first(digest, now)
    }

    /// Whether it is the first time in this hour that this is asked for the digest.
    fn is_first(&self, digest: &Digest, now: u64) -> bool {
        let mut beginning = [0; 8];
        beginning.copy_from_slice(&digest.beginning()[..8]);
        let beginning = u64::from_le_bytes(beginning);
        // 0 is an empty slot.
        let mark = beginning.wrapping_add(now / GRAIN).max(1);
        self.0[beginning as usize % SLOTS].swap(mark, Ordering::Relaxed) != mark
    }
}

/// Sets the access time of a file to `now`, in seconds since 1970, if that can be done.
pub(super) fn set(file: &File, now: u64) {
    // Another user's file, or a read-only file system: the index alone knows the last use then.
    let _ = file.set_times(FileTimes::new().set_accessed(clock::time(now)));
}

/// Opens a file for reading, with these flags of the system, so that no access time shows it.
pub(super) fn open_unnoticed(path: &Path, flags: i32) -> io::Result<File> {
    let open = |flags| File::options().read(true).custom_flags(flags).open(path);
    match open(flags | unnoticed_flag()) {
        // Only the owner of a file may.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => open(flags),
        opened => opened,
    }
}

fn unnoticed_flag() -> i32 {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::OFlags::NOATIME.bits() as i32
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    const HOUR: u64 = 60 * 60;

    /// A file that came ten days ago and was used so many seconds ago; with the present.
    fn file(path: &Path, ago: u64) -> (File, u64) {
        fs::write(path, b"x").unwrap();
        let (file, now) = (File::open(path).unwrap(), clock::now());
        let times = FileTimes::new().set_modified(clock::time(now - 240 * HOUR)).set_accessed(clock::time(now - ago));
        file.set_times(times).unwrap();
        (file, now)
    }

    #[test]
    fn an_access_time_is_due_once_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = Stamps::new();
        let [one, other] = [b"1", b"2"].map(|bytes| Hasher::digest(Algorithm::Sha256, bytes));
        let (old, now) = file(&dir.path().join("old"), 2 * HOUR);
        let metadata = old.metadata().unwrap();
        assert!(stamps.is_due(&one, &metadata, now) && !stamps.is_due(&one, &metadata, now));
        assert!(stamps.is_due(&other, &metadata, now) && !stamps.is_due(&other, &metadata, now));
        assert!(stamps.is_due(&one, &metadata, now + HOUR), "it could not be set an hour ago");
        assert!(!stamps.is_due(&one, &metadata, now - 2 * HOUR), "the file shows it");
        let (young, now) = file(&dir.path().join("young"), HOUR - 10);
        assert!(!Stamps::new().is_due(&one, &young.metadata().unwrap(), now));
        let (future, now) = file(&dir.path().join("future"), 0);
        assert!(Stamps::new().is_due(&one, &future.metadata().unwrap(), now - 3 * HOUR), "a clock that was wrong");
    }

    #[test]
    fn only_the_access_time_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let (file, now) = file(&dir.path().join("file"), 2 * HOUR);
        let before = file.metadata().unwrap();
        set(&file, now);
        let after = file.metadata().unwrap();
        assert_eq!((after.atime().unsigned_abs(), after.mtime()), (now, before.mtime()));
    }

    #[test]
    fn an_unnoticed_read_leaves_the_access_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // More than a day: with `relatime` a noticed read would set it.
        let (file, _) = file(&path, 48 * HOUR);
        let mut opened = open_unnoticed(&path, 0).unwrap();
        io::Read::read_to_end(&mut opened, &mut Vec::new()).unwrap();
        assert_eq!(file.metadata().unwrap().atime(), fs::metadata(&path).unwrap().atime());
        assert!(clock::now() - file.metadata().unwrap().atime().unsigned_abs() >= 48 * HOUR);
    }
}

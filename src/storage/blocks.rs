//! Disk space that a file holds beyond its content: how much it is, and giving it back (S25).
//!
//! `fallocate` reserves blocks beyond a file's end. They outlive the process, a rename and a
//! restart. So every end of a download gives them back; the start and `lanyard check --repair` give
//! back those that a crash has left. Callers: the partial files, the blobs, the census, the rebuild
//! and the check.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
};

/// The space that any file may hold beyond its content, in bytes: a file system rounds up.
const SLACK: u64 = 1 << 20;

/// The same for a file that no download writes any more: a crash leaves many of them, and they
/// add up.
const ROUNDING: u64 = 64 << 10;

/// The disk space that a file takes, in bytes: its length, unless it holds much more.
pub(super) fn taken(metadata: &Metadata) -> u64 {
    metadata.len() + excess(metadata)
}

/// The disk space that a file holds beyond its content, in bytes; 0 if it is no more than
/// [`SLACK`].
pub(super) fn excess(metadata: &Metadata) -> u64 {
    let beyond = beyond(metadata);
    if beyond > SLACK { beyond } else { 0 }
}

/// The same for a leftover: 0 if it is no more than [`ROUNDING`].
pub(super) fn spare(metadata: &Metadata) -> u64 {
    let beyond = beyond(metadata);
    if beyond > ROUNDING { beyond } else { 0 }
}

fn beyond(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512).saturating_sub(metadata.len())
}

/// Gives back what the file holds beyond its length, which must be `length`. Its content stays.
pub(super) fn cut(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    if spare(&file.metadata()?) == 0 {
        return Ok(());
    }
    // Some file systems do nothing where the length does not change.
    file.set_len(length + 1)?;
    file.set_len(length)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use rustix::fs::{FallocateFlags, fallocate};

    use super::*;
    use crate::storage::partial::PartialFolder;

    #[test]
    fn what_is_reserved_is_seen_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, 4096, 300_000] {
            let path = dir.path().join(length.to_string());
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(&vec![7; length]).unwrap();
            file.sync_all().unwrap();
            assert_eq!(excess(&file.metadata().unwrap()), 0, "{length}");
            if fallocate(&file, FallocateFlags::KEEP_SIZE, length as u64, 8 << 20).is_err() {
                eprintln!("left out: this file system reserves nothing");
                return;
            }
            let metadata = file.metadata().unwrap();
            assert!(excess(&metadata) >= 8 << 20 && taken(&metadata) >= 8 << 20, "{length}: {metadata:?}");
            cut(&file, length as u64).unwrap();
            assert_eq!(taken(&file.metadata().unwrap()), length as u64);
            assert_eq!(fs::read(&path).unwrap(), vec![7; length]);
        }
    }

    /// A thousand crashes may each leave a little less than what any file may hold.
    #[test]
    fn s25_little_that_a_crash_leaves_is_given_back_too() {
        let dir = tempfile::tempdir().unwrap();
        for (number, (length, reserved)) in
            [(0, 900 << 10), (5000, 300 << 10), (300_000, 1 << 20)].into_iter().enumerate()
        {
            let folder = PartialFolder { path: dir.path().join(number.to_string()), name: "part", boot: None };
            fs::create_dir(&folder.path).unwrap();
            let mut file = fs::File::create(folder.file_path()).unwrap();
            file.write_all(&vec![7; length]).unwrap();
            file.sync_all().unwrap();
            if fallocate(&file, FallocateFlags::KEEP_SIZE, length as u64, reserved).is_err() {
                eprintln!("left out: this file system reserves nothing");
                return;
            }
            let given = folder.give_back().unwrap();
            assert!(given >= reserved - ROUNDING, "{length}: {given} of {reserved}");
            assert_eq!(spare(&file.metadata().unwrap()), 0, "{length}");
            assert_eq!((fs::read(folder.file_path()).unwrap(), folder.give_back().unwrap()), (vec![7; length], 0));
        }
    }
}

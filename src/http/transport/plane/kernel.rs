//! Asks the kernel which pages of a file are in the page cache. One of three files with `unsafe`:
//! no safe interface has that call. Called by the plane.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::fd::AsRawFd as _,
};

use rustix::{
    io::{ReadWriteFlags, preadv2},
    param::page_size,
};

/// Its number is the same on every architecture (Linux 6.5).
const CACHESTAT: libc::c_long = 451;

/// What `cachestat(2)` takes and returns: numbers of bytes, and of pages.
#[repr(C)]
struct CachestatRange {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether the bytes from `first` up to `end` can be sent without waiting for the disk.
///
/// `cachestat(2)` says "no" quickly. It also counts pages that are still being read, so its "yes"
/// is checked at both ends. Read-ahead arrives in order, so the bytes between are there as well.
/// Where the kernel does not have the call, the ends alone decide.
pub(super) fn is_resident(file: &File, first: u64, end: u64) -> bool {
    let page = page_size() as u64;
    let (from, to) = (first / page * page, end.next_multiple_of(page));
    let cached = cached_pages(file, from, to - from);
    if cached.is_some_and(|pages| pages < (to - from) / page) {
        return false;
    }
    let at_once = |at| matches!(read_resident(file, &mut [0], at), Ok(1));
    at_once(first) && at_once(end - 1)
}

/// Reads bytes that are there without waiting for the disk. Returns their number; 0 at the file's
/// end.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if the disk would be waited for; the disk's own.
pub(super) fn read_resident(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    Ok(preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT)?)
}

/// The number of the range's pages in the page cache; `None` if the kernel does not say.
fn cached_pages(file: &File, offset: u64, length: u64) -> Option<u64> {
    let range = CachestatRange { offset, length };
    let mut stat = Cachestat::default();
    // SAFETY: both pointers are to values of the kernel's layout that outlive the call, and the
    // kernel writes to the second only. The descriptor is open, as the file is borrowed.
    let answer = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0) };
    (answer == 0).then_some(stat.cached)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn forget(file: &File) {
        file.sync_all().unwrap();
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    #[test]
    fn reads_what_is_there_and_never_waits() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&bytes).unwrap();
        let mut space = vec![0; 9000];
        for (first, length) in [(0, 9000), (4095, 9000), (299_990, 10), (300_000, 0)] {
            assert_eq!(read_resident(file.as_file(), &mut space, first).unwrap(), length);
            assert_eq!(space[..length], bytes[first as usize..first as usize + length]);
        }
        forget(file.as_file());
        let waits = read_resident(file.as_file(), &mut space, 0).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn knows_what_is_in_the_page_cache() {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; 8 << 20]).unwrap();
        assert!(is_resident(file.as_file(), 0, 8 << 20) && is_resident(file.as_file(), 5, 9000));
        forget(file.as_file());
        assert!(!is_resident(file.as_file(), 0, 8 << 20), "the cache was dropped");
    }
}

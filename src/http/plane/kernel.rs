//! The one room with `unsafe`: two things that the kernel does and no safe interface offers.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Deref,
    os::fd::AsRawFd as _,
    ptr::NonNull,
};

use rustix::{
    io::{ReadWriteFlags, preadv2},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
    param::page_size,
};

/// Its number is the same on every architecture (Linux 6.5).
const CACHESTAT: libc::c_long = 451;

/// What `cachestat(2)` takes and gives back: numbers of bytes, and of pages.
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
/// `cachestat(2)` says "no" quickly. It also counts pages whose reading is still under way, so its "yes" is checked at both
/// ends; what is read ahead arrives in order, so what lies between is there as well. Where the kernel does not know the call,
/// the ends alone decide.
pub(super) fn is_resident(file: &File, first: u64, end: u64) -> bool {
    let page = page_size() as u64;
    let (from, to) = (first / page * page, end.next_multiple_of(page));
    let cached = cached_pages(file, from, to - from);
    if cached.is_some_and(|pages| pages < (to - from) / page) {
        return false;
    }
    let at_once = |at| {
        let byte = &mut [0];
        matches!(preadv2(file, &mut [IoSliceMut::new(byte)], at, ReadWriteFlags::NOWAIT), Ok(1))
    };
    at_once(first) && at_once(end - 1)
}

/// How many pages of the range are in the page cache; `None` where the kernel does not say.
fn cached_pages(file: &File, offset: u64, length: u64) -> Option<u64> {
    let range = CachestatRange { offset, length };
    let mut stat = Cachestat::default();
    // SAFETY: both pointers are to values of the kernel's layout that outlive the call, and the kernel writes to the second
    // only. The descriptor is open, as the file is borrowed.
    let answer = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0) };
    (answer == 0).then_some(stat.cached)
}

/// Pages of a file, mapped for reading.
pub(super) struct Mapping {
    pages: NonNull<u8>,
    mapped: usize,
    /// Where the bytes that were asked for begin, and how many they are.
    skip: usize,
    length: usize,
}

impl Mapping {
    /// Maps the bytes from `first` on, at most `most` and no more than the file has. They should be resident: the pages are
    /// there when this returns, and none is waited for later.
    ///
    /// Errors: the pages cannot be had, as on a disk that does not give them.
    pub(super) fn new(file: &File, first: u64, most: usize) -> io::Result<Mapping> {
        let left = file.metadata()?.len().saturating_sub(first);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let page = page_size() as u64;
        let from = first / page * page;
        let skip = (first - from) as usize;
        let mapped = skip + length;
        // SAFETY: the kernel chooses the address, so no other memory is touched; the mapping is ours until `drop`.
        let pages = unsafe { mmap(std::ptr::null_mut(), mapped, ProtFlags::READ, MapFlags::SHARED, file, from)? };
        let pages = NonNull::new(pages.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping { pages, mapped, skip, length };
        // A page that the disk does not give is an error here, and would be the end of the process at the first look at it.
        // SAFETY: the mapping is ours, and reading its pages in changes nothing.
        unsafe { madvise(pages.as_ptr().cast(), mapped, Advice::LinuxPopulateRead)? };
        Ok(mapping)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `mapped` bytes from `pages` on are mapped for reading until `drop`, were all there when they were mapped, and
        // are within the file's length as it was found. Blobs do not change and are never cut short, and the part of a download that is advertised is neither: nobody
        // in this process writes to these bytes, and no length shrinks below them. (Whoever cuts a file in the data folder
        // short from outside, at this very moment, ends the process.)
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().add(self.skip), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the slice that `deref` gave is borrowed from `self`.
        let _ = unsafe { munmap(self.pages.as_ptr().cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn maps_what_the_file_has_from_any_offset() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let file = file(&bytes);
        for (first, most, length) in [(0, 10, 10), (1, 4096, 4096), (4095, 9000, 9000), (299_990, 1000, 10)] {
            let mapping = Mapping::new(&file, first, most).unwrap();
            assert_eq!(&*mapping, &bytes[first as usize..first as usize + length]);
        }
        let over = Mapping::new(&file, 300_000, 1).map(drop).unwrap_err();
        assert_eq!(over.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn knows_what_is_in_the_page_cache() {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; 8 << 20]).unwrap();
        assert!(is_resident(file.as_file(), 0, 8 << 20) && is_resident(file.as_file(), 5, 9000));
        file.as_file().sync_all().unwrap();
        rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(!is_resident(file.as_file(), 0, 8 << 20), "the cache was dropped");
    }
}

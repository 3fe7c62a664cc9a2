//! How a stored blob was used: what the order of eviction goes by.
//!
//! A value without I/O. The index keeps one for each blob (`index/entry.rs`). Without the index, or
//! to fill it anew, it is read from the times of the blob's file, to an hour (`access_time.rs`).
//!
//! | event | last use | uses |
//! |---|---|---|
//! | the blob is stored | now | 1; unchanged if it was here |
//! | it is opened, or given out from memory | now | one more, at most one a minute |
//! | a manifest that names it is given out | the minute before | unchanged |
//!
//! Callers: the index, the rebuild, and the verbs of `verbs/uses.rs`.

use std::{cmp::Ordering, fs::Metadata, os::unix::fs::MetadataExt as _};

/// A file that was used so many seconds after it came has two uses: it came for the first.
const AGAIN: i64 = 24 * 60 * 60;

/// The size and the use of a stored blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobUse {
    /// The size in bytes.
    pub size: u64,
    /// The last use, in minutes since 1970: of itself, or of a manifest that names it.
    pub last: u32,
    /// The occasions on which it was used itself: at most one a minute, and at most 65,535.
    pub uses: u16,
    /// When it was stored, in minutes since 1970.
    pub came: u32,
}

impl BlobUse {
    /// A blob that is stored at `now`, in seconds since 1970.
    pub(super) fn new(size: u64, now: u64) -> BlobUse {
        let now = minutes(now);
        BlobUse { size, last: now, uses: 1, came: now }
    }

    /// The use that a blob's file shows.
    pub(super) fn of_file(metadata: &Metadata) -> BlobUse {
        let (accessed, modified) = (metadata.atime(), metadata.mtime());
        let minutes = |seconds: i64| minutes(seconds.max(0).unsigned_abs());
        BlobUse {
            size: metadata.len(),
            last: minutes(accessed.max(modified)),
            uses: if accessed.saturating_sub(modified) >= AGAIN { 2 } else { 1 },
            came: minutes(modified),
        }
    }

    /// It was used at `now`, in seconds since 1970. A last use in the future comes from a clock
    /// that was wrong, and is set right.
    pub(super) fn used(self, now: u64) -> BlobUse {
        let now = minutes(now);
        match now.cmp(&self.last) {
            Ordering::Greater => BlobUse { last: now, uses: self.uses.saturating_add(1), ..self },
            Ordering::Equal => self,
            Ordering::Less => BlobUse { last: now, ..self },
        }
    }

    /// A manifest that names it was used at `now`, in seconds since 1970. The last use becomes the
    /// minute before: a use of its own that follows within this minute still counts.
    pub(super) fn named(self, now: u64) -> BlobUse {
        let before = minutes(now).saturating_sub(1);
        let last = if self.last > before.saturating_add(1) { before } else { self.last.max(before) };
        BlobUse { last, ..self }
    }

    /// The blob is stored again, or its file is read into an index that knows it already. What was
    /// noted before stays.
    pub(super) fn over(self, before: BlobUse) -> BlobUse {
        BlobUse { last: self.last.max(before.last), uses: self.uses.max(before.uses), ..self }
    }
}

/// Whole minutes.
fn minutes(seconds: u64) -> u32 {
    u32::try_from(seconds / 60).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: BlobUse = BlobUse { size: 7, last: 10, uses: 1, came: 10 };

    #[test]
    fn uses_are_counted_once_a_minute() {
        assert_eq!(BlobUse::new(7, 659), BLOB);
        assert_eq!(BLOB.used(600), BLOB);
        assert_eq!(BLOB.used(659), BLOB);
        let again = BlobUse { last: 11, uses: 2, ..BLOB };
        assert_eq!((BLOB.used(660), BLOB.used(660).used(719)), (again, again));
        let most = BlobUse { uses: u16::MAX, ..BLOB };
        assert_eq!(most.used(660), BlobUse { last: 11, ..most }, "it stays at the most");
    }

    #[test]
    fn a_part_that_is_named_is_used_later_and_no_more_often() {
        assert_eq!(BLOB.named(60 * 20), BlobUse { last: 19, ..BLOB });
        assert_eq!(BLOB.named(60 * 10), BLOB, "it never goes back");
        let named_then_used = BLOB.named(60 * 20).used(60 * 20 + 5);
        assert_eq!(named_then_used, BlobUse { last: 20, uses: 2, ..BLOB }, "its own use still counts");
        assert_eq!(named_then_used.named(60 * 20 + 9), named_then_used);
    }

    #[test]
    fn a_clock_that_was_wrong_is_set_right() {
        let future = BlobUse { last: 9000, uses: 5, ..BLOB };
        assert_eq!(future.used(60 * 20), BlobUse { last: 20, ..future });
        assert_eq!(future.named(60 * 20), BlobUse { last: 19, ..future });
    }

    #[test]
    fn a_blob_that_is_stored_again_keeps_its_uses() {
        let used = BlobUse { last: 50, uses: 9, ..BLOB };
        assert_eq!(BlobUse::new(8, 60 * 60).over(used), BlobUse { size: 8, last: 60, uses: 9, came: 60 });
        assert_eq!(BlobUse { uses: 2, ..BLOB }.over(used), used, "a file that is read late");
    }
}

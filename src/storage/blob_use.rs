//! How a stored blob was used: what the order of eviction goes by.
//!
//! A value without I/O. The index keeps one for each blob (`index/entry.rs`). Without the index, or
//! to fill it anew, it is read from the times of the blob's file, to an hour (`access_time.rs`).
//!
//! | event | last use | uses |
//! |---|---|---|
//! | the blob is stored | now | 1; unchanged if it was here; one more than before a late eviction |
//! | it is opened, or given out from memory | now | one more, at most one a minute since it came |
//! | a manifest that names it is given out | now | unchanged |
//!
//! Last uses are kept to the millisecond, so that images that are used shortly after each other
//! have an order, and each goes as a whole. A use within a second of the last one changes nothing.
//!
//! Beside that it counts the bytes that were given out of it (`served.rs`), for an operator.
//!
//! Callers: the index, the rebuild, and the verbs of `verbs/uses.rs`.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

/// A file that was used so many seconds after it came has two uses: it came for the first.
const AGAIN: i64 = 24 * 60 * 60;

/// Uses are counted once in so many milliseconds.
const MINUTE: u64 = 60_000;

/// The beginning of 2026. No lanyard that writes these times is older.
const PLAUSIBLE: u64 = 1_767_225_600_000;

/// A use so many milliseconds after the last one is the same one.
const SAME: u64 = 1000;

/// The size and the use of a stored blob. Times in milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobUse {
    /// The size in bytes.
    pub size: u64,
    /// The last use: of itself, or of a manifest that names it.
    pub last: u64,
    /// The occasions on which it was used itself: at most one a minute, and at most 65,535.
    pub uses: u16,
    /// The minute since it came that was counted last, modulo 65,536.
    pub counted: u16,
    /// When it was stored.
    pub came: u64,
    /// Body bytes of it that clients of mirrored names were given from here, without those of the
    /// answers that began its downloads. What was sent of a body that ended early counts. Since it
    /// was stored, or since the last crash.
    pub served: u64,
}

impl BlobUse {
    /// A blob that is stored at `now`.
    pub(super) fn new(size: u64, now: u64) -> BlobUse {
        BlobUse { size, last: now, uses: 1, counted: 0, came: now, served: 0 }
    }

    /// The use that a blob's file shows.
    pub(super) fn of_file(metadata: &Metadata) -> BlobUse {
        let (accessed, modified) = (metadata.atime(), metadata.mtime());
        let came = milliseconds(modified, metadata.mtime_nsec());
        let last = came.max(milliseconds(accessed, metadata.atime_nsec()));
        let again = accessed.saturating_sub(modified) >= AGAIN;
        let blob = BlobUse::new(metadata.len(), came);
        BlobUse { last, uses: if again { 2 } else { 1 }, counted: blob.minute(last), ..blob }
    }

    /// It was used at `now`.
    pub(super) fn used(self, now: u64) -> BlobUse {
        let blob = self.set_right(now);
        if blob.minute(now) == blob.counted {
            return blob.later(now);
        }
        BlobUse { last: blob.last.max(now), uses: blob.uses.saturating_add(1), counted: blob.minute(now), ..blob }
    }

    /// A manifest that names it was used at `now`.
    pub(super) fn named(self, now: u64) -> BlobUse {
        self.set_right(now).later(now)
    }

    fn later(self, now: u64) -> BlobUse {
        BlobUse { last: if now >= self.last.saturating_add(SAME) { now } else { self.last }, ..self }
    }

    /// Times in the future come from a clock that was wrong. A minute is none: notes come late.
    fn set_right(self, now: u64) -> BlobUse {
        let right = |time: u64| if is_future(time, now) { now } else { time };
        BlobUse { last: right(self.last), came: right(self.came), ..self }
    }

    /// Whole minutes from its arrival until `time`, modulo 65,536. The parts of an image come
    /// together, so that a later pull counts for all of them or for none.
    fn minute(self, time: u64) -> u16 {
        (time.saturating_sub(self.came) / MINUTE) as u16
    }

    /// A last use in the future goes back by so much, so that the order of several stays.
    pub(super) fn set_back(self, by: u64, now: u64) -> BlobUse {
        let last = if is_future(self.last, now) { self.last.saturating_sub(by) } else { self.last };
        BlobUse { last, came: self.came.min(last), ..self }
    }

    /// Clients were given so many bytes of it.
    pub(super) fn given(self, bytes: u64) -> BlobUse {
        BlobUse { served: self.served.saturating_add(bytes), ..self }
    }

    /// The blob is stored again, or its file is read into an index that knows it already. What was
    /// noted before stays.
    pub(super) fn over(self, before: BlobUse) -> BlobUse {
        BlobUse { size: self.size, last: self.last.max(before.last), uses: self.uses.max(before.uses), ..before }
    }
}

/// Whether a time comes from a clock that was wrong. Both in milliseconds since 1970. It cannot be
/// told by a clock that is wrong itself, as on a machine that begins in 1970 until it is told the
/// time.
pub(crate) fn is_future(time: u64, now: u64) -> bool {
    now >= PLAUSIBLE && time > now.saturating_add(MINUTE)
}

/// The time of a file, which may be any. One before 1970 counts as 1970.
fn milliseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let whole = seconds.max(0).unsigned_abs().saturating_mul(1000);
    whole.saturating_add(nanoseconds.max(0).unsigned_abs() / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It came 630 s after some beginning.
    const BLOB: BlobUse = BlobUse { size: 7, last: 630_000, uses: 1, counted: 0, came: 630_000, served: 0 };

    #[test]
    fn a_last_use_is_kept_to_the_millisecond_and_uses_are_counted_once_a_minute_since_it_came() {
        assert_eq!(BlobUse::new(7, 630_000), BLOB);
        assert_eq!(BLOB.used(630_999), BLOB, "the same use");
        assert_eq!(BLOB.used(689_999), BlobUse { last: 689_999, ..BLOB });
        let again = BlobUse { last: 690_000, uses: 2, counted: 1, ..BLOB };
        assert_eq!((BLOB.used(690_000), BLOB.used(689_999).used(690_000)), (again, again));
        assert_eq!(again.used(749_000), BlobUse { last: 749_000, ..again });
        assert_eq!(again.used(690_500), again);
        assert_eq!(again.used(750_000), BlobUse { last: 750_000, uses: 3, counted: 2, ..again });
        let most = BlobUse { uses: u16::MAX, ..BLOB };
        assert_eq!(most.used(690_000).uses, u16::MAX, "it stays at the most");
        let later = 630_000 + 70_000 * MINUTE;
        assert_eq!((BLOB.used(later).uses, BLOB.used(later).used(later + MINUTE).uses), (2, 3), "after 48 days too");
    }

    #[test]
    fn a_pull_counts_for_all_parts_of_an_image_or_for_none() {
        for later in [59_000, 65_000, 119_000, 150_000] {
            let parts = [630_000, 631_400, 633_200].map(|came| BlobUse::new(7, came).used(came + later).uses);
            assert_eq!(parts, [1 + u16::from(later >= MINUTE); 3], "{later} ms later");
        }
    }

    #[test]
    fn a_part_that_is_named_is_used_later_and_no_more_often() {
        let named = BLOB.named(1_234_567);
        assert_eq!(named, BlobUse { last: 1_234_567, ..BLOB });
        let own = BlobUse { last: 1_234_600, uses: 2, counted: 10, ..BLOB };
        assert_eq!(named.used(1_234_600), own, "its own use still counts");
        assert_eq!(named.named(1_233_000), named, "a note that comes late");
    }

    #[test]
    fn a_clock_that_was_wrong_is_set_right() {
        let at = |seconds: u64| PLAUSIBLE + seconds * 1000;
        let future = BlobUse { last: at(90_000), uses: 5, ..BlobUse::new(7, at(630)) };
        assert_eq!(future.used(at(1234)), BlobUse { last: at(1234), uses: 6, counted: 10, ..future });
        assert_eq!(future.named(at(1234)), BlobUse { last: at(1234), ..future });
        let (came_later, right) = (BlobUse::new(7, at(5000)), BlobUse::new(7, at(630)));
        assert_eq!([came_later.used(at(630)), came_later.named(at(630))], [right, right]);
        assert_eq!(right.set_right(at(600)), right, "a minute is no other clock");
        assert_eq!(came_later.set_back(4_000_000, at(1000)), BlobUse::new(7, at(1000)));
        assert_eq!(right.set_back(4_000_000, at(1000)), right, "that was no other clock");
    }

    #[test]
    fn a_clock_that_begins_in_1970_sets_nothing_right() {
        let blob = BlobUse::new(7, PLAUSIBLE + 630_000);
        for now in [0, 60_000, PLAUSIBLE - 1] {
            let seen = [blob.used(now), blob.named(now), blob.set_back(u64::MAX, now)];
            assert_eq!(seen.map(|seen| (seen.last, seen.came)), [(blob.last, blob.came); 3], "at {now}");
        }
    }

    #[test]
    fn a_file_may_have_any_time() {
        assert_eq!(milliseconds(1, 999_999_999), 1999);
        assert_eq!([milliseconds(i64::MIN, -1), milliseconds(i64::MAX, 999_999_999)], [0, u64::MAX]);
    }

    #[test]
    fn a_blob_that_is_stored_again_keeps_its_uses() {
        let used = BlobUse { last: 700_000, uses: 9, ..BLOB }.given(4).given(3);
        assert_eq!(BlobUse::new(8, 800_000).over(used), BlobUse { size: 8, last: 800_000, ..used });
        assert_eq!(BlobUse { uses: 2, ..BLOB }.over(used), used, "a file that is read late");
    }
}

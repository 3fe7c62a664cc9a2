//! The uses of content that were noted in the last minute. A warm manifest is used thousands of
//! times a second, but its last use is kept to the minute only.
//!
//! A table of fixed size without locks. Two digests that share a slot are both noted more often
//! than needed, and that is the only effect. Callers: the verb `note_use`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::Digest;

/// How many digests are told apart.
const SLOTS: usize = 4096;

/// Uses within so many seconds count as one.
const GRAIN: u64 = 60;

/// See the module.
#[derive(Debug)]
pub(super) struct RecentUses(Box<[AtomicU64]>);

impl RecentUses {
    pub(super) fn new() -> Self {
        RecentUses((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether this is the first use of the digest in this minute, as far as is known. `now`: in
    /// seconds.
    pub(super) fn is_first(&self, digest: &Digest, now: u64) -> bool {
        let mut beginning = [0; 8];
        beginning.copy_from_slice(&digest.beginning()[..8]);
        let beginning = u64::from_le_bytes(beginning);
        let mark = beginning.wrapping_add(now / GRAIN) | 1;
        let slot = &self.0[beginning as usize % SLOTS];
        slot.load(Ordering::Relaxed) != mark && slot.swap(mark, Ordering::Relaxed) != mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let uses = RecentUses::new();
        let [one, other] = [b"1", b"2"].map(|bytes| Hasher::digest(Algorithm::Sha256, bytes));
        assert!(uses.is_first(&one, 600) && uses.is_first(&other, 600));
        assert!(!uses.is_first(&one, 601) && !uses.is_first(&other, 659));
        assert!(uses.is_first(&one, 721) && !uses.is_first(&one, 722));
    }
}

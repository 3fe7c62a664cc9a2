//! What was evicted lately: how often it was used, and whether it was fetched again.
//!
//! A ring of the last 65,536 evicted digests, by their beginnings, in memory only. Content that
//! comes back within the time that the eviction remembers it for keeps its number of uses: so the
//! order of eviction learns which content a cache of this size throws away too early. Two digests
//! that share a beginning are taken for one, which does no harm.
//!
//! Callers: the eviction notes; the blobs ask when content is stored.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::oci::Digest;

/// The digests that are remembered.
const MOST: usize = 65_536;

/// The milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CameBack {
    ring: Mutex<Ring>,
    bytes: AtomicU64,
    within_a_day: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    gone: HashMap<u64, Gone>,
    /// The oldest first. An entry that came back stays here until it is its turn.
    order: VecDeque<u64>,
}

/// One eviction. Times in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Gone {
    at: u64,
    /// Its uses count again if it comes back before.
    until: u64,
    uses: u16,
}

/// What was evicted and then stored again, in bytes since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Refetched {
    /// All of it that was still remembered.
    pub bytes: u64,
    /// Of it, what came back within a day.
    pub within_a_day: u64,
}

impl CameBack {
    /// It was evicted at `at`. Its uses are remembered until `until`. Both in milliseconds since
    /// 1970.
    pub(super) fn evicted(&self, digest: &Digest, uses: u16, at: u64, until: u64) {
        let (key, mut ring) = (key(digest), self.ring.lock());
        if ring.order.len() >= MOST
            && let Some(oldest) = ring.order.pop_front()
        {
            ring.gone.remove(&oldest);
        }
        if ring.gone.insert(key, Gone { at, until, uses }).is_none() {
            ring.order.push_back(key);
        }
    }

    /// It is stored at `now`, with so many bytes. The uses that it had, if they still count.
    pub(super) fn stored(&self, digest: &Digest, bytes: u64, now: u64) -> Option<u16> {
        let Gone { at, until, uses } = self.ring.lock().gone.remove(&key(digest))?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if now.saturating_sub(at) <= DAY {
            self.within_a_day.fetch_add(bytes, Ordering::Relaxed);
        }
        (now <= until).then_some(uses)
    }

    /// What came back since the start.
    pub(super) fn refetched(&self) -> Refetched {
        Refetched { bytes: self.bytes.load(Ordering::Relaxed), within_a_day: self.within_a_day.load(Ordering::Relaxed) }
    }
}

fn key(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.beginning();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::digest;

    #[test]
    fn uses_count_again_for_a_while_and_the_bytes_for_longer() {
        let gone = CameBack::default();
        let [a, b, c] = [digest(b"a"), digest(b"b"), digest(b"c")];
        gone.evicted(&a, 5, 100, 200);
        gone.evicted(&b, 7, 100, 200);
        assert_eq!(gone.stored(&c, 1, 150), None, "it never went");
        assert_eq!(gone.stored(&a, 10, 200), Some(5));
        assert_eq!(gone.stored(&a, 10, 200), None, "it came back once");
        assert_eq!(gone.stored(&b, 20, 100 + DAY + 1), None, "too late");
        assert_eq!(gone.refetched(), Refetched { bytes: 30, within_a_day: 10 });
    }

    #[test]
    fn it_remembers_the_last_ones() {
        let gone = CameBack::default();
        let name = |n: usize| digest(&n.to_le_bytes());
        for n in 0..MOST + 10 {
            gone.evicted(&name(n), 1, 0, 9);
            assert!(n % 2 == 1 || gone.stored(&name(n), 1, 0).is_some());
            gone.evicted(&name(n), 1, 0, 9);
        }
        let ring = gone.ring.lock();
        assert!(ring.order.len() <= MOST && ring.gone.len() <= MOST);
        drop(ring);
        assert!(gone.stored(&name(MOST + 9), 1, 0).is_some() && gone.stored(&name(0), 1, 0).is_none());
    }
}

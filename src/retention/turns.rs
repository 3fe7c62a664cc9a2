//! Turns: the order in which cached blobs are evicted.
//!
//! The order has no state on disk but each blob's last use and number of uses. Each doubling of the
//! uses is worth one more turn. docs/PERFORMANCE.md has the byte hits beside other orders.
//!
//! ```text
//! score = last use + turn · log2(min(uses, 16))      the lowest goes first
//! ```
//!
//! Everything here is a plain value: the caller brings the entries, the time, and what is stored
//! now. Times are in one unit, of the caller's choice. Callers: the queue of the eviction, which
//! counts seconds; `admin/digests.rs`, which tells a place in the order; and the bench `cachelife`,
//! which replays a trace. The states:
//!
//! ```text
//! Turn       unknown: plain least recently used ─ the first once-used blob is evicted ─► known
//! Harvest    a scan keeps the lowest scores ─► candidates, lowest first ─► used up: scan again
//! candidate  as the scan saw it ─► handed out;   changed or gone since ─► dropped
//! ```
//!
//! A last use in the future counts as now, so a clock that was set back evicts no more than is
//! needed, and keeps the order of the last uses.

use std::{cmp::Ordering, collections::BinaryHeap, vec};

/// More uses than these earn nothing.
const MOST_USES: u16 = 16;

/// How much of a new age the turn takes over.
const SHARE: f64 = 0.02;

/// The fewest and the most candidates of a harvest.
const FEWEST: usize = 1;
const MOST: usize = 4096;

/// A harvest has one candidate for so many stored blobs. A larger share would evict by scores that
/// are out of date.
const PER_CANDIDATE: usize = 16;

/// A stored blob that may be evicted. `K` names it, such as the beginning of its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resident<K> {
    /// The blob's name; each name occurs once in a scan.
    pub key: K,
    /// Its size in bytes. The order ignores it.
    pub size: u64,
    /// Its last use, since any fixed beginning.
    pub last: u64,
    /// How often it was used; 0 counts as 1.
    pub uses: u16,
}

/// The age that a once-used blob reaches before it is evicted. It is unknown until the first one is
/// evicted, follows each later one by a fiftieth of the difference, and is in memory only.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Turn(Option<f64>);

impl Turn {
    /// A turn of this age.
    pub fn of(age: f64) -> Turn {
        Turn((age > 0.0).then_some(age))
    }

    /// The turn, if a once-used blob was evicted.
    pub fn age(self) -> Option<f64> {
        self.0
    }

    /// Takes note of a blob that was evicted at `now`. Only a once-used blob changes the turn, and
    /// an age of 0 does not begin one.
    pub fn evicted<K>(&mut self, resident: &Resident<K>, now: u64) {
        if resident.uses > 1 {
            return;
        }
        let age = now.saturating_sub(resident.last) as f64;
        self.0 = match self.0 {
            Some(turn) => Some(turn + SHARE * (age - turn)),
            None => (age > 0.0).then_some(age),
        };
    }

    /// The score of a blob at `now`: the lowest is evicted first. It is finite and at least 0.
    pub fn score<K>(self, resident: &Resident<K>, now: u64) -> f64 {
        let uses = f64::from(resident.uses.clamp(1, MOST_USES));
        resident.last.min(now) as f64 + self.0.unwrap_or(0.0) * uses.log2()
    }
}

/// The blobs that one scan found to be the next to go, from the lowest score on. Equal scores are
/// in the order of their last uses, then of their keys. A harvest ages: after a while a new scan
/// is better than its rest.
#[derive(Debug)]
pub struct Harvest<K> {
    candidates: vec::IntoIter<Candidate<K>>,
}

/// A scan under way.
#[derive(Debug)]
pub struct Gathering<K> {
    lowest: BinaryHeap<Candidate<K>>,
    most: usize,
    turn: Turn,
    now: u64,
}

impl<K: Copy + Ord> Gathering<K> {
    /// Begins a scan at `now`. Its harvest will be a sixteenth of `stored`, but at least one and at
    /// most 4,096 of the residents that it sees. `stored`: how many blobs are stored, roughly. No
    /// more memory is taken than those need.
    pub fn new(stored: usize, turn: Turn, now: u64) -> Self {
        let most = (stored / PER_CANDIDATE).clamp(FEWEST, MOST);
        Gathering { lowest: BinaryHeap::with_capacity(most), most, turn, now }
    }

    /// Looks at a resident.
    pub fn see(&mut self, resident: Resident<K>) {
        let candidate = Candidate { score: self.turn.score(&resident, self.now), resident };
        if self.lowest.len() < self.most {
            self.lowest.push(candidate);
        } else if let Some(mut highest) = self.lowest.peek_mut().filter(|highest| candidate < **highest) {
            *highest = candidate;
        }
    }

    /// The residents that go next.
    pub fn end(self) -> Harvest<K> {
        Harvest { candidates: self.lowest.into_sorted_vec().into_iter() }
    }
}

impl<K: Copy + Ord> Harvest<K> {
    /// The harvest of a whole scan: see [`Gathering`].
    pub fn of(residents: impl IntoIterator<Item = Resident<K>>, stored: usize, turn: Turn, now: u64) -> Harvest<K> {
        let mut gathering = Gathering::new(stored, turn, now);
        residents.into_iter().for_each(|resident| gathering.see(resident));
        gathering.end()
    }

    /// Whether it is used up.
    pub fn is_empty(&self) -> bool {
        self.candidates.len() == 0
    }

    /// The next candidate, as the scan saw it.
    pub fn pop(&mut self) -> Option<Resident<K>> {
        self.candidates.next().map(|candidate| candidate.resident)
    }

    /// Takes the next candidate that is as the scan saw it. `look` says what is stored under a key
    /// now; a candidate that has changed or is gone is dropped. `None`: the harvest is used up.
    pub fn take(&mut self, mut look: impl FnMut(&K) -> Option<Resident<K>>) -> Option<Resident<K>> {
        self.candidates.by_ref().map(|candidate| candidate.resident).find(|seen| look(&seen.key) == Some(*seen))
    }
}

/// A blob with its score at the time of the scan.
#[derive(Clone, Copy, Debug)]
struct Candidate<K> {
    score: f64,
    resident: Resident<K>,
}

impl<K: Ord> Ord for Candidate<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.resident, &other.resident);
        self.score.total_cmp(&other.score).then_with(|| a.last.cmp(&b.last)).then_with(|| a.key.cmp(&b.key))
    }
}

impl<K: Ord> PartialOrd for Candidate<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> PartialEq for Candidate<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord> Eq for Candidate<K> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000;
    const LATE: u64 = 1 << 41;

    fn resident(key: u64, last: u64, uses: u16) -> Resident<u64> {
        Resident { key, size: 1, last, uses }
    }

    fn turn(age: u64) -> Turn {
        let mut turn = Turn::default();
        turn.evicted(&resident(0, NOW - age, 1), NOW);
        turn
    }

    /// The keys of a harvest of all that is stored, in their order.
    fn keys(stored: &[Resident<u64>], turn: Turn, now: u64) -> Vec<u64> {
        let mut harvest = Harvest::of(stored.iter().copied(), PER_CANDIDATE * stored.len(), turn, now);
        let look = |key: &u64| stored.iter().copied().find(|resident| resident.key == *key);
        std::iter::from_fn(|| harvest.take(look)).map(|resident| resident.key).collect()
    }

    #[test]
    fn without_a_turn_the_order_is_least_recently_used() {
        let stored = [resident(1, 30, 1), resident(2, 10, 16), resident(3, 20, 4)];
        assert_eq!(keys(&stored, Turn::default(), NOW), [2, 3, 1]);
    }

    #[test]
    fn each_doubling_of_uses_is_worth_a_turn_up_to_sixteen() {
        let score = |uses| turn(100).score(&resident(0, 1_000, uses), NOW);
        assert_eq!([0, 1, 2, 4, 8, 16].map(score), [1_000.0, 1_000.0, 1_100.0, 1_200.0, 1_300.0, 1_400.0]);
        assert_eq!(score(u16::MAX), score(16));
        assert!(score(2) < score(3) && score(3) < score(4));
    }

    #[test]
    fn a_turn_follows_once_used_blobs_by_a_fiftieth() {
        let mut turn = Turn::default();
        turn.evicted(&resident(0, NOW, 1), NOW);
        assert_eq!(turn.age(), None, "an age of 0 tells nothing");
        turn.evicted(&resident(0, 0, 2), NOW);
        assert_eq!(turn.age(), None, "a blob that was used twice tells nothing");
        turn.evicted(&resident(0, NOW - 100, 1), NOW);
        assert_eq!(turn.age(), Some(100.0));
        turn.evicted(&resident(0, NOW - 200, 1), NOW);
        assert_eq!(turn.age(), Some(102.0));
        turn.evicted(&resident(0, 0, 16), NOW);
        assert_eq!(turn.age(), Some(102.0));
        (0..300).for_each(|_| turn.evicted(&resident(0, NOW - 500, 1), NOW));
        assert!((499.0..=500.0).contains(&turn.age().unwrap()));
    }

    #[test]
    fn equal_scores_go_by_last_use_and_then_by_key() {
        let stored = [resident(7, 100, 1), resident(3, 100, 1), resident(5, 0, 2), resident(9, 100, 1)];
        assert_eq!(keys(&stored, turn(100), NOW), [5, 3, 7, 9]);
    }

    #[test]
    fn what_changed_since_the_scan_is_dropped() {
        let mut stored: Vec<_> = (0..7).map(|key| resident(key, key, 1)).collect();
        let mut harvest = Harvest::of(stored.clone(), PER_CANDIDATE * stored.len(), turn(10), NOW);
        stored[0].last += 1;
        stored[1].uses += 1;
        stored[4].size += 1;
        stored.remove(5);
        let look = |key: &u64| stored.iter().copied().find(|resident| resident.key == *key);
        assert_eq!(harvest.take(look), Some(resident(2, 2, 1)));
        assert_eq!(harvest.take(look), Some(resident(3, 3, 1)));
        assert_eq!(harvest.take(look), Some(resident(6, 6, 1)));
        assert_eq!(harvest.take(look), None);
        assert_eq!(harvest.take(look), None);
    }

    #[test]
    fn a_harvest_is_a_sixteenth_within_its_bounds() {
        let count = |stored: u64| {
            let harvest = Harvest::of((0..stored).map(|key| resident(key, key, 1)), stored as usize, turn(1), NOW);
            harvest.candidates.len()
        };
        assert_eq!([0, 3, 63, 1_000, 1_600, 65_536, 200_000].map(count), [0, 1, 3, 62, 100, 4_096, 4_096]);
    }

    #[test]
    fn a_harvest_takes_memory_for_its_candidates_only() {
        let residents = (0..1_000_000_u64).rev().map(|n| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            Resident { key, size: n, last: n % 500_000, uses: (n % 20) as u16 }
        });
        let harvest = Harvest::of(residents, 1_000_000, turn(20_000), NOW);
        let candidates: Vec<_> = harvest.candidates.collect();
        assert_eq!((candidates.len(), candidates.capacity()), (MOST, MOST), "the vector is the heap's own");
        assert!(MOST * size_of::<Candidate<[u8; 16]>>() <= 1 << 20);
    }

    #[test]
    fn a_clock_that_jumped_changes_no_order_and_no_turn_at_once() {
        let stored: Vec<_> = (0..50).map(|key| resident(key, NOW - 50 + key, 1)).collect();
        let in_order: Vec<_> = (0..50).collect();
        for now in [0, NOW - 14_400, NOW - 25, NOW, NOW + 14_400, LATE] {
            assert_eq!(keys(&stored, turn(100), now), in_order, "at {now}");
        }
        let mut ahead = turn(1_000);
        ahead.evicted(&resident(0, NOW + 14_400, 1), NOW);
        assert_eq!(ahead.age(), Some(980.0), "an age is never below 0");
        let most = Resident { last: LATE, ..resident(0, 0, u16::MAX) };
        let mut long = Turn::default();
        long.evicted(&resident(0, 0, 1), LATE);
        assert_eq!(long.score(&most, LATE), 5.0 * LATE as f64);
        assert_eq!(turn(100).score(&most, NOW), NOW as f64 + 400.0);
    }

    fn some() -> impl Strategy<Value = (u64, u16)> {
        (prop_oneof![0..50_u64, 0..LATE], prop_oneof![0..20_u16, any::<u16>()])
    }

    proptest! {
        #[test]
        fn a_harvest_is_the_beginning_of_the_sorted_whole(
            entries in prop::collection::vec(some(), 0..300), age in 0..100_u64, now in prop_oneof![0..60_u64, 0..LATE],
        ) {
            let mut stored: Vec<_> = entries
                .into_iter()
                .zip(0_u64..)
                .map(|((last, uses), n)| resident(n.wrapping_mul(0x9e37_79b9), last, uses))
                .collect();
            let taken = keys(&stored, turn(age), now);
            let score = |r: &Resident<u64>| r.last.min(now) as f64 + age as f64 * f64::from(r.uses.clamp(1, 16)).log2();
            stored.sort_by(|a, b| score(a).partial_cmp(&score(b)).unwrap().then((a.last, a.key).cmp(&(b.last, b.key))));
            let sorted: Vec<_> = stored.iter().map(|resident| resident.key).take(MOST).collect();
            prop_assert_eq!(taken, sorted);
        }
    }
}

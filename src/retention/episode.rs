//! A disk that is fuller than `min_free` allows, and how much its trouble may cost the cache (K13).
//!
//! ```text
//! none ─ bytes are missing ─► under way ─ none is missing for ten seconds ─► none
//!                               │                ▲
//!            it costs too much ─┴─► stopped ──────┘   told once
//! ```
//!
//! Its cost is what the cache has lost since it began: content that other cached or pushed content
//! takes the place of costs nothing. Ten seconds, because bytes that were just removed count as
//! free until the file system is asked again, while somebody else may have written there. Where a
//! file system confirms removed bytes later, an episode lasts until it has: else a snapshot that
//! holds them would begin a new one each time.
//!
//! Callers: the evictor, before each eviction for the disk's sake.

use std::time::{Duration, Instant};

use crate::storage::Lack;

/// After so many bytes, half of them must have become free, or the eviction is in vain.
const IN_VAIN: u64 = 10 << 30;

/// An episode is over when so long no byte was missing.
const CALM: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct DiskPressure(Option<Episode>);

struct Episode {
    /// The bytes that were missing when it began.
    lacked: u64,
    /// The most bytes that were cached since, those that are promised to downloads included.
    cached: u64,
    /// The bytes that pushes had got when it began.
    pushed: u64,
    /// Since when no byte is missing.
    calm: Option<Instant>,
    is_told: bool,
}

impl Episode {
    fn new(lacked: u64, cached: u64, pushed: u64) -> Episode {
        Episode { lacked, cached, pushed, calm: None, is_told: false }
    }

    /// Whether more may go, while `lack` bytes are missing and it has cost so many.
    fn goes_on(&self, lack: u64, cost: u64) -> bool {
        cost < self.cached / 2 && (cost < IN_VAIN || self.helps(lack, cost))
    }

    /// Whether what went set space free, while `lack` bytes are missing.
    fn helps(&self, lack: u64, cost: u64) -> bool {
        self.lacked.saturating_sub(lack) >= cost / 2
    }
}

impl DiskPressure {
    /// Whether content may go for the disk's sake, which lacks so many bytes. `cached` bytes are
    /// cached now, or promised to downloads; `pushed` is how many bytes pushes have got since the
    /// start.
    pub(super) fn allows(&mut self, Lack { of_disk: lack, unconfirmed, .. }: Lack, cached: u64, pushed: u64) -> bool {
        if lack == 0 && unconfirmed > 0 && self.0.is_some() {
            return false;
        }
        if lack == 0 {
            let is_over = |episode: &mut Episode| episode.calm.get_or_insert_with(Instant::now).elapsed() >= CALM;
            if self.0.as_mut().is_some_and(is_over) {
                self.0 = None;
            }
            return false;
        }
        let current = self.0.get_or_insert_with(|| Episode::new(lack, cached, pushed));
        (current.calm, current.cached) = (None, current.cached.max(cached));
        let cost = (current.cached - cached).saturating_sub(pushed - current.pushed);
        if current.goes_on(lack, cost) {
            return true;
        }
        if !current.is_told {
            current.is_told = true;
            tracing::warn!(
                lost = cost,
                "the disk stays full whatever is evicted: somebody else fills it, or a snapshot holds it"
            );
        }
        false
    }

    /// Whether content goes no more, though the disk is full.
    pub(super) fn is_stopped(&self) -> bool {
        self.0.as_ref().is_some_and(|episode| episode.is_told && episode.calm.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// How many bytes go, a GiB at a time, until no more may. `gains` of each ten GiB become free.
    fn cost(lack: u64, cached: u64, gains: u64) -> u64 {
        let (mut pressure, mut evicted) = (DiskPressure::default(), 0);
        while pressure.allows(of_disk(lack.saturating_sub(evicted / 10 * gains)), cached - evicted, 0) {
            evicted += GIB;
        }
        evicted
    }

    fn of_disk(lack: u64) -> Lack {
        Lack { of_max_size: 0, of_disk: lack, unconfirmed: 0 }
    }

    /// A snapshot on a file system that confirms removed bytes later: what went counts as free for
    /// a while, and then is missing again.
    #[test]
    fn k13_what_a_late_file_system_never_confirms_costs_half_too() {
        let (mut pressure, mut cached) = (DiskPressure::default(), 100 * GIB);
        for _ in 0..1000 {
            if pressure.allows(of_disk(GIB), cached, 0) {
                cached -= GIB;
                // Long enough for another file system's episode to be over.
                if let Some(episode) = &mut pressure.0 {
                    episode.calm = episode.calm.map(|since| since - CALM);
                }
                assert!(!pressure.allows(Lack { unconfirmed: GIB, ..of_disk(0) }, cached, 0));
            }
        }
        assert!(cached >= 50 * GIB && pressure.is_stopped(), "{cached}");
        assert!(!pressure.allows(of_disk(0), cached, 0) && !pressure.is_stopped(), "the snapshot is gone");
    }

    #[test]
    fn k13_what_sets_no_space_free_ends_after_half_or_ten_gibibytes() {
        assert_eq!(cost(5 * GIB, 100 * GIB, 10), 5 * GIB, "it helps");
        assert_eq!(cost(80 * GIB, 100 * GIB, 10), 50 * GIB, "half of it");
        assert_eq!(cost(80 * GIB, 100 * GIB, 4), 10 * GIB);
        assert_eq!(cost(80 * GIB, 100 * GIB, 6), 50 * GIB, "a snapshot holds some of it");
        assert_eq!(cost(80 * GIB, 8 * GIB, 0), 4 * GIB);
        assert_eq!(cost(80 * GIB, 0, 0), 0);
    }

    /// A neighbour that takes each byte that becomes free, so that for a moment none is missing.
    #[test]
    fn k13_a_moment_without_need_begins_no_new_episode() {
        let (mut pressure, mut cached) = (DiskPressure::default(), 100 * GIB);
        for _ in 0..1000 {
            if pressure.allows(of_disk(GIB), cached, 0) {
                cached -= GIB;
                assert!(!pressure.allows(of_disk(0), cached, 0));
            }
        }
        assert!(cached >= 50 * GIB && pressure.is_stopped(), "{cached}");
        assert!(!pressure.allows(of_disk(0), cached, 0) && !pressure.is_stopped());
    }

    /// A floor that can never be reached.
    #[test]
    fn k13_half_of_the_cache_is_all_that_a_need_costs_however_long_it_lasts() {
        let (mut pressure, mut cached) = (DiskPressure::default(), 100 * GIB);
        for missing in (0..1000).rev() {
            if pressure.allows(of_disk((900 + missing) * GIB), cached, 0) {
                cached -= GIB;
            }
        }
        assert!(cached == 50 * GIB && pressure.is_stopped(), "{cached}");
    }

    #[test]
    fn what_takes_the_place_of_other_content_costs_nothing() {
        let mut pressure = DiskPressure::default();
        for _ in 0..1000 {
            assert!(pressure.allows(of_disk(GIB), 100 * GIB, 0) && !pressure.allows(of_disk(0), 99 * GIB, 0));
        }
        for gone in 0..100 {
            assert!(pressure.allows(of_disk(GIB), (100 - gone) * GIB, gone * GIB), "a push may take all of it");
        }
    }
}

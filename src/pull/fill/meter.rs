//! How many bytes of a fill are here, and how fast they come.
//!
//! The rate is that of the last five to ten seconds, so that it tells of now, and not of the start.
//! The leader notes each write; `list` reads.

use std::time::Duration;

use tokio::time::Instant;

/// How long a mark stays the newer one.
const WINDOW: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Meter {
    here: u64,
    /// The rate counts from here.
    older: Mark,
    newer: Mark,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    here: u64,
}

impl Meter {
    /// `here` bytes are here, of an earlier fill or none.
    pub(super) fn new(here: u64, now: Instant) -> Meter {
        let mark = Mark { at: now, here };
        Meter { here, older: mark, newer: mark }
    }

    /// `here` bytes are here now. Fewer than before: the fill began again.
    pub(super) fn note(&mut self, here: u64, now: Instant) {
        if here < self.here {
            *self = Meter::new(here, now);
        }
        self.here = here;
        if now.duration_since(self.newer.at) >= WINDOW {
            (self.older, self.newer) = (self.newer, Mark { at: now, here });
        }
    }

    /// How many bytes are here.
    pub(super) fn here(&self) -> u64 {
        self.here
    }

    /// Bytes a second.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        let millis = now.duration_since(self.older.at).as_millis().max(1);
        let rate = u128::from(self.here - self.older.here) * 1000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(5_000, start);
        assert_eq!(meter.rate(start), 0);
        meter.note(6_000, at(1));
        assert_eq!((meter.here(), meter.rate(at(1))), (6_000, 1_000), "a leftover is not counted");
        for second in 2..=20 {
            meter.note(6_000 + second * 10, at(second));
        }
        assert_eq!(meter.rate(at(20)), 10, "the start is forgotten");
        assert_eq!(meter.rate(at(25)), 5, "nothing came for five seconds");
        meter.note(700, at(25));
        assert_eq!((meter.here(), meter.rate(at(26))), (700, 0), "it began again");
    }
}

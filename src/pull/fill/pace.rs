//! Progress of a fill, and of one answer, over time.
//!
//! [`Pace`] ends a fill that makes no progress; `drive` asks it. [`Stretch`] finds an answer slow;
//! `patience` asks it.

use std::time::Duration;

use tokio::time::Instant;

/// How long a fill goes on without progress before it gives up. The part stays for the next claim.
const NO_PROGRESS: Duration = Duration::from_secs(60);
/// How many bytes are progress within that time: an upstream that sends one byte per answer makes
/// none.
pub(super) const LEAST: u64 = 64 << 10;
/// How long a source may be silent while another one may have the content.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// How many bytes a source must bring within that time while another may have the content.
const BRISK: u64 = 320 << 10;

/// Whether one fill makes progress.
pub(super) struct Pace {
    mark: u64,
    deadline: Instant,
}

impl Pace {
    /// `here`: how many bytes there are at the start.
    pub(super) fn new(here: u64) -> Pace {
        Pace { mark: here, deadline: Instant::now() + NO_PROGRESS }
    }

    /// Whether the fill is too slow to go on, with so many bytes by now.
    pub(super) fn is_too_slow(&mut self, here: u64) -> bool {
        if here >= self.mark + LEAST {
            *self = Pace::new(here);
        }
        Instant::now() >= self.deadline
    }
}

/// A stretch of one answer, at most [`SILENCE`] long: when it began, and at which byte.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    since: Instant,
    from: u64,
}

impl Stretch {
    /// `here`: how many bytes there are now.
    pub(super) fn new(here: u64) -> Stretch {
        Stretch { since: Instant::now(), from: here }
    }

    /// How many bytes came in it, if it is over and they are too few. Begins the next stretch.
    pub(super) fn was_slow(&mut self, here: u64) -> Option<u64> {
        if self.since.elapsed() < SILENCE {
            return None;
        }
        let brought = here - self.from;
        *self = Stretch::new(here);
        (brought < BRISK).then_some(brought)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// After how many answers a fill ends, if it does, when each brings `bytes` and they are this
    /// far apart.
    async fn ends_after(bytes: u64, apart: Duration) -> Option<u64> {
        let mut pace = Pace::new(1000);
        for answers in 1..10_000 {
            advance(apart).await;
            if pace.is_too_slow(1000 + answers * bytes) {
                return Some(answers);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_ends_that_makes_no_progress() {
        let second = Duration::from_secs(1);
        for (bytes, apart, ends) in [
            (0, second, Some(60)),
            (1, second, Some(60)),
            (1, second / 10, Some(600)),
            (1000, second, Some(60)),
            (LEAST - 1, 2 * NO_PROGRESS, Some(1)),
            (LEAST, NO_PROGRESS + second, None),
            (1100, second, None),
            (1 << 20, second, None),
        ] {
            assert_eq!(ends_after(bytes, apart).await, ends, "{bytes} bytes every {apart:?}");
        }
    }
}

//! How long a fill waits: for progress, and for a source that is silent or slow.
//!
//! | a source | is passed over | where |
//! |---|---|---|
//! | is silent for 5 s | once after each byte that came | another one has not been since |
//! | brings less than 64 KiB/s for 5 s | once in a fill | another one has not been |
//!
//! So the last one is waited for as long as the fetcher does, and nobody's slow registry slows down
//! those who asked another one (S30).

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{FillFailure, Source, download::Download};
use crate::upstream::{UpstreamError, fetcher::FetchError};

/// How long a fill goes on without progress before it gives up. The part stays for the next claim.
const NO_PROGRESS: Duration = Duration::from_secs(60);
/// What counts as progress within that time, in bytes: an upstream that sends one byte per answer
/// makes none.
const LEAST: u64 = 64 << 10;
/// How long a source may be silent while another one may have the content.
const SILENCE: Duration = Duration::from_secs(5);
/// What a source brings at least within that time, in bytes, while another may have the content.
const BRISK: u64 = 320 << 10;
/// How often it is looked for one.
const GLANCE: Duration = Duration::from_millis(250);

/// The progress of one fill.
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

/// Since when a source brings bytes, and where it began. Begun anew every [`SILENCE`].
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

    /// Whether it is over, and has brought too little.
    fn was_slow(&mut self, here: u64) -> bool {
        if self.since.elapsed() < SILENCE {
            return false;
        }
        let slow = here < self.from + BRISK;
        *self = Stretch::new(here);
        slow
    }
}

impl Download<'_> {
    /// Passes `source` over where it brings little, and another source may bring more.
    pub(super) fn is_brisk(&mut self, source: &Source, stretch: &mut Stretch) -> Result<(), FillFailure> {
        let others =
            |download: &Self| download.sources().iter().any(|other| other != source && !download.slow.contains(other));
        if !stretch.was_slow(self.offset()) || !others(self) {
            return Ok(());
        }
        self.slow.push(source.clone());
        Err(passed_over(source))
    }

    /// Waits until `source` has been silent for long, and another source may be quicker.
    pub(super) async fn is_silent(&self, source: &Source) -> FillFailure {
        sleep(SILENCE).await;
        while !self.sources().iter().any(|other| other != source && !self.silent.contains(other)) {
            sleep(GLANCE).await;
        }
        passed_over(source)
    }
}

fn passed_over(source: &Source) -> FillFailure {
    let host = source.upstream.name().to_string();
    let what = "enough, and another repository may";
    FillFailure::Upstream(Arc::new(UpstreamError::Unreachable(FetchError::Timeout { host, what })))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// One answer after the other, each with so many bytes, so long apart. After how many answers
    /// the fill ends, if it does.
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

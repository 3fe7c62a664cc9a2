//! How long a fill waits: for progress, and for a source that is silent or slow.
//!
//! | a source | is passed over where |
//! |---|---|
//! | is silent for 5 s | another registry has not been since a byte came, or another repository of the same one |
//! | brings less than 64 KiB/s for 5 s | another registry was not found as slow, or another repository there |
//! | is either, and nothing speaks yet for the bytes that are here, all its own | never |
//!
//! So the last one is waited for as long as the fetcher does, and nobody's slow registry slows down
//! those who asked another one (S30). Next is the source whose registry failed least often: one with
//! a hundred repositories has one turn. A source that stands in for the one that the download was
//! begun for is taken only where readers can be told a length by it. Its failures are its own: they
//! end no download, are told to nobody else, and it is not asked again.

use std::{cmp::Reverse, sync::Arc, time::Duration};

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

    /// What came in it, where it is over and that is too little.
    fn was_slow(&mut self, here: u64) -> Option<u64> {
        if self.since.elapsed() < SILENCE {
            return None;
        }
        let brought = here - self.from;
        *self = Stretch::new(here);
        (brought < BRISK).then_some(brought)
    }
}

/// What is known of the sources, and so in what order they are asked.
#[derive(Default)]
pub(super) struct Queue {
    known: Vec<Known>,
    /// The one that was asked last.
    last: Option<Source>,
    /// It is passed over, and has not failed.
    passed_over: bool,
}

struct Known {
    source: Source,
    /// How often it failed, or was passed over, since it brought something.
    failures: u32,
    /// It was passed over for its silence, and no byte has come since from anywhere.
    silent: bool,
    /// It failed as a substitute.
    useless: bool,
    /// What it brought in the stretch for which it was passed over, in bytes.
    slow: Option<u64>,
}

impl Queue {
    /// An attempt that brought so many bytes is over. Whether the source was only passed over.
    pub(super) fn failed(&mut self, source: &Source, brought: u64) -> bool {
        let known = self.known(source);
        known.failures = if brought < LEAST { known.failures + 1 } else { 1 };
        self.last = Some(source.clone());
        std::mem::take(&mut self.passed_over)
    }

    pub(super) fn bytes_come(&mut self) {
        self.known.iter_mut().for_each(|known| known.silent = false);
    }

    /// A substitute has failed. One that is in trouble for a moment has two tries.
    pub(super) fn substitute_failed(&mut self, source: &Source, failure: &FillFailure) {
        let known = self.known(source);
        let in_trouble = matches!(failure, FillFailure::Upstream(error) if error.is_outage());
        known.useless = !in_trouble || known.failures > 1;
    }

    /// Whether substitutes of its registry have failed.
    pub(super) fn is_useless(&self, source: &Source) -> bool {
        self.of_registry(source).any(|known| known.useless)
    }

    /// The source whose registry failed least often is first, then one of another registry than
    /// last time, then the one whose registry was quickest.
    pub(super) fn sort(&self, sources: &mut [Source]) {
        sources.sort_by_cached_key(|source| {
            let failures = |known: &Known| known.failures;
            let of_registry = self.of_registry(source).map(failures).sum::<u32>();
            let of_source = self.of_source(source).map_or(0, failures);
            let again = self.last.as_ref().is_some_and(|last| is_of_registry(last, source));
            (of_registry, again, Reverse(self.pace(source).unwrap_or(u64::MAX)), of_source)
        });
    }

    /// Whether `other` may be quicker than `source`, which brought so many bytes in a stretch.
    fn may_be_quicker(&self, other: &Source, source: &Source, brought: u64) -> bool {
        if is_of_registry(other, source) {
            return other != source && self.of_source(other).is_none_or(|known| known.slow.is_none());
        }
        self.pace(other).is_none_or(|pace| pace / 2 > brought)
    }

    /// Whether `other` may bring something while `source` is silent.
    fn may_bring(&self, other: &Source, source: &Source) -> bool {
        let silent = |known: &Known| known.silent;
        if is_of_registry(other, source) {
            return other != source && !self.of_source(other).is_some_and(silent);
        }
        !self.of_registry(other).any(silent)
    }

    /// What the registry brought in a stretch in which it was slow.
    fn pace(&self, source: &Source) -> Option<u64> {
        self.of_registry(source).filter_map(|known| known.slow).min()
    }

    fn of_registry(&self, source: &Source) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(move |known| is_of_registry(&known.source, source))
    }

    fn of_source(&self, source: &Source) -> Option<&Known> {
        self.known.iter().find(|known| known.source == *source)
    }

    fn known(&mut self, source: &Source) -> &mut Known {
        let at = self.known.iter().position(|known| known.source == *source).unwrap_or_else(|| {
            self.known.push(Known { source: source.clone(), failures: 0, silent: false, useless: false, slow: None });
            self.known.len() - 1
        });
        &mut self.known[at]
    }
}

pub(super) fn is_of_registry(source: &Source, other: &Source) -> bool {
    source.upstream.name() == other.upstream.name()
}

impl Download<'_> {
    /// Passes `source` over where it brings little, and another source may bring more.
    pub(super) fn is_brisk(&mut self, source: &Source, stretch: &mut Stretch) -> Result<(), FillFailure> {
        let Some(brought) = stretch.was_slow(self.offset()) else { return Ok(()) };
        let quicker = |other: &Source| self.queue.may_be_quicker(other, source, brought);
        if self.must_stay(source) || !self.sources().iter().any(quicker) {
            return Ok(());
        }
        self.queue.known(source).slow = Some(brought);
        self.queue.passed_over = true;
        Err(passed_over(source))
    }

    /// Waits until `source` has been silent for long, and another source may be quicker.
    pub(super) async fn is_silent(&self, source: &Source) -> FillFailure {
        sleep(SILENCE).await;
        while self.must_stay(source) || !self.sources().iter().any(|other| self.queue.may_bring(other, source)) {
            sleep(GLANCE).await;
        }
        passed_over(source)
    }

    pub(super) fn was_silent(&mut self, source: &Source) {
        let known = self.queue.known(source);
        (known.silent, known.slow) = (true, Some(0));
        self.queue.passed_over = true;
    }

    /// Whether another source's bytes would be put after bytes of this one that nothing speaks for:
    /// where they do not fit, all are lost.
    fn must_stay(&self, source: &Source) -> bool {
        self.is_untold() && self.offset() > 0 && self.is_of(source)
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

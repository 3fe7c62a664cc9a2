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

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    download::Download,
    failure::FillFailure,
    origin::Origin,
    pace::{SILENCE, Stretch},
};
use crate::upstream::{UpstreamError, fetcher::FetchError};

/// How often it is looked for one.
const GLANCE: Duration = Duration::from_millis(250);

impl Download<'_> {
    /// Passes `source` over where it brings little, and another source may bring more.
    pub(super) fn is_brisk(&mut self, source: &Origin, stretch: &mut Stretch) -> Result<(), FillFailure> {
        let Some(brought) = stretch.was_slow(self.offset()) else { return Ok(()) };
        let quicker = |other: &Origin| self.queue.may_be_quicker(other, source, brought);
        if self.must_stay(source) || !self.sources().iter().any(quicker) {
            return Ok(());
        }
        self.queue.known(source).slow = Some(brought);
        self.queue.passed_over = true;
        Err(passed_over(source))
    }

    /// Waits until `source` has been silent for long, and another source may be quicker.
    pub(super) async fn is_silent(&self, source: &Origin) -> FillFailure {
        sleep(SILENCE).await;
        while self.must_stay(source) || !self.sources().iter().any(|other| self.queue.may_bring(other, source)) {
            sleep(GLANCE).await;
        }
        passed_over(source)
    }

    pub(super) fn was_silent(&mut self, source: &Origin) {
        let known = self.queue.known(source);
        (known.silent, known.slow) = (true, Some(0));
        self.queue.passed_over = true;
    }

    /// Whether another source's bytes would be put after bytes of this one that nothing speaks for:
    /// where they do not fit, all are lost.
    fn must_stay(&self, source: &Origin) -> bool {
        self.is_untold() && self.offset() > 0 && self.is_of(source)
    }
}

fn passed_over(source: &Origin) -> FillFailure {
    let host = source.upstream().to_string();
    let what = "enough, and another repository may";
    FillFailure::Upstream(Arc::new(UpstreamError::Unreachable(FetchError::Timeout { host, what })))
}
